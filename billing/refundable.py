"""Which capture or invoice money is given back of, by any of its ids, and how much of it is left."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, func, select, text
from sqlalchemy.orm import Session

from billing.errors import InvalidRequest, NotOurPayment, UnknownEntity
from billing.provider_ids import provider_id
from billing.states import FREES_THE_AUTHORIZATION, CaptureState
from billing.tables.entities import Capture, Invoice, Requested
from billing.tables.schema import quoted
from billing.texts import opaque_id


@dataclass(frozen=True, slots=True)
class Refundable:
    """The capture or the invoice of which money is given back. `payment_intent`: None of an invoice; which payment it
    was paid by, only Stripe says."""

    id: str
    account: str | None
    state: str
    currency: str
    correlation_id: str | None
    payment_intent: str | None = None
    stripe_invoice: str | None = None

    @property
    def table(self) -> type[Capture | Invoice]:
        return Capture if self.payment_intent is not None else Invoice

    @property
    def column(self) -> str:
        """The column of a refund that names it."""
        return "capture_id" if self.table is Capture else "invoice_id"

    @property
    def bound(self) -> str:
        """The constraint that refuses a refund of more than is left of it."""
        return "captures_refunds_bounded" if self.table is Capture else "invoices_returned_bounded"


_COMMON = ("id", "account", "state", "currency", "correlation_id")


def named(session: Session, account: str | None, **given: str | None) -> Refundable:
    """The capture with this `capture`, `payment_intent` or `charge`, or the `invoice`: exactly one of them is given.
    `account`: whose payment it is; None for our own, or for that of what is named. Raises InvalidRequest, UnknownEntity
    and NotOurPayment."""
    names = {name: value for name, value in given.items() if value is not None}
    if len(names) != 1:
        raise InvalidRequest("capture", "must be given, or payment_intent, charge or invoice: one of the four")
    ((name, value),) = names.items()
    if name in ("capture", "invoice"):
        return _by_own_id(session, account, name, value)
    value = provider_id(name, value)
    column = Capture.payment_intent if name == "payment_intent" else Capture.charge
    of_account = Capture.account.is_(None) if account is None else Capture.account == account
    # As the index has it: there may be millions of captures.
    occupying = text(f"captures.state NOT IN ({quoted(FREES_THE_AUTHORIZATION)})")
    columns = _columns(Capture, "payment_intent")
    rows = session.execute(select(*columns).where(column == value, of_account, occupying).order_by(Capture.id)).all()
    captured = [row for row in rows if row.state == CaptureState.CAPTURED]
    if len(captured) > 1:
        several = ", ".join(row.id for row in captured)
        raise InvalidRequest(name, f"was captured in several parts: {several}; say with `capture` which is meant")
    if not rows:
        raise NotOurPayment(value)
    return _refundable((captured or rows)[-1])


def _by_own_id(session: Session, account: str | None, name: str, value: str) -> Refundable:
    own, table = opaque_id(name, value, 40), Capture if name == "capture" else Invoice
    columns = _columns(table, "payment_intent" if name == "capture" else "stripe_invoice")
    found = session.execute(select(*columns).where(table.id == own)).one_or_none()
    if found is None:
        raise UnknownEntity(own)
    if account not in (None, found.account):
        raise InvalidRequest("account", f"is not the one of the {name} {own}; leave it out")
    return _refundable(found)


def _columns(table: type[Requested], *more: str) -> list[Any]:
    return [getattr(table, each) for each in (*_COMMON, *more)]


def _refundable(row: Row[Any]) -> Refundable:
    return Refundable(**row._mapping)


def left(session: Session, of: Refundable) -> int:
    """What may still be asked for of it, in minor units."""
    return int(session.execute(select(_left(of.table)).where(of.table.id == of.id)).scalar_one())


def left_of(session: Session, capture: str | None, invoice: str | None) -> int | None:
    """As `left`, by the id of the one that is given; None if it is not here."""
    table = Capture if capture is not None else Invoice
    return session.scalar(select(_left(table)).where(table.id == (capture or invoice)))


def _left(table: type[Capture | Invoice]) -> ColumnElement[int]:
    if table is Capture:
        return Capture.amount_minor - Capture.refunds_minor
    return _final() - Invoice.reduced_minor - Invoice.returned_minor


def creditable(session: Session, invoice: str, *, returns: bool = True) -> int:
    """What credit notes may still take off this invoice, in minor units. `returns`: they also give it back, or take it
    off what is due; of one whose refund counts already, only the sum of all notes is a bound."""
    of_notes = _final() - Invoice.credited_minor
    both = func.least(of_notes, _left(Invoice)) if returns else of_notes
    return int(session.execute(select(both).where(Invoice.id == invoice)).scalar_one())


def _final() -> ColumnElement[int]:
    return func.coalesce(Invoice.reckoned_minor, Invoice.total_minor)
