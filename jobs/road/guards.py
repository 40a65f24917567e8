"""What may be sent now: one question, asked before every call. A refusal stops sends; looks go on.

For each piece of work: its contract, switches and attempts, and its account's window if Stripe throttles it. Before
anything is claimed: whether Stripe is silent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from billing.gateway import boot_clock
from billing.states import WorkState
from billing.tables.work import Work
from jobs.road.contracts import contract_of
from jobs.road.verdicts import SHORT_PAUSE, Verdict

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a guard refuses, and what becomes of the work if no call of it is in flight."""

    verdict: Verdict
    reason: str
    untouched: bool = False
    """True: the operation is not touched. False: it is prepared without sending, so unanswered calls are looked at."""


STOPPED = (WorkState.HELD, WorkState.QUARANTINED, WorkState.PARKED)
"""Work in these states is claimed for looks only, until an operator decides, a switch is released, or a version that
knows its contract runs."""
SUSPECT = 2
"""Attempts after which work is called with no other call in its process. When a worker dies, all work that it had in
hand counts an attempt, also work that has nothing to do with it. From here on only the work itself can be the cause."""
THROTTLED = Refusal(Verdict(WorkState.WAITING, SHORT_PAUSE), "the provider throttles this account", untouched=True)
UNAVAILABLE = Refusal(Verdict(WorkState.QUARANTINED), "its operation is unknown, or other work has it", untouched=True)


class Guards:
    """The guards of one worker process, with what they remember from call to call. `clock` is in seconds."""

    def __init__(self, crew: int, probe_s: float, clock: Callable[[], float] = boot_clock) -> None:
        self.windows = Windows(crew)
        self.silence = Silence(probe_s, clock)

    def check(
        self, work: Work, pulled: Mapping[str, str], account: str | None, in_flight: int | None = None
    ) -> Refusal | None:
        """None: it may send. Only the deadline is checked elsewhere: `billing.idempotency` turns a late send into a
        look.

        `in_flight`: how many calls its account has already; None where this one does not add to them.
        """
        contract = contract_of(work)
        if contract is None:
            return Refusal(Verdict(WorkState.PARKED), "unknown contract version")
        if work.state in STOPPED:
            return Refusal(Verdict(None), work.reason or work.state)
        for scope in work.scopes:
            if scope in pulled:
                return Refusal(Verdict(WorkState.HELD), f"{scope}: {pulled[scope]}")
        if work.attempts >= contract.max_attempts:
            reason = f"{work.attempts} workers or attempts failed on it: {work.reason or ''}"
            return Refusal(Verdict(WorkState.QUARANTINED), reason)
        if in_flight is not None and not self.windows.fits(account, in_flight):
            return THROTTLED
        return None


class Windows:
    """How many calls of an account may be in flight: fewer while the provider throttles it.

    Additive increase, multiplicative decrease, as in TCP (RFC 5681).
    """

    def __init__(self, crew: int) -> None:
        self._crew = float(crew)
        self._sizes: dict[str | None, float] = {}

    def fits(self, account: str | None, in_flight: int) -> bool:
        """Whether one more call may be prepared. Without throttling only the size of the crew limits them."""
        size = self._sizes.get(account, self._crew)
        return size >= self._crew or in_flight < int(size)

    def learn(self, account: str | None, *, throttled: bool) -> None:
        """After a throttled answer, halve the window; after any other, open it a little."""
        size = self._sizes.get(account, self._crew)
        self._sizes[account] = max(1.0, size / 2) if throttled else min(self._crew, size + 1 / size)


class Silence:
    """Whether the provider answers at all. While it is silent, the worker makes one call every `probe_s`: a call that
    times out occupies a crew thread and leaves its operation in doubt.

    Silent means: no call was answered for `probe_s`, and at least `FAILURES` calls failed meanwhile. A provider that
    answers some calls is never silent, however many others fail.
    """

    FAILURES = 3

    def __init__(self, probe_s: float, clock: Callable[[], float] = boot_clock) -> None:
        self._probe_s, self._clock = probe_s, clock
        self._answered_at = clock()
        self._failures = 0
        self._probed_at = float("-inf")
        self._logged = False

    def limit(self, free: int) -> int:
        """How many of the `free` calls may be prepared now."""
        now = self._clock()
        if not self._silent(now):
            return free
        return min(free, 1) if now >= self._probed_at + self._probe_s else 0

    def prepared(self) -> None:
        """Calls were prepared after `limit` allowed it."""
        if not self._silent(self._clock()):
            return
        self._probed_at = self._clock()
        if not self._logged:
            self._logged = True
            log.warning("provider.silent", failures=self._failures)

    def learn(self, *, reached: bool | None) -> bool:
        """Learn from one call. True if it is the first answer after a silence: work that waits for the provider may go
        on.

        `reached`: whether the provider answered; None if the call shows neither."""
        if reached is None:
            return False
        if not reached:
            self._failures += 1
            return False
        now = self._clock()
        back = bool(self._failures) and now >= self._answered_at + self._probe_s
        self._answered_at, self._failures, self._logged = now, 0, False
        return back

    def _silent(self, now: float) -> bool:
        return self._failures >= self.FAILURES and now >= self._answered_at + self._probe_s
