"""From captures to invoices, when a period is over: one invoice for all that a customer's captures took in it.

    see_ends        captures that have ended get the time at which they were taken, and the period that it is in
    close_next      one invoice of one customer: of captures whose period is over, and none of which is still open

Each call is one short transaction, and leaves nothing behind that the next must know: what is to be done next is read
from the rows. So a run may die anywhere, and any number may run at once. A capture that becomes known after its
period's invoice is on the next part of it; an invoice that was asked for is never changed.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from billing import database, row_io, statements
from billing.asking import common_arguments
from billing.currencies import CURRENCIES
from billing.errors import InvalidRequest
from billing.facts import OWN, new_fact
from billing.invoice_lines import Line
from billing.invoice_requests import wanted_invoice, write_invoice
from billing.invoice_terms import AlreadyPaid
from billing.money import Money
from billing.periods import Calendars, Period, between, period_of
from billing.states import CaptureState
from billing.tables.entities import MAX_LINES, Capture
from billing.tables.facts import Fact
from billing.tables.invoiced_captures import GIVEN_BACK, NOTHING_TAKEN, UNFIT, InvoicedCapture

SQL = statements.beside(__file__)

PAGE = 100
"""Captures of one transaction of `see_ends`: a worker that wants one of their rows waits for as long as that takes."""
WAITS_AT_MOST = timedelta(days=3)
"""So long after its end a period waits for captures that are still open. By then an alert has told of them; what they
took goes into the next part."""
_FIRST = datetime(1, 1, 1, tzinfo=UTC)


class Group(NamedTuple):
    """What one invoice may hold: captures of one customer, in one currency, of one period. `account` as facts have
    it."""

    account: str
    customer: str
    currency: str
    period_start: datetime
    period_end: datetime

    @property
    def named(self) -> dict[str, Any]:
        return self._asdict()


@dataclass(frozen=True, slots=True)
class Made:
    """An invoice that was asked for. `part`: which of its customer's, currency's and period's it is."""

    group: Group
    invoice_id: str
    part: int
    captures: int
    minor: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What one page of `see_ends` has come to. `more`: whether there may be another."""

    captures: int
    more: bool


def see_ends(session: Session, calendars: Calendars) -> Seen:
    """One page of captures that have ended: each gets its time and its period, or is left out because it took nothing.
    One that is on an invoice of its own is told of."""
    found = statements.run(session, SQL["ended"], most=PAGE).all()
    ids = [each.capture_id for each in found]
    rows = {row.capture_id: row for row in row_io.load(session, InvoicedCapture, SQL["rows_by_id"], ids=ids)}
    told: list[str] = []
    known: dict[str, list[Period]] = {}
    for each in found:
        row = rows[each.capture_id]
        if each.state != CaptureState.CAPTURED:
            row.left_out = NOTHING_TAKEN
            continue
        row.left_out, row.captured_at = None, each.captured_at
        if row.at_once:
            told.append(row.capture_id)
            continue
        period = _period(session, calendars, row.account, each.captured_at, known.setdefault(row.account, []))
        row.period_start, row.period_end = period.start, period.end
    captures = row_io.load(session, Capture, SQL["captures_by_id"], ids=told) if told else []
    facts = [_invoiced(capture, rows[capture.id]) for capture in captures]
    row_io.save(session, [*rows.values(), *captures], facts)
    return Seen(len(found), len(found) == PAGE)


def _period(session: Session, calendars: Calendars, account: str, moment: datetime, known: list[Period]) -> Period:
    """The period of this account with this moment in it, which comes into use with its first capture: see
    `billing.periods`. `known`: those of this transaction."""
    found = next((each for each in known if moment in each), None)
    while found is None and (found := period_at(session, account, moment)) is None:
        # Another transaction may write it at the same time: its commit is waited for, and it is read again.
        calendar = calendars.of(account)
        around = statements.run(session, SQL["neighbors"], account=account, moment=moment).one()
        if around.before is not None and around.before > moment:
            continue  # it was committed since it was read
        new = between(period_of(calendar, moment), moment, around.before, around.after)
        values = {"period_start": new.start, "period_end": new.end, "length": calendar.length, "zone": calendar.zone}
        statements.run(session, SQL["begin_period"], account=account, **values)
    known.append(found)
    return found


def period_at(session: Session, account: str, moment: datetime) -> Period | None:
    """The period in use with this moment in it."""
    row = statements.run(session, SQL["period_around"], account=account, moment=moment).one_or_none()
    return None if row is None else Period(row.period_start, row.period_end)


def over(session: Session, after: Group | None = None, *, only: tuple[str, datetime] | None = None) -> list[Group]:
    """A page of what is to be invoiced, beginning after this one. `only`: of one account's period, by its start."""
    last = after or Group("", "", "", _FIRST, _FIRST)
    account, start = only or (None, None)
    values = {**last.named, "only_account": account, "only_start": start, "most": PAGE}
    del values["period_end"]
    rows = statements.run(session, SQL["over"], **values)
    return [Group(row.account, row.customer, row.currency, row.period_start, row.period_end) for row in rows]


