"""Facts become work, a batch in one transaction; if one fact raises an error, that fact alone is set aside.

An application writes facts with its own login, so a fact may hold anything that fits its columns. A fact that is set
aside has the version of our contracts as a negative number. No relay tries it again, `billing doctor` names it, and
the log gives the reason.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Engine, Row, Select, and_, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Session

from billing import statements
from billing.database import transaction
from billing.facts import OLD_TOPICS, PAYLOAD_TEXT, UnreadablePayload, read_payload
from billing.operations import topics
from billing.tables.facts import Fact
from billing.timing import Timing
from billing.traceparent import Traced
from jobs import logs
from jobs.road import work_queue
from jobs.road.contracts import CONTRACTS_VERSION, Unplannable, accepted, started_by, starting, work_for
from jobs.road.verdicts import Failure, classify

log = structlog.get_logger()

SQL = statements.beside(__file__)

BATCH = 500
STAMP_MOST = 10_000
"""Stamping does not read the facts, and there are several to stamp for each that is planned."""

Which = ColumnElement[bool]
"""Which facts are to be planned."""


def only_stamped() -> list[str]:
    """The topics that start no work: their facts are only stamped."""
    return sorted((topics() | OLD_TOPICS).keys() - set(starting()))


def unplanned() -> Which:
    """Facts to plan. A topic or version that this code does not know stays unplanned, for a newer relay."""
    # As in planning.sql.
    name = Fact.topic.concat(":").concat(cast(Fact.version, TEXT))
    return and_(Fact.planned_version.is_(None), name == func.any(bindparam("accepted", accepted(), type_=ARRAY(TEXT))))


def catch_up(engine: Engine, timing: Timing) -> int:
    """Plan facts that an older version stamped, for contracts that came later. A relay calls it until it returns 0."""
    new = starting(since=1)
    if not new:
        return 0
    return plan_next(
        engine, timing, and_(Fact.topic.in_(new), Fact.planned_version > 0, Fact.planned_version < CONTRACTS_VERSION)
    )


def plan_next(engine: Engine, timing: Timing, which: Which | None = None) -> int:
    """Plan a batch; if that fails because of a row, plan them one by one. Returns how many were stamped.

    Raises errors of a database that is away, busy or older than the code: no fact causes those.
    """
    which = unplanned() if which is None else which
    try:
        with transaction(engine) as session:
            return plan(session, timing, which)
    except Exception as error:
        if not _blames_a_row(error):
            raise
    with transaction(engine) as session:
        waiting = session.scalars(select(Fact.id).where(which).order_by(Fact.id).limit(BATCH)).all()
    return sum(_plan_alone(engine, timing, which, fact_id) for fact_id in waiting)


def plan(session: Session, timing: Timing, which: Which | None = None) -> int:
    """Turn a batch of facts, the oldest first, into work and stamp them with the version of our contracts.

    All in the caller's transaction. Returns how many facts were stamped.
    """
    began_ns = time.time_ns()
    rows: list[dict[str, Any]] = []
    planned: list[int] = []
    failed: dict[int, Exception] = {}
    for row in session.execute(_batch(unplanned() if which is None else which)):
        try:
            rows += _started_by(row, timing)
            planned.append(row.id)
        except Exception as error:  # noqa: BLE001 - any error here is about this fact, and is logged
            failed[row.id] = error
    work_queue.plan(session, rows)
    if planned:
        statements.run(session, SQL["stamp"], ids=planned, planned_version=CONTRACTS_VERSION)
    logs.once_committed(session, lambda: _log_planned(rows, began_ns))
    _set_aside(session, failed)
    return len(planned) + len(failed)


def stamp_the_rest(session: Session, most: int = STAMP_MOST) -> int:
    """Stamp facts that start no work (most facts) without reading them. Returns how many."""
    values = {"only_stamped": only_stamped(), "planned_version": CONTRACTS_VERSION, "most": most}
    return statements.run(session, SQL["stamp_the_rest"], **values).rowcount


def any_unplanned(session: Session) -> bool:
    """Whether there are facts that may start work and that no relay has planned yet."""
    return bool(statements.run(session, SQL["any_unplanned"], accepted=accepted()).scalar_one())


def _started_by(row: Row[Any], timing: Timing) -> list[dict[str, Any]]:
    """The rows of work that this fact starts, without those that an older version has planned."""
    fact = Fact(
        id=row.id,
        topic=row.topic,
        version=row.version,
        entity_id=row.entity_id,
        correlation_id=row.correlation_id,
        traceparent=row.traceparent,
        happened_at=row.happened_at,
        payload=read_payload(row.payload_text),
    )
    return [work_for(fact, *what, timing) for what in started_by(fact, since=row.planned_version or 0)]


def _plan_alone(engine: Engine, timing: Timing, which: Which, fact_id: int) -> int:
    """One fact of a batch that failed, in a transaction of its own."""
    try:
        with transaction(engine) as session:
            return plan(session, timing, and_(which, Fact.id == fact_id))
    except Exception as error:
        if not _blames_a_row(error):
            raise
        if classify(error) is Failure.HALVE:
            # Too slow, or no memory or disk left: the machine is the cause, not the fact.
            log.warning("fact.postponed", fact_id=fact_id, error=type(error).__name__)
            return 0
        with transaction(engine) as session:
            return _set_aside(session, {fact_id: error})


def _blames_a_row(error: Exception) -> bool:
    return classify(error) in (Failure.DATA, Failure.HALVE)


def _set_aside(session: Session, failed: Mapping[int, Exception]) -> int:
    if not failed:
        return 0
    stamped = statements.run(session, SQL["set_aside"], ids=list(failed), planned_version=-CONTRACTS_VERSION).all()
    logs.once_committed(session, lambda: _log_set_aside(stamped, failed))
    return len(stamped)


def _log_set_aside(stamped: Sequence[Row[Any]], failed: Mapping[int, Exception]) -> None:
    for row in stamped:
        error = failed[row.id]
        log.error(
            "fact.unplannable",
            operation_id=row.entity_id,
            correlation_id=row.correlation_id,
            fact_id=row.id,
            topic=row.topic,
            why=str(error) if isinstance(error, Unplannable | UnreadablePayload) else type(error).__name__,
            exc_info=error,
        )


def _log_planned(planned: Sequence[Mapping[str, Any]], began_ns: int) -> None:
    for row in planned:
        log.info(
            "operation.planned",
            operation_id=row["entity_id"],
            correlation_id=row["correlation_id"],
            contract=row["contract"],
            queue=row["queue"],
            trace=Traced(row["traceparent"], began_ns),
        )


def _batch(which: Which) -> Select[Any]:
    return select(*_COLUMNS).where(which).order_by(Fact.id).limit(BATCH).with_for_update(skip_locked=True)


_COLUMNS = (
    Fact.id,
    Fact.topic,
    Fact.version,
    Fact.entity_id,
    Fact.correlation_id,
    Fact.traceparent,
    Fact.happened_at,
    Fact.planned_version,
    PAYLOAD_TEXT,
)
