"""The work queue in Postgres: work is planned once and claimed by one worker. Each claim is one statement of
`work_queue.sql`."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing import ids, row_io, statements
from billing.states import WorkState, set_state
from billing.tables.work import Work
from jobs.road.contracts import may_wait

SQL = statements.beside(__file__)


def plan(session: Session, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write work that is ready at once. Work with the same dedupe key stays as it is. Returns how many are new."""
    values = [{"id": ids.new("wrk"), "state": WorkState.READY, **row} for row in rows]
    if not values:
        return 0
    return len(session.scalars(insert(Work).on_conflict_do_nothing().returning(Work.id), values).all())


def claimable(session: Session, known: Collection[str], most: Mapping[str, int]) -> dict[str, int]:
    """How much a shift would find right now, by queue, each counted up to `most`."""
    values = {"known": list(known), "may_wait": may_wait(), "queues": list(most), "mosts": list(most.values())}
    counts = statements.run(session, SQL["claimable"], **values).scalars()
    return dict(zip(most, counts, strict=True))


def claim_ready(session: Session, queue: str, known: Collection[str], most: int) -> list[Work]:
    """Lock up to `most` ready pieces of a queue, the most urgent first. `known`: the contracts as `name:version`.

    What may wait is left, if it is not urgent, while a queue that may not wait is behind its SLO (`jobs.road.load`)."""
    values = {"queue": queue, "known": list(known), "may_wait": may_wait(), "most": most}
    return row_io.load(session, Work, SQL["claim_ready"], **values)


def claim_looks(session: Session, queue: str, most: int) -> list[Work]:
    """Lock up to `most` pieces of work whose record has a look due (`look_at`)."""
    return row_io.load(session, Work, SQL["claim_looks"], queue=queue, most=most)


def is_due(session: Session, work_id: str, known: Collection[str]) -> bool | None:
    """Whether a look of this piece of work is due: True. False: it is ready. None: a worker would not claim it now."""
    due: bool | None = statements.run(session, SQL["is_due"], work_id=work_id, known=list(known)).scalar()
    return due


def locked(session: Session, work_ids: Collection[str]) -> dict[str, Work]:
    """These pieces of work, locked in the order of their ids. `row_io.save` writes what is changed."""
    return {work.id: work for work in row_io.locked(session, Work, work_ids)}


def wake(session: Session, queue: str) -> int:
    """Make due the sends and the looks of this queue that wait only because Stripe did not answer, at most 1000 of
    each.

    Work that waits for a proof, a decision or a sibling goes on waiting."""
    return sum(statements.run(session, SQL[name], queue=queue).rowcount for name in ("wake_work", "wake_looks"))


def move(
    work: Work, state: WorkState, now: datetime, *, reason: str | None = None, after: timedelta | None = None
) -> None:
    """Change a locked piece of work; `now` is the database's, and `after` a pause from it."""
    set_state(work, state)
    work.reason, work.state_since = reason, now
    work.due_at = now + after if after is not None else None
