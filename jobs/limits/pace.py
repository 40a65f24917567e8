"""What one worker process may send now: the tokens that it holds for each account, and what it has to tell.

The captain asks before it claims, with one round trip for all accounts, and never inside a transaction. It claims no
more than it has tokens for, so the most urgent work is sent first. Some requests are made on credit, which the next
exchange pays: the next step of an operation that is under way, a look's second request, and the first call of an
account that is new here.

While Redis is away, each worker keeps to its own share of the rate. It notices a silent account by itself then.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from redis.exceptions import RedisError

from billing.gateway import boot_clock
from jobs.limits.bucket import CUT, CUTS, LOT_S, Ask, Bucket, Change, Grant, Terms
from jobs.limits.shared import OWN, SharedBuckets

ASK_EVERY_S = 0.05
"""While tokens are short: several at once are claimed in one transaction, so they are worth a short wait."""
HELD_S = 1.0
"""A token that is not used within this time is lost: many workers must not save tokens and use them all at once."""
HUNGRY_S = 1.0
"""A queue that leaves a part of the bucket to more urgent ones leaves nothing after so long without a token."""
ALONE_S = 2.0
"""After Redis did not answer, a worker does not ask it for so long."""
MOST_ACCOUNTS = 50
"""A worker remembers as many accounts. One that was forgotten gets one call on credit, like a new one."""
MOST_WANTED = 256
"""A worker makes at most so many calls at once (`jobs.config.settings`)."""

log = structlog.get_logger()


@dataclass(slots=True)
class Account:
    """What this process knows of one account. Times are by the boot clock."""

    tokens: int = 0
    """Below zero: so many requests were made on credit."""
    lost_at: float = 0.0
    ask_at: float = 0.0
    fed_at: float = 0.0
    rate: float = 0.0
    silent: bool = False
    cut: float = 1.0
    answered_at: float | None = None
    failed: int = 0
    troubled: bool = False
    """A call failed, here or elsewhere, and no answer since then was told."""
    alone: Bucket | None = None

    @property
    def lot(self) -> float:
        """How many tokens it gets at once, if there are enough."""
        return max(2.0, self.rate * LOT_S)

    @property
    def has_news(self) -> bool:
        """Something that the other workers must know at once."""
        return self.cut < 1 or self.failed > 0 or (self.troubled and self.answered_at is not None)


class Pace:
    """The tokens of one worker process.

    `share`: the part of the rate that it keeps to while Redis is away. `leaves`: see `bucket.Ask`. Without `shared` it
    is always alone.
    """

    def __init__(
        self,
        terms: Terms,
        *,
        shared: SharedBuckets | None = None,
        share: float = 1.0,
        leaves: float = 0.0,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self._terms, self._shared, self._leaves, self._clock = terms, shared, leaves, clock
        self._own_terms = Terms(terms.most * share, terms.probe_s)
        self._share = share
        self._alone_until = -math.inf
        self._alone = False
        self._found = False
        # By their ids, the last one called at the end. The account of our own key is always known.
        self._accounts: dict[str | None, Account] = {None: Account()}

    def opens_in_s(self) -> float:
        """0 if there are tokens, or it is worth asking for some; else how long it is not."""
        now = self._clock()
        return max(
            0.0, min(0.0 if self._held(each, now) > 0 else each.ask_at - now for each in self._accounts.values())
        )

    def room(self, free: int) -> int:
        """How many of the `free` calls may be prepared now. Asks for tokens if it is time to."""
        now = self._clock()
        wants = {
            account: MOST_WANTED
            for account, each in self._accounts.items()
            if now >= each.ask_at and self._held(each, now) < min(free, each.lot / 2)
        }
        if wants:
            self._exchange(wants, now)
        return min(free, sum(max(0, self._held(each, now)) for each in self._accounts.values()))

    def allows(self, account: str | None) -> bool:
        """Whether one more call of this account may be prepared."""
        known = self._accounts.get(account)
        return known is None or self._held(known, self._clock()) > 0

    def spend(self, account: str | None) -> None:
        """A call was prepared, with a token or on credit."""
        known = self._accounts.pop(account, None) or Account()
        known.tokens = self._held(known, self._clock()) - 1
        self._accounts[account] = known
        while len(self._accounts) > MOST_ACCOUNTS:
            del self._accounts[next(each for each in self._accounts if each is not None)]

    def learn(
        self, account: str | None, *, reached: bool | None, throttled: str | None = None, requests: int = 1
    ) -> None:
        """Note what a call shows; `tell` says it to the other workers. The arguments are those of `calls.Report`."""
        known = self._accounts.setdefault(account, Account())
        known.tokens -= requests - 1
        if reached:
            known.answered_at, known.failed = self._clock(), 0
        elif reached is False:
            known.failed, known.troubled = known.failed + 1, True
        if throttled is not None:
            known.cut = min(known.cut, CUTS.get(throttled, CUT))

    def tell(self) -> bool:
        """Tell the other workers what must not wait.

        True, once, if an account answers again after failures, here or elsewhere: work that waits for it may go on."""
        news: dict[str | None, int] = {account: 0 for account, each in self._accounts.items() if each.has_news}
        if news:
            self._exchange(news, self._clock())
        found, self._found = self._found, False
        return found

    def _held(self, account: Account, now: float) -> int:
        if account.tokens > 0 and now >= account.lost_at:
            account.tokens = 0
        return account.tokens

    def _exchange(self, wants: Mapping[str | None, int], now: float) -> None:
        asks = {account: self._ask(self._accounts[account], want, now) for account, want in wants.items()}
        grants = self._together(asks, now)
        if grants is None:
            grants = {account: self._by_itself(self._accounts[account], ask, now) for account, ask in asks.items()}
        for account, grant in grants.items():
            self._take(account, asks[account], grant, now)

    def _ask(self, account: Account, want: int, now: float) -> Ask:
        return Ask(
            want=want,
            owed=max(0, -account.tokens),
            cut=account.cut,
            answered_ago_s=None if account.answered_at is None else max(0.0, now - account.answered_at),
            failed=account.failed,
            leaves=self._leaves if now < account.fed_at + HUNGRY_S else 0.0,
        )

    def _together(self, asks: Mapping[str | None, Ask], now: float) -> Mapping[str | None, Grant] | None:
        if self._shared is None or now < self._alone_until:
            return None
        try:
            grants = self._shared.exchange(asks, self._terms)
        except RedisError as error:
            self._alone_until = now + ALONE_S
            if not self._alone:
                log.warning("limits.alone", error=type(error).__name__, rate=self._own_terms.most)
            self._alone = True
            return None
        if self._alone:
            log.info("limits.shared", rate=self._terms.most)
            for each in self._accounts.values():
                each.alone = None
        self._alone = False
        return grants

    def _by_itself(self, account: Account, ask: Ask, now: float) -> Grant:
        if account.alone is None:
            account.alone = Bucket.full(self._own_terms, now)
            if self._alone:
                # What was learned together goes on. Its share of the tokens may be in use elsewhere.
                account.alone.rate = min(self._own_terms.most, account.rate * self._share or self._own_terms.most)
                account.alone.tokens, account.alone.silent_since = 1.0, now if account.silent else 0.0
        return account.alone.exchange(ask, self._own_terms, now)

    def _take(self, account: str | None, ask: Ask, grant: Grant, now: float) -> None:
        known = self._accounts[account]
        known.tokens = max(0, known.tokens) + grant.tokens
        known.rate, known.cut, known.answered_at, known.failed = grant.rate, 1.0, None, 0
        plenty = grant.tokens >= min(ask.want, int(known.lot))
        known.ask_at = now + (0.0 if plenty else grant.wait_s if grant.silent else max(ASK_EVERY_S, grant.wait_s))
        if grant.tokens:
            known.lost_at, known.fed_at = now + HELD_S, now
        if grant.silent and not known.silent:
            known.tokens = grant.tokens
        self._found = self._found or Change.FOUND in grant.changes or (known.silent and not grant.silent)
        known.troubled = grant.silent or ask.failed > 0 or (known.troubled and ask.answered_ago_s is None)
        known.silent = grant.silent
        for change in grant.changes:
            _log(change, account or OWN, grant)


class Unlimited(Pace):
    """As fast as it can, by itself: one shift without Redis, and tests. It leaves a silent account in peace, too."""

    def __init__(self, probe_s: float, clock: Callable[[], float] = boot_clock) -> None:
        super().__init__(Terms(1e6, probe_s), clock=clock)

    def allows(self, account: str | None) -> bool:
        return True


class Unpaced(Unlimited):
    """Of a queue whose calls are not Stripe's. That a mail server is away, or says "not now", slows no account down:
    each e-mail waits by itself."""

    def learn(
        self, account: str | None, *, reached: bool | None, throttled: str | None = None, requests: int = 1
    ) -> None:
        pass


def _log(change: Change, account: str, grant: Grant) -> None:
    """Where the buckets are shared, one of all workers logs it."""
    match change:
        case Change.THROTTLED:
            log.warning("provider.throttled", account=account, rate=round(grant.rate, 1))
        case Change.RECOVERED:
            log.info("provider.recovered", account=account, rate=round(grant.rate, 1))
        case Change.SILENT:
            log.warning("provider.silent", account=account)
        case Change.FOUND:
            pass  # the shift logs it, with what it made due