def left_of(session: Session, account: str, period: Period) -> int | None:
    """How many captures of this period are to be invoiced. None: the account has no period with these bounds."""
    values = {"account": account, "period_start": period.start, "period_end": period.end}
    return statements.run(session, SQL["standing"], **values).scalar_one_or_none()


class StillOpen(Exception):
    """Captures of this group may have taken money before the end of its period, and nobody knows yet. Caught where
    groups are closed, one after the other."""

    def __init__(self, captures: int) -> None:
        super().__init__(captures)
        self.captures = captures


class ClosedElsewhere(Exception):
    """Another process asks for an invoice of this group now. Caught as StillOpen is."""


def close_next(session: Session, group: Group, actor: str = "billing") -> Made | None:
    """Ask for one invoice of this group: of up to 250 captures, in the order in which they were taken. None: nothing
    is left to invoice of it.

    Raises StillOpen, ClosedElsewhere, and RequestReused if this part is known with other captures: an invoice that was
    made again after a restore. Nothing is written then.
    """
    if not statements.run(session, SQL["one_at_a_time"], name=f"{group.account} {_request_id(group, 0)}").scalar_one():
        raise ClosedElsewhere
    open_ = statements.run(session, SQL["still_open"], **group.named).one()
    if open_.taken or (open_.captures and database.now(session) < group.period_end + WAITS_AT_MOST):
        raise StillOpen(open_.captures)
    while found := statements.run(session, SQL["to_invoice"], **group.named, most=MAX_LINES).all():
        ids = [each.capture_id for each in found]
        rows = {row.capture_id: row for row in row_io.load(session, InvoicedCapture, SQL["rows_by_id"], ids=ids)}
        billed = list(_billed((rows[each.capture_id], each.left_minor) for each in found))
        row_io.save(session, [row for row in rows.values() if row.left_out])
        if billed:
            return _ask(session, group, billed, actor)
    return None


def _billed(found: Iterable[tuple[InvoicedCapture, int]]) -> Iterator[tuple[InvoicedCapture, Line]]:
    """The lines of one invoice, which come to no more than an invoice may. What has none is left out."""
    total = 0
    for row, left in found:
        if not left:
            row.left_out = GIVEN_BACK
            continue
        try:
            line = Line(row.description, Money(left, row.currency))
        except InvalidRequest:
            row.left_out = UNFIT
            continue
        total += left
        if total > CURRENCIES[row.currency].most_minor:
            return
        yield row, line


def _ask(session: Session, group: Group, billed: Sequence[tuple[InvoicedCapture, Line]], actor: str) -> Made:
    part = statements.run(session, SQL["parts_so_far"], **group.named).scalar_one() + 1
    rows = {row.capture_id: row for row, _ in billed}
    wanted = wanted_invoice([line for _, line in billed], AlreadyPaid(), captures=list(rows))
    account = None if group.account == OWN else group.account
    common = common_arguments(_request_id(group, part), None, account, actor)
    invoice, _ = write_invoice(session, common, group.customer, AlreadyPaid(), wanted)
    for position, (row, line) in enumerate(billed):
        row.invoice_id, row.position, row.billed_minor, row.part = invoice.id, position, line.minor, part
    captures = row_io.load(session, Capture, SQL["captures_by_id"], ids=list(rows))
    row_io.save(session, [*rows.values(), *captures], [_invoiced(capture, rows[capture.id]) for capture in captures])
    return Made(group, invoice.id, part, len(rows), wanted.known_minor)


def _request_id(group: Group, part: int) -> str:
    """Made of what the invoice is for, so that each part can be asked for once."""
    start = group.period_start.astimezone(UTC)
    return f"period:{group.customer}:{group.currency}:{start:%Y%m%dT%H%M%SZ}:{part}"


def _invoiced(capture: Capture, row: InvoicedCapture) -> Fact:
    """The fact that this capture is on an invoice."""
    at: dict[str, Any] = {}
    if row.period_start is not None and row.period_end is not None:
        at = {"period_start": row.period_start.isoformat(), "period_end": row.period_end.isoformat(), "part": row.part}
    return new_fact(
        capture,
        "invoiced",
        invoice=row.invoice_id,
        customer=row.customer,
        minor=row.billed_minor,
        currency=row.currency,
        account=row.account,
        line=row.position,
        **at,
    )
