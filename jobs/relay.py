"""The relay: has facts planned, takes back what lapsed, moves what is due, and rings the bells.

Any number of relays may run. Each statement is a short transaction of its own and takes only what no other
relay has locked; Redis may be away or empty at any time.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from billing.database import glance, transaction
from billing.timing import Timing
from jobs import bells, planning
from jobs import work as pieces
from jobs.contracts import KNOWN, QUEUES
from jobs.planning import PASSED_OVER, STARTING

log = structlog.get_logger()

T = TypeVar("T")

ROUND_PAUSE_S = 0.05
LOOK_AGAIN_S = 0.002
"""Between two rounds the relay looks for new wishes this often; not while a queue has a crew's worth of work ahead:
what is planned later starts no later. What another queue waits for comes with the next round."""
IDLE_PAUSE_S = 0.5
"""With nothing planned for a second: a wake-up costs more than what it asks, so an idle relay wakes rarely."""
UNKNOWN_EVERY_S = 1.0
"""Contracts that no code here knows come with a deployment, and looking for them reads all that is ready."""
STAMP_EVERY_S = 1.0
"""While it is busy with what somebody waits for."""
BUSY_FOR_S = 1.0
RING_AGAIN_S = 1.0
"""While work stays claimable, a queue is rung at most this often: a bell may have been lost with Redis."""


@dataclass(slots=True)
class Relay:
    """`workers`: how many processes are expected per queue; `crews`: how many calls each makes at once."""

    engine: Engine
    redis: Redis
    environment: str
    timing: Timing
    workers: Mapping[str, int]
    crews: Mapping[str, int]
    _rung_at: dict[str, float] = field(default_factory=dict)
    _stamped_at: float = 0.0
    _unknown_at: float = float("-inf")
    _busy_until: float = 0.0
    _fed: bool = False

    def run(self, stop_requested: Callable[[], bool], beat: Callable[[], None] = lambda: None) -> None:
        """Round after round until told to stop; a server that is away is waited for."""
        caught_up = False
        while not stop_requested():
            try:
                if self.round():
                    self._busy_until = time.monotonic() + BUSY_FOR_S
                beat()
                if not caught_up:
                    caught_up = not planning.catch_up(self.engine, self.timing)
                self._rest()
            except SQLAlchemyError as error:
                log.warning("postgres.away", error=type(error).__name__)
                beat()
                time.sleep(IDLE_PAUSE_S)

    def round(self) -> int:
        """One round of everything; returns how many rows it moved."""
        unplanned, unstamped, steps, claimable = self._in_a_glance(self._everything)
        moved = sum(map(self._in_a_transaction, steps))
        if unplanned:
            moved += self._plan()
        if unstamped and time.monotonic() >= min(self._busy_until, self._stamped_at + STAMP_EVERY_S):
            self._stamped_at = time.monotonic()
            self._in_a_transaction(planning.stamp_the_rest)
        if moved:
            claimable = self._in_a_glance(lambda session: pieces.claimable(session, KNOWN, self._most))
        for queue in QUEUES:
            self._ring(queue, claimable[queue])
        self._fed = any(claimable.values()) and all(not n or n >= self.crews[queue] for queue, n in claimable.items())
        return moved

    def _rest(self) -> None:
        """Until the next round. While somebody may wait, a new wish is planned at once, and the rest ends."""
        if time.monotonic() >= self._busy_until:
            time.sleep(IDLE_PAUSE_S)
            return
        until = time.monotonic() + ROUND_PAUSE_S
        while time.monotonic() < until:
            if not self._fed and self._in_a_glance(lambda session: pieces.unplanned(session, STARTING)):
                self._busy_until = time.monotonic() + BUSY_FOR_S
                self._plan()
                return
            time.sleep(LOOK_AGAIN_S)

    def _plan(self) -> int:
        return planning.plan_next(self.engine, self.timing)

    @property
    def _most(self) -> dict[str, int]:
        return {queue: self.crews[queue] * self.workers[queue] for queue in QUEUES}

    def _everything(self, session: Session) -> tuple[bool, bool, list[Callable[[Session], int]], dict[str, int]]:
        unknown_too = time.monotonic() >= self._unknown_at + UNKNOWN_EVERY_S
        if unknown_too:
            self._unknown_at = time.monotonic()
        return pieces.glance(session, KNOWN, self._most, STARTING, PASSED_OVER, unknown_too=unknown_too)

    def _in_a_glance(self, ask: Callable[[Session], T]) -> T:
        with glance(self.engine) as session:
            return ask(session)

    def _in_a_transaction(self, step: Callable[[Session], int]) -> int:
        with transaction(self.engine) as session:
            return step(session)

    def _ring(self, queue: str, claimable: int) -> None:
        crew, most = self.crews[queue], self.workers[queue]
        if not claimable:
            self._rung_at.pop(queue, None)
            return
        if time.monotonic() < self._rung_at.get(queue, float("-inf")) + RING_AGAIN_S:
            return
        wanted = max(1, min(-(-claimable // crew), most))
        try:
            missing = wanted - bells.bells_waiting(self.redis, self.environment, queue)
            bells.ring(self.redis, self.environment, queue, missing)
        except RedisError as error:
            # Not remembered as rung: the next round tries again.
            log.warning("redis.away", error=type(error).__name__, queue=queue)
            return
        self._rung_at[queue] = time.monotonic()
