"""When a relay rests, rings again, and makes expensive checks. It has no clock: every time is an argument.

Times are seconds of one clock that is never set back. `now` is the time of the call.
"""

from dataclasses import dataclass, field

ROUND_PAUSE_S = 0.05
POLL_EVERY_S = 0.002
"""Between two rounds a relay checks this often for new requests. It does not while every queue that has work has enough
for a whole crew: a request that is planned a little later then starts no later."""
IDLE_PAUSE_S = 0.5
"""The pause once nothing has moved for `BUSY_FOR_S`. A wake-up costs more than its query, so an idle relay wakes
rarely."""
BUSY_FOR_S = 1.0
RING_AGAIN_S = 1.0
"""A queue with claimable work is rung again after this time, because Redis may have lost the bell."""
STAMP_EVERY_S = 1.0
"""How often a busy relay stamps facts that start no work."""
UNKNOWN_EVERY_S = 1.0
"""Unknown contracts come only with a deployment, and the check for them reads all ready work."""
SLOW_CHECK_S = 0.1
CHECK_REST = 20
"""The check for work that switches stop reads all ready and held work. If it took longer than `SLOW_CHECK_S` (with a
million rows, say), the next one comes after `CHECK_REST` times as long. Workers obey switches at the claim all the
same, and planning and ringing do not wait for the check."""
LONGEST_REST_S = 60.0
"""No such rest is longer. Postgres cancels a statement long before that; but a process that was stopped in the middle
of a check (a suspended machine, SIGSTOP) seems to have checked for hours."""

COMPARE_EVERY_S = 1.0
"""How often a relay compares Postgres with the mark in Redis, to find that it was restored while processes run. What a
worker sends until then is sent from a restored database."""
COMPARE_WITHOUT_REDIS_S = 10.0
"""The same while Redis does not answer: to ask it may take a second."""

ALARM_EVERY_S = 600.0
"""How often a relay looks for work in quarantine that nobody has touched."""

MEASURE_EVERY_S = 1.0
"""How often a busy relay measures the load of the queues."""
MEASURE_IDLE_S = 30.0
"""How often one does that has moved nothing for `BUSY_FOR_S`."""

NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class CostlyChecks:
    """Which of the checks that read many rows are made in a round."""

    stopped: bool
    """Which work a pulled switch stops, which held work none stops any more, and which calls of stopped work need a
    look."""
    unknown: bool
    """Which work is of a contract that this version does not know."""


@dataclass(frozen=True, slots=True)
class Rest:
    """The pause until the next round. `poll_every_s`: how often to check for new requests meanwhile; None: never."""

    until: float
    poll_every_s: float | None


@dataclass(slots=True)
class Cadence:
    busy_until: float = NEVER
    """Until then an application may be waiting for the relay."""
    _stamped_at: float = NEVER
    _stopped_from: float = NEVER
    _unknown_from: float = NEVER
    _alarmed_at: float = NEVER
    _compare_from: float = NEVER
    _tick_from: float = NEVER
    _measured_at: float = NEVER
    _measuring_took_s: float = 0.0
    _rung_at: dict[str, float] = field(default_factory=dict)

    def moved(self, now: float) -> None:
        """Something was planned or swept."""
        self.busy_until = now + BUSY_FOR_S

    def rest(self, now: float, *, saturated: bool) -> Rest:
        """`saturated`: every queue that has work has enough for a whole crew."""
        if now >= self.busy_until:
            return Rest(now + IDLE_PAUSE_S, None)
        return Rest(now + ROUND_PAUSE_S, None if saturated else POLL_EVERY_S)

    def costly_checks(self, now: float) -> CostlyChecks:
        """The checks of a round that begins now."""
        stopped = now >= self._stopped_from
        return CostlyChecks(stopped, unknown=stopped and now >= self._unknown_from)

    def checked(self, costly: CostlyChecks, began: float, now: float) -> None:
        """The checks have ended, with an answer or because they took too long."""
        if costly.unknown:
            self._unknown_from = now + UNKNOWN_EVERY_S
        if costly.stopped and now > began + SLOW_CHECK_S:
            self._stopped_from = now + _rest_after(now - began)

    def should_stamp(self, now: float) -> bool:
        """Whether to stamp facts that start no work now. Nothing waits for them."""
        return now >= min(self.busy_until, self._stamped_at + STAMP_EVERY_S)

    def stamped(self, now: float) -> None:
        self._stamped_at = now

    def should_compare(self, now: float) -> bool:
        """Whether to look now whether Postgres was restored."""
        return now >= self._compare_from

    def compared(self, now: float, *, with_redis: bool) -> None:
        self._compare_from = now + (COMPARE_EVERY_S if with_redis else COMPARE_WITHOUT_REDIS_S)

    def should_alarm(self, now: float) -> bool:
        """Whether to look now for work in quarantine that nobody has touched."""
        return now >= self._alarmed_at + ALARM_EVERY_S

    def alarmed(self, now: float) -> None:
        self._alarmed_at = now

    def should_tick(self, now: float) -> bool:
        """Whether to look now which schedules are due."""
        return now >= self._tick_from

    def tick_in(self, seconds: float, now: float) -> None:
        """The next tick of any schedule comes in so many seconds."""
        self._tick_from = now + seconds

    def should_measure(self, now: float) -> bool:
        """Whether to measure the load of the queues now. Where much waits, that takes longer, and rests for longer."""
        every_s = MEASURE_EVERY_S if now < self.busy_until else MEASURE_IDLE_S
        return now >= self._measured_at + max(every_s, _rest_after(self._measuring_took_s))

    def measured(self, began: float, now: float) -> None:
        self._measured_at, self._measuring_took_s = now, now - began

    def should_ring(self, queue: str, claimable: int, now: float) -> bool:
        """Whether to ring this queue now. A queue without work is rung at once when work comes."""
        if not claimable:
            self._rung_at.pop(queue, None)
            return False
        return now >= self._rung_at.get(queue, NEVER) + RING_AGAIN_S

    def rung(self, queue: str, now: float) -> None:
        self._rung_at[queue] = now


def _rest_after(took_s: float) -> float:
    return min(CHECK_REST * took_s, LONGEST_REST_S)
