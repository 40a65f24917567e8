"""Invoices what was captured: periods that are over, customer by customer, until nothing is left or the time is over.

Each step is a short transaction of its own (`billing.period_invoices`). What cannot be invoiced now is left to the next
run, and stops no other customer's.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from billing import database, period_invoices
from billing.database import Transact
from billing.errors import InvalidRequest, PeriodRefused, RequestReused
from billing.facts import OWN
from billing.period_invoices import ClosedElsewhere, Group, Made, StillOpen
from billing.periods import BadCalendar, Calendars, Period, name_of, named
from billing.provider_ids import provider_id
from jobs.road.verdicts import Failure, classify

log = structlog.get_logger()

T = TypeVar("T")

LEFT_OVER_S = 5.0
"""Nothing more is begun when so little time is left."""


@dataclass(slots=True)
class Report:
    """What a run did. `ended`: captures that it saw to have ended. `minor`: what was invoiced, by currency. `waiting`:
    customers' periods with captures that may still have taken money in it. `busy`: those with a row that another
    process holds. `failed`: those that need a decision, which the log names. `complete`: False if there may be more."""

    ended: int = 0
    invoices: int = 0
    captures: int = 0
    minor: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    busy: int = 0
    failed: int = 0
    complete: bool = False

    def as_result(self) -> dict[str, Any]:
        fields = ("ended", "invoices", "captures", "waiting", "busy", "failed", "complete")
        return {"minor": dict(self.minor), **{name: getattr(self, name) for name in fields}}


def invoice_captures(engine: Engine, calendars: Calendars, left_s: Callable[[], float]) -> Report:
    """All that can be invoiced now. Before every end that is known is seen, no period is closed: it would be closed
    without captures of it."""
    report, after = Report(), None
    more = True
    while more and left_s() > LEFT_OVER_S:
        with database.transaction(engine) as session:
            seen = period_invoices.see_ends(session, calendars)
        report.ended, more = report.ended + seen.captures, seen.more
    if more:
        return report
    while left_s() > LEFT_OVER_S:
        with database.transaction(engine) as session:
            groups = period_invoices.over(session, after)
        for group in groups:
            while (made := _close(engine, group, report)) is not None and left_s() > LEFT_OVER_S:
                report.invoices += 1
                report.captures += made.captures
                report.minor[group.currency] += made.minor
        if len(groups) < period_invoices.PAGE:
            report.complete = left_s() > LEFT_OVER_S
            break
        after = groups[-1]
    return report


@dataclass(frozen=True, slots=True)
class ByHand:
    """What a person has asked for, of one account and period. `made`: the invoices that were asked for, or would be.
    `waiting`: customers with captures that may still have taken money in it."""

    account: str
    period: str
    start: datetime
    end: datetime
    made: list[Made]
    waiting: list[Group]


def by_hand(
    engine: Engine, calendars: Calendars, account: str, period: str, *, actor: str, dry_run: bool = False
) -> ByHand:
    """Invoice one period of one account. With `dry_run` everything is done in one transaction, which is taken back.

    Raises InvalidRequest for what names no account or no period, and PeriodRefused.
    """
    if account != OWN:
        account = provider_id("account", account)
    zone = calendars.of(account).zone
    try:
        wanted = named(zone, period)
    except BadCalendar as error:
        raise InvalidRequest("period", str(error)) from None
    if not dry_run:
        while _in_transaction(engine, lambda session: period_invoices.see_ends(session, calendars)).more:
            pass
        start, end = _in_transaction(engine, lambda session: _bounds(session, account, zone, period, wanted))
        done = ByHand(account, period, start, end, [], [])
        for group in _groups(engine, account, start):
            _close_by_hand(lambda step: _in_transaction(engine, step), group, actor, done)
        return done
    with Session(engine) as session:
        while period_invoices.see_ends(session, calendars).more:
            pass
        start, end = _bounds(session, account, zone, period, wanted)
        done = ByHand(account, period, start, end, [], [])
        after: Group | None = None
        while groups := period_invoices.over(session, after, only=(account, start)):
            for group in groups:
                _close_by_hand(lambda step: step(session), group, actor, done)
            after = groups[-1]
        session.rollback()
    return done


def _groups(engine: Engine, account: str, start: datetime) -> Iterator[Group]:
    after: Group | None = None
    while True:
        page = _in_transaction(engine, partial(period_invoices.over, after=after, only=(account, start)))
        yield from page
        if len(page) < period_invoices.PAGE:
            return
        after = page[-1]


def _close_by_hand(run: Transact, group: Group, actor: str, done: ByHand) -> None:
    """Every invoice of this group."""
    try:
        while (made := run(lambda session: period_invoices.close_next(session, group, actor))) is not None:
            done.made.append(made)
    except StillOpen:
        done.waiting.append(group)


def _bounds(session: Session, account: str, zone: str, period: str, wanted: Period) -> tuple[datetime, datetime]:
    """The period in use that has this name. Raises PeriodRefused."""
    if database.now(session) < wanted.end:
        raise PeriodRefused(period, account, "not_over", f"it ends at {wanted.end:%Y-%m-%dT%H:%M:%SZ}")
    left = period_invoices.left_of(session, account, wanted)
    if left is None:
        around = period_invoices.period_at(session, account, wanted.start)
        instead = f"; {name_of(zone, around)} is, which has its first moment" if around else ", or no capture was in it"
        raise PeriodRefused(period, account, "unknown", f"it is no period of this account{instead}")
    if not left:
        raise PeriodRefused(period, account, "invoiced", "everything of it is on invoices")
    return wanted.start, wanted.end


def _in_transaction(engine: Engine, step: Callable[[Session], T]) -> T:
    with database.transaction(engine) as session:
        return step(session)


def _close(engine: Engine, group: Group, report: Report) -> Made | None:
    """One invoice of this group; None if there is none more, or none now."""
    try:
        with database.transaction(engine) as session:
            return period_invoices.close_next(session, group)
    except (StillOpen, ClosedElsewhere) as reason:
        report.waiting += isinstance(reason, StillOpen)
        report.busy += isinstance(reason, ClosedElsewhere)
    except DBAPIError as error:
        if classify(error) not in (Failure.REPEAT, Failure.HALVE):
            raise
        report.busy += 1
    except RequestReused as error:
        report.failed += 1
        _log_failed(group, error)
    return None


def _log_failed(group: Group, error: RequestReused) -> None:
    log.error(
        "period.not_invoiced",
        account=group.account,
        customer=group.customer,
        period_start=group.period_start.isoformat(),
        why=f"its invoice is known with other captures: {', '.join(error.differences)}",
    )
