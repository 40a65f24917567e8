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

from billing import database
from billing.database import glance, transaction
from billing.timing import Timing
from jobs.road import planning, work_queue
from jobs.road.contracts import KNOWN, QUEUES
from jobs.road.planning import PASSED_OVER, STARTING
from jobs.road.verdicts import Trouble, trouble
from jobs.rq import bells

log = structlog.get_logger()

T = TypeVar("T")

ROUND_PAUSE_S = 0.05
LOOK_AGAIN_S = 0.002
"""Between two rounds the relay looks for new requests this often; not while a queue has a crew's worth of work ahead:
what is planned later starts no later. What another queue waits for comes with the next round."""
IDLE_PAUSE_S = 0.5
"""With nothing planned for a second: a wake-up costs more than what it asks, so an idle relay wakes rarely."""
UNKNOWN_EVERY_S = 1.0
"""Contracts that no code here knows come with a deployment, and looking for them reads all that is ready."""
STAMP_EVERY_S = 1.0
"""While it is busy with what somebody waits for."""
BUSY_FOR_S = 1.0
SLOW_GLANCE_S = 0.1
GLANCE_REST = 20
"""Looking for what switches stop reads all that is ready or held. Where that was slow (a million rows wait, say) it is
done again only after so many times as long: switches are obeyed at the claim, and planning and ringing do not wait."""
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
    _stopped_at: float = float("-inf")
    _sizes: dict[str, int] = field(default_factory=dict)
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
                log.warning("postgres.away", error=type(error).__name__, sqlstate=database.sqlstate(error))
                beat()
                time.sleep(IDLE_PAUSE_S)

    def round(self) -> int:
        """One round of everything; returns how many rows it moved."""
        unplanned, unstamped, sweeps, claimable = self._look_around()
        moved = sum(self._swept(sweep, work_queue.SWEEP_MOST) for sweep in sweeps)
        if unplanned:
            moved += self._plan()
        if unstamped and time.monotonic() >= min(self._busy_until, self._stamped_at + STAMP_EVERY_S):
            self._stamped_at = time.monotonic()
            self._swept(planning.stamp_the_rest, planning.STAMP_MOST)
        if moved:
            claimable = self._in_a_glance(lambda session: work_queue.claimable(session, KNOWN, self._most))
        for queue in QUEUES:
            self._ring(queue, claimable[queue])
        self._fed = any(claimable.values()) and all(not n or n >= self.crews[queue] for queue, n in claimable.items())
        return moved

    def _look_around(self) -> tuple[bool, bool, list[work_queue.Sweep], dict[str, int]]:
        try:
            return self._in_a_glance(self._everything)
        except SQLAlchemyError as error:
            if trouble(error) is not Trouble.HALVE or time.monotonic() >= self._stopped_at:
                raise
            # So much waits that looking for what switches stop took too long; the rest of the round does not need it.
            log.warning("switches.postponed", error=type(error).__name__, sqlstate=database.sqlstate(error))
            return self._in_a_glance(self._everything)

    def _rest(self) -> None:
        """Until the next round. While somebody may wait, a new request is planned at once, and the rest ends."""
        if time.monotonic() >= self._busy_until:
            time.sleep(IDLE_PAUSE_S)
            return
        until = time.monotonic() + ROUND_PAUSE_S
        while time.monotonic() < until:
            if not self._fed and self._in_a_glance(lambda session: work_queue.unplanned(session, STARTING)):
                self._busy_until = time.monotonic() + BUSY_FOR_S
                self._plan()
                return
            time.sleep(LOOK_AGAIN_S)

    def _plan(self) -> int:
        return planning.plan_next(self.engine, self.timing)

    @property
    def _most(self) -> dict[str, int]:
        return {queue: self.crews[queue] * self.workers[queue] for queue in QUEUES}

    def _everything(self, session: Session) -> tuple[bool, bool, list[work_queue.Sweep], dict[str, int]]:
        began = time.monotonic()
        stopped_too = began >= self._stopped_at
        unknown_too = stopped_too and began >= self._unknown_at
        try:
            return work_queue.glance(
                session,
                KNOWN,
                self._most,
                STARTING,
                PASSED_OVER,
                stopped_too=stopped_too,
                unknown_too=unknown_too,
            )
        finally:
            # Also where it took too long altogether.
            now = time.monotonic()
            if unknown_too:
                self._unknown_at = now + UNKNOWN_EVERY_S
            if stopped_too and now > began + SLOW_GLANCE_S:
                self._stopped_at = now + GLANCE_REST * (now - began)

    def _in_a_glance(self, ask: Callable[[Session], T]) -> T:
        with glance(self.engine) as session:
            return ask(session)

    def _swept(self, sweep: work_queue.Sweep, most: int) -> int:
        """One sweep in a transaction of its own: of half as many rows after one that failed, of more after one that
        went well. One that fails keeps no other waiting. Returns how many rows it moved.
        """
        name = sweep.__name__
        size = self._sizes.get(name, most)
        try:
            with transaction(self.engine) as session:
                moved = sweep(session, size)
        except SQLAlchemyError as error:
            if trouble(error) not in (Trouble.HALVE, Trouble.DATA):
                raise
            self._sizes[name] = max(1, size // 2)
            kind = type(error).__name__
            if size > 1:
                log.warning("sweep.halved", sweep=name, rows=size, error=kind, sqlstate=database.sqlstate(error))
            else:
                log.error("sweep.stuck", sweep=name, error=kind, sqlstate=database.sqlstate(error), exc_info=True)
            return 0
        self._sizes[name] = min(most, size * 2)
        return moved

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
