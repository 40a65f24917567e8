"""The relay: plans facts into work, takes back what lapsed, moves what is due, and rings the bells.

Any number of relays may run. Each statement is a short transaction of its own and takes only what no other
relay has locked; Redis may be away or empty at any time.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from billing.database import glance, transaction
from billing.facts import TOPICS
from billing.tables import Fact
from billing.timing import Timing
from jobs import bells, logs
from jobs import work as pieces
from jobs.contracts import KNOWN, MENU, MENU_NUMBER, QUEUES, Contract, planned_by, work_for
from jobs.logs import about

log = structlog.get_logger()

T = TypeVar("T")

STARTING = sorted({contract.topic for contract in MENU})
"""The topics that may start work; the others are only stamped."""
PASSED_OVER = sorted(TOPICS.keys() - set(STARTING))

BATCH = 500
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
                if not caught_up:
                    caught_up = not self._in_a_transaction(lambda session: catch_up(session, self.timing))
                if self.round():
                    self._busy_until = time.monotonic() + BUSY_FOR_S
                beat()
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
            self._in_a_transaction(stamp_the_rest)
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
        return self._in_a_transaction(lambda session: plan(session, self.timing))

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


def plan(session: Session, timing: Timing) -> int:
    """Turn unplanned facts into work and stamp them with this menu's number, in one transaction.

    A topic or version that no code here knows stays unplanned, for a newer relay. A fact whose planning
    fails is stamped with the negative number, alone. Returns how many facts were stamped.
    """
    return _plan(session, session.scalars(_UNPLANNED, {"topics": STARTING}).all(), timing, MENU)


def stamp_the_rest(session: Session) -> int:
    """Stamp facts that start nothing, which is most of them, without reading them. Returns how many."""
    rest = session.connection().exec_driver_sql(_STAMP_THE_REST, {"topics": PASSED_OVER, "menu": MENU_NUMBER})
    return rest.rowcount


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
            log.error("fact.unplannable", fact_id=fact.id, topic=fact.topic, **about(fact), exc_info=True)
            failed.append(fact.id)
    pieces.plan(session, rows)
    logs.once_committed(session, lambda: _tell(rows))
    planned = [fact.id for fact in facts if fact.id not in failed]
    for ids, number in ((planned, MENU_NUMBER), (failed, -MENU_NUMBER)):
        if ids:
            session.execute(_STAMP, {"ids": ids, "menu": number})
    return len(facts)


def _tell(planned: Sequence[Mapping[str, Any]]) -> None:
    for row in planned:
        log.info(
            "operation.planned",
            operation_id=row["entity_id"],
            correlation_id=row["correlation_id"],
            contract=row["contract"],
            queue=row["queue"],
        )


_UNPLANNED = (
    select(Fact)
    .where(Fact.menu.is_(None), Fact.version == 1, Fact.topic == func.any(bindparam("topics", type_=ARRAY(TEXT))))
    .order_by(Fact.id)
    .limit(BATCH)
    .with_for_update(skip_locked=True)
)
_STAMP_THE_REST = """
    UPDATE billing.facts SET menu = %(menu)s
     WHERE id IN (SELECT id FROM billing.facts WHERE menu IS NULL AND version = 1 AND topic = ANY (%(topics)s)
                   ORDER BY id LIMIT 10000 FOR UPDATE SKIP LOCKED)
    """
_STAMP = text("UPDATE billing.facts SET menu = :menu WHERE id = ANY (:ids)")
