"""The list of work in quarantine: which of it is meant, whose it is, and how long nobody has touched it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing.errors import InvalidRequest, UnknownEntity
from billing.states import WorkState
from billing.tables.work import Work
from billing.tables.work_failures import QuarantineTouch
from billing.texts import plain_text
from jobs.road import work_queue

UNTOUCHED_WARN = timedelta(hours=1)
"""Work in quarantine that nobody has touched for longer is named by `doctor`, by the relay's log and by the list."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One piece of work that needs a decision. `overdue`: nobody has touched it for `UNTOUCHED_WARN`."""

    id: str
    entity_id: str
    contract: str
    queue: str
    attempts: int
    since: datetime
    reason: str | None
    assignee: str | None = None
    touched_at: datetime | None = None
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class Filters:
    """Which work in quarantine is meant; what is None is not asked for, and nothing means all of it.

    `reason`: a part of it, in either case of letters. `account`: `own`, or the id of a connected account.
    """

    reason: str | None = None
    contract: str | None = None
    older_than: timedelta | None = None
    assignee: str | None = None
    account: str | None = None
    untouched: bool = False


@dataclass(frozen=True, slots=True)
class TouchTimes:
    """How long work waited in quarantine until somebody touched it. Seconds; None where nothing was touched."""

    touched: int
    mean_s: float | None
    p90_s: float | None
    untouched: int
    overdue: int
    oldest_untouched_s: float | None


def listed(session: Session, most: int = 100, filters: Filters | None = None) -> list[Quarantined]:
    """Work in quarantine, the longest waiting first."""
    wanted = (
        select(Work, QuarantineTouch, _OVERDUE)
        .outerjoin(QuarantineTouch, _THIS_STAY)
        .where(*_conditions(filters or Filters()))
        .order_by(Work.state_since, Work.id)
        .limit(most)
    )
    return [_row(work, touch, overdue) for work, touch, overdue in session.execute(wanted)]


def matching(session: Session, filters: Filters) -> list[str]:
    """The ids of all work that is meant, the longest waiting first."""
    wanted = select(Work.id).outerjoin(QuarantineTouch, _THIS_STAY).where(*_conditions(filters))
    return list(session.scalars(wanted.order_by(Work.state_since, Work.id)))


def described(session: Session, work: Work) -> Quarantined:
    """One piece of work as the list shows it; also where it is not in quarantine any more."""
    return _row(work, session.get(QuarantineTouch, (work.id, work.state_since)), overdue=False)


def assign(session: Session, work_id: str, *, assignee: str, actor: str) -> Quarantined:
    """Say who looks at this work. Raises UnknownEntity, InvalidText, and InvalidRequest if it is not in quarantine."""
    assignee, actor = plain_text("assignee", assignee, 255), plain_text("actor", actor, 255)
    work = in_quarantine(session, work_id)
    touched(session, work, by=actor, assignee=assignee)
    return described(session, work)


def in_quarantine(session: Session, work_id: str) -> Work:
    """This piece of work, locked. Raises UnknownEntity, and InvalidRequest if it is not in quarantine."""
    work = work_queue.locked(session, [work_id]).get(work_id)
    if work is None:
        raise UnknownEntity(work_id)
    if work.state != WorkState.QUARANTINED:
        raise InvalidRequest(f"work {work_id}", f"is {work.state}, not quarantined")
    return work


def touched(session: Session, work: Work, *, by: str, assignee: str | None = None) -> None:
    """Somebody touched this locked work, before its state changes. The first touch of a stay keeps its time."""
    first = insert(QuarantineTouch).values(work_id=work.id, since=work.state_since, touched_by=by, assignee=assignee)
    keep = first.on_conflict_do_nothing()
    session.execute(
        keep
        if assignee is None
        else first.on_conflict_do_update(index_elements=["work_id", "since"], set_={"assignee": assignee})
    )


def touch_times(session: Session, since: timedelta = timedelta(days=30)) -> TouchTimes:
    """The times to the first touch of what was touched lately, and how much is untouched now."""
    waited = func.extract("epoch", QuarantineTouch.touched_at - QuarantineTouch.since)
    lately = QuarantineTouch.touched_at > func.clock_timestamp() - since
    p90 = func.percentile_cont(0.9).within_group(waited)
    times = session.execute(select(func.count(), func.avg(waited), p90).where(lately)).one()
    count, overdue, oldest_s = untouched(session)
    return TouchTimes(times[0], _seconds(times[1]), _seconds(times[2]), count, overdue, oldest_s)


def untouched(session: Session) -> tuple[int, int, float | None]:
    """How much work in quarantine nobody has touched, how much of it is overdue, and the age of the oldest, in s."""
    age = func.extract("epoch", func.clock_timestamp() - func.min(Work.state_since))
    count, overdue, oldest_s = session.execute(
        select(func.count(), func.count().filter(_OVERDUE), age)
        .select_from(Work)
        .outerjoin(QuarantineTouch, _THIS_STAY)
        .where(Work.state == WorkState.QUARANTINED, QuarantineTouch.work_id.is_(None))
    ).one()
    return count, overdue, _seconds(oldest_s)


_THIS_STAY = and_(QuarantineTouch.work_id == Work.id, QuarantineTouch.since == Work.state_since)
_OVERDUE = and_(QuarantineTouch.work_id.is_(None), Work.state_since < func.clock_timestamp() - UNTOUCHED_WARN)


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = [Work.state == WorkState.QUARANTINED]
    if filters.reason is not None:
        wanted.append(Work.reason.icontains(filters.reason, autoescape=True))
    if filters.contract is not None:
        wanted.append(Work.contract == filters.contract)
    if filters.older_than is not None:
        wanted.append(Work.state_since < func.clock_timestamp() - filters.older_than)
    if filters.assignee is not None:
        wanted.append(QuarantineTouch.assignee == filters.assignee)
    if filters.account is not None:
        wanted.append(literal(f"account:{filters.account}") == func.any(Work.scopes))
    if filters.untouched:
        wanted.append(QuarantineTouch.work_id.is_(None))
    return wanted


def _row(work: Work, touch: QuarantineTouch | None, overdue: bool) -> Quarantined:
    return Quarantined(
        id=work.id,
        entity_id=work.entity_id,
        contract=work.contract,
        queue=work.queue,
        attempts=work.attempts,
        since=work.state_since,
        reason=work.reason,
        assignee=touch.assignee if touch is not None else None,
        touched_at=touch.touched_at if touch is not None else None,
        overdue=overdue,
    )


def _seconds(value: Any) -> float | None:
    return None if value is None else round(float(value), 1)
