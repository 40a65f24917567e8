"""How many calls may be in flight: fewer for an account that is throttled, one while the provider is silent."""

from collections.abc import Callable

import structlog

from billing.gateway import boot_clock

log = structlog.get_logger()


class Pace:
    """Additive increase, multiplicative decrease, per account; as TCP does it (RFC 5681)."""

    def __init__(self, crew: int) -> None:
        self._crew = float(crew)
        self._window: dict[str | None, float] = {}

    def has_room(self, account: str | None, in_flight: int) -> bool:
        """Whether one more call may be prepared beside the `in_air` ones. Without throttling the crew is the bound."""
        window = self._window.get(account, self._crew)
        return window >= self._crew or in_flight < int(window)

    def learn(self, account: str | None, *, throttled: bool) -> None:
        """One answer: half the window after a throttled one, a little more after any other."""
        window = self._window.get(account, self._crew)
        self._window[account] = max(1.0, window / 2) if throttled else min(self._crew, window + 1 / window)


class Reach:
    """Whether the provider answers at all. While it is silent, one call is made now and then instead of all of them:
    calls that time out hold the crew, and put one operation after another in doubt.

    Silent means: nobody was answered for `probe_s`, and at least `FAILURES` calls failed meanwhile. A provider that
    answers some calls is never taken for silent, however many it fails.
    """

    FAILURES = 3

    def __init__(self, probe_s: float, clock: Callable[[], float] = boot_clock) -> None:
        self._probe_s, self._clock = probe_s, clock
        self._answered_at = clock()
        self._failures = 0
        self._probed_at = float("-inf")
        self._told = False

    def room(self, free: int) -> int:
        """How many of the `free` calls may be prepared now."""
        now = self._clock()
        if not self._silent(now):
            return free
        return min(free, 1) if now >= self._probed_at + self._probe_s else 0

    def prepared(self) -> None:
        """Some of them were."""
        if not self._silent(self._clock()):
            return
        self._probed_at = self._clock()
        if not self._told:
            self._told = True
            log.warning("provider.silent", failures=self._failures)

    def learn(self, *, reached: bool | None) -> bool:
        """What one call shows. True when it is the first answer after a silence: what waits for it may go on."""
        if reached is None:
            return False
        if not reached:
            self._failures += 1
            return False
        now = self._clock()
        back = bool(self._failures) and now >= self._answered_at + self._probe_s
        self._answered_at, self._failures, self._told = now, 0, False
        return back

    def _silent(self, now: float) -> bool:
        return self._failures >= self.FAILURES and now >= self._answered_at + self._probe_s
