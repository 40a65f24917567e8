"""The relay: plans facts into work, takes back what lapsed, moves what is due, and rings the bells.

Any number of relays may run. Each statement is a short transaction of its own and takes only what no other
relay has locked; Redis may be away or empty at any time.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from pydantic import ValidationError
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from billing.database import transaction
from billing.facts import TOPICS
from billing.tables import Fact
from billing.timing import Timing
from jobs import bells
from jobs import work as pieces
from jobs.contracts import KNOWN, MENU, MENU_NUMBER, QUEUES, Contract, planned_by, work_for

log = structlog.get_logger()

BATCH = 500
BUSY_PAUSE_S = 0.01
IDLE_PAUSE_S = 0.1
SWEEP_EVERY_S = 0.1
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
    _swept_at: float = 0.0
    _busy_until: float = 0.0

    def run(self, stop_requested: Callable[[], bool], beat: Callable[[], None] = lambda: None) -> None:
        """Round after round until told to stop; a server that is away is waited for."""
        caught_up = False
        while not stop_requested():
            try:
                if not caught_up:
                    caught_up = not self._in_a_transaction(lambda session: catch_up(session, self.timing))
                moved = self.round()
            except SQLAlchemyError as error:
                log.warning("postgres.away", error=type(error).__name__)
                moved = 0
                time.sleep(IDLE_PAUSE_S)
            if moved:
                self._busy_until = time.monotonic() + 1.0
            beat()
            time.sleep(BUSY_PAUSE_S if time.monotonic() < self._busy_until else IDLE_PAUSE_S)

    def round(self) -> int:
        """One round of everything; returns how many rows it moved."""
        moved = self._in_a_transaction(lambda session: plan(session, self.timing))
        if time.monotonic() >= self._swept_at + SWEEP_EVERY_S:
            self._swept_at = time.monotonic()
            for sweep in (
                pieces.make_due_ready,
                pieces.take_back,
                pieces.hold,
                pieces.look_at_the_stopped,
                pieces.let_go,
                lambda session: pieces.park_unknown(session, KNOWN),
            ):
                moved += self._in_a_transaction(sweep)
        for queue in QUEUES:
            self._ring(queue)
        return moved

    def _in_a_transaction(self, step: Callable[[Session], int]) -> int:
        with transaction(self.engine) as session:
            return step(session)

    def _ring(self, queue: str) -> None:
        crew, most = self.crews[queue], self.workers[queue]
        with transaction(self.engine) as session:
            claimable = pieces.claimable(session, queue, KNOWN, crew * most)
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


def plan(session: Session, timing: Timing) -> int:
    """Turn unplanned facts into work and stamp them with this menu's number, in one transaction.

    A topic or version that no code here knows stays unplanned, for a newer relay. A fact whose planning
    fails is stamped with the negative number, alone. Returns how many facts were stamped.
    """
    facts = session.scalars(_UNPLANNED, {"topics": list(TOPICS)}).all()
    return _plan(session, facts, timing, MENU)


def catch_up(session: Session, timing: Timing) -> int:
    """Plan what an older menu stamped, for contracts that are new since: when a relay starts, until none is left."""
    newer = [contract for contract in MENU if contract.since > 1]
    if not newer:
        return 0
    topics = {contract.topic for contract in newer}
    older = select(Fact).where(Fact.topic.in_(topics), Fact.menu > 0, Fact.menu < MENU_NUMBER)
    facts = session.scalars(older.order_by(Fact.id).limit(BATCH).with_for_update(skip_locked=True)).all()
    for stamped in {fact.menu for fact in facts}:
        missing = [contract for contract in newer if contract.since > (stamped or 0)]
        _plan(session, [fact for fact in facts if fact.menu == stamped], timing, missing)
    return len(facts)


def _plan(session: Session, facts: Sequence[Fact], timing: Timing, menu: Sequence[Contract]) -> int:
    rows: list[dict[str, Any]] = []
    failed: list[int] = []
    for fact in facts:
        try:
            rows += [work_for(fact, contract, timing) for contract in planned_by(fact, menu)]
        except (ValidationError, ValueError, KeyError, OverflowError):
            log.error("fact.unplannable", fact_id=fact.id, topic=fact.topic, exc_info=True)
            failed.append(fact.id)
    pieces.plan(session, rows)
    planned = [fact.id for fact in facts if fact.id not in failed]
    for ids, number in ((planned, MENU_NUMBER), (failed, -MENU_NUMBER)):
        if ids:
            session.execute(_STAMP, {"ids": ids, "menu": number})
    return len(facts)


_UNPLANNED = (
    select(Fact)
    .where(Fact.menu.is_(None), Fact.version == 1, Fact.topic == func.any(bindparam("topics", type_=ARRAY(TEXT))))
    .order_by(Fact.id)
    .limit(BATCH)
    .with_for_update(skip_locked=True)
)
_STAMP = text("UPDATE billing.facts SET menu = :menu WHERE id = ANY (:ids)")
