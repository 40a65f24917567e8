"""Pieces of work in Postgres: planned once, claimed by one, taken back from the dead."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT, insert
from sqlalchemy.orm import Session

from billing import ids
from billing.tables import Record, Work, WorkState

_LEASE_OVER = """(r.lease_until IS NULL OR r.lease_until < clock_timestamp()
                  OR r.lease_until > clock_timestamp() + make_interval(secs => r.lease_s + 1))"""

# No pause is longer (billing.timing): what lies further ahead was written by a clock that has been set back since.
_TOO_FAR = "clock_timestamp() + interval '2 hours'"

# A look runs whatever its work's state is: held, quarantined and parked operations are looked at too.
_LOOK_DUE = f"""r.concluded_at IS NULL AND (r.look_at <= clock_timestamp() OR r.look_at > {_TOO_FAR})
                AND {_LEASE_OVER}"""


def plan(session: Session, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write work that is ready at once; what was planned before (same dedupe key) stays. Returns how many are new."""
    values = [{"id": ids.new("wrk"), "state": WorkState.READY, **row} for row in rows]
    if not values:
        return 0
    return len(session.scalars(insert(Work).on_conflict_do_nothing().returning(Work.id), values).all())


def claim_ready(session: Session, queue: str, known: Collection[str], most: int) -> list[Work]:
    """Lock up to `most` ready pieces of a queue, the most urgent first. `known`: the contracts as `name:version`."""
    return list(session.scalars(_CLAIM_READY, {"queue": queue, "known": list(known), "most": most}))


_CLAIM_READY = (
    select(Work)
    .where(
        Work.queue == bindparam("queue"),
        Work.state == text("'ready'"),  # a literal, so that the partial index fits
        (Work.contract + ":" + func.cast(Work.version, TEXT)) == func.any(bindparam("known", type_=ARRAY(TEXT))),
    )
    .order_by(Work.urgency, Work.id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)


def claim_looks(session: Session, queue: str, most: int) -> list[Work]:
    """Lock up to `most` pieces of work whose record is due to be looked at by its own clock."""
    return list(session.scalars(_CLAIM_LOOKS, {"queue": queue, "most": most}))


_CLAIM_LOOKS = (
    select(Work)
    .join(Record.__table__.alias("r"), text("r.work_id = work.id"))
    .where(text("r.queue = :queue"), text(_LOOK_DUE))
    .order_by(text("r.look_at"))
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True, of=Work)
)


def locked(session: Session, work_ids: Collection[str]) -> dict[str, Work]:
    """These pieces of work, locked in the order of their ids."""
    rows = session.scalars(select(Work).where(Work.id.in_(list(work_ids))).order_by(Work.id).with_for_update())
    return {work.id: work for work in rows}


def make_due_ready(session: Session) -> int:
    return _changed(session, _DUE)


_DUE = text(
    f"""
    UPDATE billing.work SET state = 'ready', due_at = NULL, state_since = clock_timestamp()
     WHERE id IN (SELECT id FROM billing.work
                   WHERE state = 'waiting' AND (due_at <= clock_timestamp() OR due_at > {_TOO_FAR})
                   ORDER BY due_at LIMIT 1000 FOR UPDATE SKIP LOCKED)
    """
)


def take_back(session: Session) -> int:
    """Work whose call was never reported goes back to ready; that counts as an attempt: a worker died on it."""
    return _changed(session, _TAKE_BACK)


_TAKE_BACK = text(
    f"""
    UPDATE billing.work
       SET state = 'ready', attempts = attempts + 1, reason = 'its worker went silent',
           state_since = clock_timestamp()
     WHERE id IN (SELECT w.id FROM billing.work AS w
                    JOIN billing.idempotency_records AS r ON r.id = w.record_id
                   WHERE w.state = 'running' AND {_LEASE_OVER}
                   ORDER BY w.id LIMIT 1000 FOR UPDATE OF w SKIP LOCKED)
    """
)


