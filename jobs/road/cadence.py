"""When a relay rests, rings again, and makes expensive checks. It has no clock: every time is an argument.

Times are seconds of one clock that is never set back. Every method says with `now` when it is called.
"""

from dataclasses import dataclass, field

ROUND_PAUSE_S = 0.05
LOOK_AGAIN_S = 0.002
"""Between two rounds a relay looks for new requests this often; not while a queue has a crew's worth of work ahead:
what is planned later starts no later. What another queue waits for comes with the next round."""
IDLE_PAUSE_S = 0.5
"""With nothing moved for `BUSY_FOR_S`: a wake-up costs more than what it asks, so an idle relay wakes rarely."""
BUSY_FOR_S = 1.0
RING_AGAIN_S = 1.0
"""While work stays claimable, a queue is rung at most this often: a bell may have been lost with Redis."""
STAMP_EVERY_S = 1.0
"""While the relay is busy with what somebody waits for."""
UNKNOWN_EVERY_S = 1.0
"""Contracts that no code here knows come with a deployment, and looking for them reads all that is ready."""
SLOW_LOOK_S = 0.1
LOOK_REST = 20
"""Looking for what switches stop reads all that is ready or held. Where that was slow (a million rows wait, say) it is
done again only after so many times as long: switches are obeyed at the claim, and planning and ringing do not wait."""

NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class CostlyLooks:
    """Which of the questions that read many rows are asked in a round."""

    stopped: bool
    """What is a switch to hold, or to hold no longer; and what is stopped and has to be looked at."""
    unknown: bool
    """What work is of a contract that nobody here knows."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Until the next round. `look_every_s`: how often to look for new requests meanwhile; None: not at all."""

    until: float
    look_every_s: float | None


@dataclass(slots=True)
class Cadence:
    busy_until: float = NEVER
    """Until then somebody may be waiting for the relay."""
    _stamped_at: float = NEVER
    _stopped_from: float = NEVER
    _unknown_from: float = NEVER
    _rung_at: dict[str, float] = field(default_factory=dict)

    def moved(self, now: float) -> None:
        """Something was planned or swept."""
        self.busy_until = now + BUSY_FOR_S

    def rest(self, now: float, *, saturated: bool) -> Rest:
        """`saturated`: all crews that have work have as much as they can take."""
        if now >= self.busy_until:
            return Rest(now + IDLE_PAUSE_S, None)
        return Rest(now + ROUND_PAUSE_S, None if saturated else LOOK_AGAIN_S)

    def costly_looks(self, now: float) -> CostlyLooks:
        """What to ask in a round that begins now."""
        stopped = now >= self._stopped_from
        return CostlyLooks(stopped, unknown=stopped and now >= self._unknown_from)

    def asked(self, costly: CostlyLooks, began: float, now: float) -> None:
        """The question was answered, or ended because it took too long."""
        if costly.unknown:
            self._unknown_from = now + UNKNOWN_EVERY_S
        if costly.stopped and now > began + SLOW_LOOK_S:
            self._stopped_from = now + LOOK_REST * (now - began)

    def should_stamp(self, now: float) -> bool:
        """Whether facts that start nothing are stamped now: nobody waits for them."""
        return now >= min(self.busy_until, self._stamped_at + STAMP_EVERY_S)

    def stamped(self, now: float) -> None:
        self._stamped_at = now

    def should_ring(self, queue: str, claimable: int, now: float) -> bool:
        """Whether this queue is rung now. An empty queue forgets when that was last."""
        if not claimable:
            self._rung_at.pop(queue, None)
            return False
        return now >= self._rung_at.get(queue, NEVER) + RING_AGAIN_S

    def rung(self, queue: str, now: float) -> None:
        self._rung_at[queue] = now
