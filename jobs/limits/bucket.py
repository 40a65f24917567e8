"""How fast one account may be called, and whether it may be called at all: one rule, in one bucket for each account.

A token is the right to one request. The bucket fills at a *rate* and holds a quarter of a second of it. The rate is at
most what the settings say. A 429 cuts it at once; it then recovers by itself, in a straight line, as TCP does (additive
increase, multiplicative decrease: RFC 5681). How many calls are in flight follows from it: rate times their length.

The bucket also knows whether the account answers. It is *silent* if no call was answered for `probe_s` and at least
`FAILURES` calls failed meanwhile. Then the bucket gives one token every `probe_s`; the first answer ends that. An
account that answers some calls is never silent, however many others fail.

All workers share the buckets in Redis, where `bucket.lua` is this rule. `Bucket` is the same rule in Python: a worker's
own, while Redis is away. A test compares the two over random histories.
"""

from dataclasses import dataclass
from enum import StrEnum

BURST_S = 0.25
"""The bucket holds what the rate gives in this time, and at least `LEAST_BURST`. Stripe counts by the second; the
rest of that second is for calls that were made on credit."""
LEAST_BURST = 2.0
LOT_S = 0.1
"""A worker gets the tokens of so much time at once, and at least one: so a busy worker asks ten times a second at any
rate, and one that stops has not taken much from the others."""
RECOVERY_S = 60.0
"""From nothing to the full rate. At 100/s the rate grows by 1.7/s every second, so a limit that Stripe does not publish
is touched about every ten seconds."""
LEAST_RATE = 1.0
"""However often Stripe refuses: one call a second."""
CUT_EVERY_S = 0.5
"""The answers to calls that were in flight when the rate was cut cut it no further."""
FAILURES = 3
"""Fewer failed calls may be about their own operations."""

CUTS = {"lock_timeout": 0.9}
"""What remains of the rate after a 429 with this code. A lock timeout is about one object, which another request had
locked, so one alone slows its account a little; many of them show that too many calls are made at once.
Source: docs.stripe.com/rate-limits."""
CUT = 0.7
"""After any other 429."""


class Change(StrEnum):
    """What an exchange changed for an account. Of all workers one learns it, and logs it."""

    THROTTLED = "throttled"
    """Its rate was cut."""
    RECOVERED = "recovered"
    """It has its full rate again."""
    SILENT = "silent"
    FOUND = "found"
    """It answered, for the first time in `probe_s`, and calls had failed: silent or not."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every account, by the settings."""

    most: float
    """Requests per second."""
    probe_s: float


@dataclass(frozen=True, slots=True)
class Ask:
    """What a worker has to tell about its calls of an account since it last asked, and how many tokens it wants."""

    want: int
    owed: int = 0
    """Requests that were made without a token."""
    cut: float = 1.0
    """What remains of the rate, after the worst 429; 1: there was none."""
    answered_ago_s: float | None = None
    """How long ago the last call was answered; None: none was."""
    failed: int = 0
    """Calls that failed since then."""
    leaves: float = 0.0
    """The share of the bucket that this worker leaves to others who are more urgent."""


@dataclass(frozen=True, slots=True)
class Grant:
    tokens: int
    wait_s: float
    """When it is worth asking again."""
    rate: float
    silent: bool
    changes: tuple[Change, ...] = ()


@dataclass(slots=True)
class Bucket:
    """The bucket of one account. All times are in seconds, by whatever clock `exchange` is given; 0 is never."""

    rate: float
    tokens: float
    at: float
    answered_at: float
    cut_at: float = 0.0
    throttled_since: float = 0.0
    failures: int = 0
    silent_since: float = 0.0
    next_at: float = 0.0

    @classmethod
    def full(cls, terms: Terms, now: float) -> "Bucket":
        return cls(rate=terms.most, tokens=max(LEAST_BURST, terms.most * BURST_S), at=now, answered_at=now)

    def refill(self, terms: Terms, now: float) -> float:
        """Let the rate and the tokens grow until now. Returns how many tokens the bucket can hold."""
        passed = max(0.0, now - self.at)
        self.at = now
        self.rate = min(terms.most, self.rate + terms.most / RECOVERY_S * passed)
        burst = max(LEAST_BURST, self.rate * BURST_S)
        self.tokens = min(burst, self.tokens + self.rate * passed)
        return burst

    def exchange(self, ask: Ask, terms: Terms, now: float) -> Grant:
        """Take in what the worker tells, and give it tokens."""
        changes: list[Change] = []
        burst = self.refill(terms, now)
        # No moment lies in the future, even if the clock was set back.
        self.cut_at, self.answered_at = min(self.cut_at, now), min(self.answered_at, now)
        self.silent_since, self.next_at = min(self.silent_since, now), min(self.next_at, now + terms.probe_s)

        if self.throttled_since > 0 and self.rate >= terms.most:
            self.throttled_since = 0.0
            changes.append(Change.RECOVERED)
        # Whoever owes more than a second's calls has paid when that is paid.
        self.tokens = max(-terms.most, self.tokens - ask.owed)
        if ask.cut < 1 and now >= self.cut_at + CUT_EVERY_S:
            self.rate, self.cut_at, self.tokens = max(LEAST_RATE, self.rate * ask.cut), now, min(self.tokens, 0.0)
            if self.throttled_since == 0:
                self.throttled_since = now
                changes.append(Change.THROTTLED)

        if ask.answered_ago_s is not None:
            answered_at = now - ask.answered_ago_s
            # An answer that came before the silence began does not end it.
            if answered_at >= self.silent_since:
                if self.failures > 0 and answered_at >= self.answered_at + terms.probe_s:
                    changes.append(Change.FOUND)
                self.silent_since, self.failures = 0.0, 0
            self.answered_at = max(self.answered_at, answered_at)
        self.failures += ask.failed
        if self.silent_since == 0 and self.failures >= FAILURES and now >= self.answered_at + terms.probe_s:
            self.silent_since = self.next_at = now
            changes.append(Change.SILENT)

        if self.silent_since > 0:
            tokens = 1 if ask.want >= 1 and now >= self.next_at else 0
            if tokens:
                self.next_at = now + terms.probe_s
            self.tokens -= tokens
            return Grant(tokens, max(0.0, self.next_at - now), self.rate, True, tuple(changes))
        free = self.tokens - ask.leaves * burst
        tokens = int(min(ask.want, max(1.0, self.rate * LOT_S), free)) if free >= 1 else 0
        self.tokens -= tokens
        return Grant(tokens, max(0.0, (1 - (free - tokens)) / self.rate), self.rate, False, tuple(changes))
