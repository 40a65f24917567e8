"""Pieces of work in Postgres: planned once, claimed by one, taken back from the dead."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing import ids, row_io, statements
from billing.tables import Work, WorkState

SQL = statements.beside(__file__)

SWEEP_MOST = 1000
"""Rows that one sweep moves in its transaction; a relay takes fewer where so many take too long."""

Sweep = Callable[[Session, int], int]
"""Moves at most so many rows, and returns how many it moved."""

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
    return row_io.load(session, Work, SQL["claim_ready"], queue=queue, known=list(known), most=most)


def claim_looks(session: Session, queue: str, most: int) -> list[Work]:
    """Lock up to `most` pieces of work whose record is due to be looked at by its own clock."""
    return row_io.load(session, Work, SQL["claim_looks"], queue=queue, most=most)


def locked(session: Session, work_ids: Collection[str]) -> dict[str, Work]:
    """These pieces of work, locked in the order of their ids. What is changed is written by `row_io.save`."""
    return {work.id: work for work in row_io.locked(session, Work, work_ids)}


def make_due_ready(session: Session, most: int = SWEEP_MOST) -> int:
    """What has waited long enough is ready again; the longest overdue first."""
    return _changed(session, _DUE, most=most)


_IS_DUE = f"billing.work WHERE state = 'waiting' AND (due_at <= clock_timestamp() OR due_at > {_TOO_FAR})"
_DUE = text(
    f"""
    UPDATE billing.work SET state = 'ready', due_at = NULL, state_since = clock_timestamp()
     WHERE id IN (SELECT id FROM {_IS_DUE}
                   ORDER BY due_at LIMIT :most FOR UPDATE SKIP LOCKED)
    """
)


def wake(session: Session, queue: str) -> int:
    """Make due what of this queue waits only because nothing was answered: sends that come again after a pause, and
    looks that were not answered. What waits for proof, a person or a sibling waits on. At most 1000 of each."""
    connection, values = session.connection(), {"queue": queue}
    return sum(connection.exec_driver_sql(statement, values).rowcount for statement in (_WAKE_WORK, _WAKE_LOOKS))


_WAKE_WORK = """
    UPDATE billing.work SET state = 'ready', due_at = NULL, tries = 0, state_since = clock_timestamp()
     WHERE id IN (SELECT w.id FROM billing.work AS w JOIN billing.idempotency_records AS r ON r.work_id = w.id
                   WHERE w.queue = %(queue)s AND w.state = 'waiting' AND w.due_at IS NOT NULL
                     AND r.concluded_at IS NULL AND r.learned = 'nothing'
                   ORDER BY w.due_at LIMIT 1000 FOR UPDATE OF w SKIP LOCKED)
    """
# A lease says that somebody looks at this moment.
_WAKE_LOOKS = """
    UPDATE billing.idempotency_records SET look_at = clock_timestamp()
     WHERE id IN (SELECT id FROM billing.idempotency_records
                   WHERE queue = %(queue)s AND concluded_at IS NULL AND look_at > clock_timestamp()
                     AND learned = 'look_unanswered' AND lease_until IS NULL
                   ORDER BY look_at LIMIT 1000 FOR UPDATE SKIP LOCKED)
    """


def rescue_lapsed(session: Session, most: int = SWEEP_MOST) -> int:
    """Work whose call was never reported goes back to ready; that counts as an attempt: a worker died on it."""
    return _changed(session, _RESCUE_LAPSED, most=most)


_WENT_SILENT = f"""billing.work AS w JOIN billing.idempotency_records AS r ON r.id = w.record_id
                   WHERE w.state = 'running' AND {_LEASE_OVER}"""
_RESCUE_LAPSED = text(
    f"""
    UPDATE billing.work
       SET state = 'ready', attempts = attempts + 1, reason = 'its worker went silent',
           state_since = clock_timestamp()
     WHERE id IN (SELECT w.id FROM {_WENT_SILENT}
                   ORDER BY w.id LIMIT :most FOR UPDATE OF w SKIP LOCKED)
    """
)


def hold(session: Session, most: int = SWEEP_MOST) -> int:
    """Store `held` for what a pulled switch stops; the guard before each call remains the truth."""
    return _changed(session, _HOLD, most=most)


_PULLED = "(SELECT coalesce(array_agg(scope), '{}')::text[] FROM billing.switches WHERE state = 'pulled')"
_IS_SWITCHED_OFF = f"""billing.work WHERE (state = 'ready' OR state = 'waiting' AND due_at IS NOT NULL)
                       AND scopes && {_PULLED}"""
_HOLD = text(
    f"""
    UPDATE billing.work AS w
       SET state = 'held', reason = s.scope || ': ' || coalesce(s.reason, ''), state_since = clock_timestamp()
      FROM billing.switches AS s
     WHERE s.state = 'pulled' AND s.scope = ANY (w.scopes)
       AND w.id IN (SELECT id FROM {_IS_SWITCHED_OFF}
                     ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED)
    """
)


def look_at_stopped(session: Session, most: int = SWEEP_MOST) -> int:
    """What is held, parked or quarantined and unanswered is looked at: a switch stops sends, not the truth."""
    return _changed(session, _LOOK_AT_STOPPED, most=most)


_STOPPED_AND_UNSEEN = f"""billing.work AS w
     WHERE w.id = r.work_id AND w.state IN ('held', 'parked', 'quarantined')
       AND r.concluded_at IS NULL AND r.look_at IS NULL AND r.unanswered > 0
       AND r.state IN ('sent', 'in_doubt') AND {_LEASE_OVER}"""
_LOOK_AT_STOPPED = text(
    f"""
    UPDATE billing.idempotency_records SET look_at = clock_timestamp()
     WHERE id IN (SELECT r.id FROM billing.idempotency_records AS r, {_STOPPED_AND_UNSEEN}
                   ORDER BY r.id LIMIT :most FOR UPDATE OF r SKIP LOCKED)
    """
)


def release_held(session: Session, most: int = SWEEP_MOST) -> int:
    """What no pulled switch stops any more is ready again."""
    return _changed(session, _RELEASE_HELD, most=most)


_IS_FREE = f"billing.work WHERE state = 'held' AND NOT scopes && {_PULLED}"
_RELEASE_HELD = text(
    f"""
    UPDATE billing.work SET state = 'ready', reason = NULL, due_at = NULL, state_since = clock_timestamp()
     WHERE id IN (SELECT id FROM {_IS_FREE}
                   ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED)
    """
)


def park_unknown(session: Session, known: Collection[str], most: int = SWEEP_MOST) -> int:
    """Park ready work of contracts that this version does not know, and lift what it knows by now."""
    connection, values = session.connection(), {"known": list(known), "most": most}
    return sum(connection.exec_driver_sql(statement, values).rowcount for statement in (_PARK, _LIFT))


_IS_UNKNOWN = "state = 'ready' AND NOT contract || ':' || version = ANY (%(known)s)"
_IS_KNOWN_BY_NOW = "state = 'parked' AND contract || ':' || version = ANY (%(known)s)"
_PARK = f"""
    UPDATE billing.work SET state = 'parked', reason = 'unknown contract version', state_since = clock_timestamp()
     WHERE id IN (SELECT id FROM billing.work WHERE {_IS_UNKNOWN}
                   ORDER BY id LIMIT %(most)s FOR UPDATE SKIP LOCKED)
    """
_LIFT = f"""
    UPDATE billing.work SET state = 'ready', reason = NULL, state_since = clock_timestamp()
     WHERE id IN (SELECT id FROM billing.work WHERE {_IS_KNOWN_BY_NOW}
                   ORDER BY id LIMIT %(most)s FOR UPDATE SKIP LOCKED)
    """


def claimable(session: Session, known: Collection[str], most: Mapping[str, int]) -> dict[str, int]:
    """How much a shift would find right now, by queue, each counted up to `most`. The claims' own predicates."""
    values = {"queues": list(most), "mosts": list(most.values()), "known": list(known)}
    counts: list[int] = session.connection().exec_driver_sql(f"SELECT {_CLAIMABLE}", values).scalar_one()
    return dict(zip(most, counts, strict=True))