def hold(session: Session) -> int:
    """Store `held` for what a pulled switch stops; the guard before each call remains the truth."""
    return _changed(session, _HOLD)


_HOLD = text(
    """
    UPDATE billing.work AS w
       SET state = 'held', reason = s.scope || ': ' || coalesce(s.reason, ''), state_since = clock_timestamp()
      FROM billing.switches AS s
     WHERE s.state = 'pulled' AND s.scope = ANY (w.scopes)
       AND w.id IN (SELECT id FROM billing.work
                     WHERE (state = 'ready' OR state = 'waiting' AND due_at IS NOT NULL)
                       AND scopes && (SELECT coalesce(array_agg(scope), '{}')::text[]
                                        FROM billing.switches WHERE state = 'pulled')
                     ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED)
    """
)


def look_at_the_stopped(session: Session) -> int:
    """What is held, parked or quarantined and unanswered is looked at: a brake stops sends, not the truth."""
    return _changed(session, _LOOK_AT_THE_STOPPED)


_LOOK_AT_THE_STOPPED = text(
    f"""
    UPDATE billing.idempotency_records AS r SET look_at = clock_timestamp()
      FROM billing.work AS w
     WHERE w.id = r.work_id AND w.state IN ('held', 'parked', 'quarantined')
       AND r.concluded_at IS NULL AND r.look_at IS NULL AND r.unanswered > 0
       AND r.state IN ('sent', 'in_doubt') AND {_LEASE_OVER}
    """
)


def let_go(session: Session) -> int:
    """What no pulled switch stops any more is ready again."""
    return _changed(session, _LET_GO)


_LET_GO = text(
    """
    UPDATE billing.work SET state = 'ready', reason = NULL, due_at = NULL, state_since = clock_timestamp()
     WHERE id IN (SELECT id FROM billing.work
                   WHERE state = 'held'
                     AND NOT scopes && (SELECT coalesce(array_agg(scope), '{}')::text[]
                                          FROM billing.switches WHERE state = 'pulled')
                   ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED)
    """
)


def park_unknown(session: Session, known: Collection[str]) -> int:
    """Park ready work of contracts that this menu does not know, and lift what it knows by now."""
    return _changed(session, _PARK, known=list(known)) + _changed(session, _LIFT, known=list(known))


_PARK = text(
    """
    UPDATE billing.work SET state = 'parked', reason = 'unknown contract version', state_since = clock_timestamp()
     WHERE state = 'ready' AND NOT contract || ':' || version = ANY (:known)
    """
)
_LIFT = text(
    """
    UPDATE billing.work SET state = 'ready', reason = NULL, state_since = clock_timestamp()
     WHERE state = 'parked' AND contract || ':' || version = ANY (:known)
    """
)


def claimable(session: Session, queue: str, known: Collection[str], most: int) -> int:
    """How much a shift would find right now, counted up to `most`. The claims' own predicates."""
    count: int = session.execute(_CLAIMABLE, {"queue": queue, "known": list(known), "most": most}).scalar_one()
    return count


_CLAIMABLE = text(
    f"""
    SELECT (SELECT count(*) FROM (SELECT 1 FROM billing.work
                                   WHERE queue = :queue AND state = 'ready'
                                     AND contract || ':' || version = ANY (:known) LIMIT :most) AS a)
         + (SELECT count(*) FROM (SELECT 1 FROM billing.idempotency_records AS r
                                   WHERE r.queue = :queue AND r.look_at IS NOT NULL AND {_LOOK_DUE}
                                   LIMIT :most) AS b)
    """
)


def _changed(session: Session, statement: Any, **values: object) -> int:
    result = session.execute(statement, values)
    return int(result.rowcount)  # type: ignore[attr-defined]


def move(
    work: Work, state: WorkState, now: datetime, *, reason: str | None = None, after: timedelta | None = None
) -> None:
    """Change a locked piece of work; `now` is the database's, and `after` a pause from it."""
    work.state, work.reason, work.state_since = state, reason, now
    work.due_at = now + after if after is not None else None