_CLAIMABLE = f"""
    ARRAY (SELECT (SELECT count(*) FROM (SELECT FROM billing.work
                                          WHERE queue = q.name AND state = 'ready'
                                            AND contract || ':' || version = ANY (%(known)s) LIMIT q.most) AS a)
                + (SELECT count(*) FROM (SELECT FROM billing.idempotency_records AS r
                                          WHERE r.queue = q.name AND r.look_at IS NOT NULL AND {_LOOK_DUE}
                                          LIMIT q.most) AS b)
             FROM unnest(%(queues)s::text[], %(mosts)s::bigint[]) WITH ORDINALITY AS q (name, most, place)
            ORDER BY q.place)"""


def unplanned(session: Session, starting: Collection[str]) -> bool:
    """Whether there are facts of these topics that no relay has planned yet."""
    return bool(session.connection().exec_driver_sql(f"SELECT {_UNPLANNED}", {"starting": list(starting)}).scalar_one())


_UNPLANNED = (
    "EXISTS (SELECT FROM billing.facts WHERE planned_version IS NULL AND version = 1 AND topic = ANY (%(starting)s))"
)


def glance(
    session: Session,
    known: Collection[str],
    most: Mapping[str, int],
    starting: Collection[str],
    rest: Collection[str],
    *,
    stopped_too: bool,
    unknown_too: bool,
) -> tuple[bool, bool, list[Sweep], dict[str, int]]:
    """What a relay could do now, in one cheap statement, because mostly it is nothing.

    Whether facts of the topics `starting` are unplanned, and facts of the `rest` unstamped; the sweeps that
    would move something; how much of each queue is claimable, counted up to `most`. By the predicates of those
    who do it. `stopped_too`: whether to look for what a switch stops or stops no more, which may read all that is
    ready or held; `unknown_too`: for unknown contracts, which reads all that is ready.
    """
    values: dict[str, Any] = {"known": list(known), "queues": list(most), "mosts": list(most.values())}
    values |= {"starting": list(starting), "rest": list(rest), "stopped_too": stopped_too}
    values["unknown_too"] = unknown_too
    unplanned, unstamped, *wanted, counts = session.connection().exec_driver_sql(_GLANCE, values).one()

    def park_the_unknown(session: Session, most: int) -> int:
        return park_unknown(session, known, most)

    sweeps: Sequence[Sweep] = (make_due_ready, rescue_lapsed, hold, look_at_stopped, release_held, park_the_unknown)
    return (
        unplanned,
        unstamped,
        [sweep for sweep, yes in zip(sweeps, wanted, strict=True) if yes],
        dict(zip(most, counts, strict=True)),
    )


_GLANCE = f"""
    SELECT {_UNPLANNED},
           EXISTS (SELECT FROM billing.facts WHERE planned_version IS NULL AND version = 1 AND topic = ANY (%(rest)s)),
           EXISTS (SELECT FROM {_IS_DUE}), EXISTS (SELECT FROM {_WENT_SILENT}),
           %(stopped_too)s AND EXISTS (SELECT FROM billing.switches WHERE state = 'pulled')
                           AND EXISTS (SELECT FROM {_IS_SWITCHED_OFF}),
           %(stopped_too)s AND EXISTS (SELECT FROM billing.idempotency_records AS r, {_STOPPED_AND_UNSEEN}),
           %(stopped_too)s AND EXISTS (SELECT FROM {_IS_FREE}),
           %(unknown_too)s AND EXISTS (SELECT FROM billing.work WHERE {_IS_UNKNOWN} OR {_IS_KNOWN_BY_NOW}),
           {_CLAIMABLE}
    """


def _changed(session: Session, statement: Any, **values: object) -> int:
    result = session.execute(statement, values)
    return int(result.rowcount)  # type: ignore[attr-defined]


def move(
    work: Work, state: WorkState, now: datetime, *, reason: str | None = None, after: timedelta | None = None
) -> None:
    """Change a locked piece of work; `now` is the database's, and `after` a pause from it."""
    work.state, work.reason, work.state_since = state, reason, now
    work.due_at = now + after if after is not None else None
