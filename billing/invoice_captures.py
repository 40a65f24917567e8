"""Asking for a capture to be invoiced: on an invoice of its own at once, or with all others of its customer's period.

A row of `invoiced_captures` says which invoice a capture is on. Its key is the capture, so it can be on one only. What
is asked for at once is an invoice that waits for its capture (`billing.paid_already`); what is collected waits for the
end of its period (`billing.period_invoices`). A capture that ends without the money is on no invoice.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import ids, statements
from billing.asking import CommonArguments, Differing, callers_session, common_arguments
from billing.errors import InvalidRequest, InvoicedOtherwise, NotCaptured, RequestReused, UnknownEntity
from billing.facts import OWN
from billing.invoice_lines import Line
from billing.invoice_requests import NO_TERMS, UNKNOWN_TEXT, wanted_invoice, write_invoice
from billing.invoice_terms import AlreadyPaid, InvoiceTerms
from billing.money import Money
from billing.provider_ids import provider_id
from billing.states import CAPTURE, CaptureState
from billing.tables.entities import Capture
from billing.tables.invoiced_captures import InvoicedCapture
from billing.texts import opaque_id

SQL = statements.beside(__file__)

AT_ONCE = "capture:"
"""How the request id of an invoice begins that is asked for with its capture; the capture's id follows."""
Time = Literal["at_once", "period"]


@dataclass(frozen=True, slots=True)
class InvoicedCaptureReceipt:
    """What was requested, true once the caller's transaction commits. `invoice_id` is None while it is collected: the
    invoice is made once the period is over. `new` is False if it was requested before."""

    capture_id: ids.CaptureId
    invoice_id: ids.InvoiceId | None
    new: bool


class _Taken(NamedTuple):
    """The capture, as far as an invoice needs it. `left`: what it takes, less what was given back of it."""

    id: str
    account: str | None
    state: str
    currency: str
    correlation_id: str | None
    left: int


def invoice_capture(
    session: Session,
    *,
    capture: str,
    customer: str,
    description: str,
    when: Time = "period",
    terms: InvoiceTerms = NO_TERMS,
    correlation_id: str | None = None,
    account: str | None = None,
    actor: str = "application",
) -> InvoicedCaptureReceipt:
    """Ask, inside the caller's own transaction, for a capture to be invoiced to this customer, once.

    It may be asked for with the capture or later. The line has this description (1 to 500 characters), and what the
    capture took, less what was given back of it by the time when the invoice is asked for. `when="at_once"`: on an
    invoice of its own, with these `terms` and this correlation id (the capture's, if none is given). `when="period"`:
    with all captures of this customer and currency that are taken in the same period of the account's calendar
    (BILLING_INVOICE_PERIODS), once that is over. The invoice is paid already, so nobody is asked for money. If the
    capture ends without the money, there is no invoice, or it ends as `refused`.

    Asked for again with the same parameters, it returns the same receipt. Raises InvoicedOtherwise (it is invoiced to
    another customer, or as something else), NotCaptured (it ended without the money), UnknownEntity and InvalidRequest
    before anything is written; the caller's transaction stays usable.
    """
    session = callers_session(session)
    capture = opaque_id("capture", capture, 40)
    customer = provider_id("customer", customer)
    if when not in ("at_once", "period"):
        raise InvalidRequest("when", "must be 'at_once' or 'period'")
    if when == "period" and (terms != NO_TERMS or correlation_id):
        raise InvalidRequest("terms" if terms != NO_TERMS else "correlation_id", "belongs to when='at_once'")
    of = _named(session, capture, account)
    common = common_arguments(f"{AT_ONCE}{of.id}", correlation_id or of.correlation_id, of.account, actor)
    row = InvoicedCapture(
        capture_id=of.id,
        account=of.account or OWN,
        customer=customer,
        currency=of.currency,
        description=Line(description, Money(100, of.currency)).description,
        at_once=when == "at_once",
    )
    if (before := session.get(InvoicedCapture, of.id, populate_existing=True)) is not None:
        return _the_same(before, row)
    if of.state != CaptureState.CAPTURED and CAPTURE.is_final(of.state):
        raise NotCaptured(of.id, of.state)
    if not of.left:
        raise InvalidRequest(of.id, "is given back as a whole, so nothing is left to invoice")
    # By the connection: a session's own savepoint would first write what the caller has pending there. An error undoes
    # the invoice, too.
    with session.connection().begin_nested():
        if row.at_once:
            _ask_at_once(session, common, row, of, terms)
        written = statements.run(session, SQL["write"], **{name: getattr(row, name) for name in _WRITTEN}).scalar()
        if written is None:
            # Another transaction has written it since it was looked for.
            return _the_same(session.get_one(InvoicedCapture, of.id, populate_existing=True), row)
    return _receipt(row, new=True)


_WRITTEN = (
    *("capture_id", "account", "customer", "currency", "description", "at_once"),
    *("invoice_id", "position", "billed_minor"),
)


def _named(session: Session, capture: str, account: str | None) -> _Taken:
    left = Capture.amount_minor - Capture.refunds_minor
    columns = (Capture.id, Capture.account, Capture.state, Capture.currency, Capture.correlation_id, left)
    found = session.execute(select(*columns).where(Capture.id == capture)).one_or_none()
    if found is None:
        raise UnknownEntity(capture)
    if account is not None and provider_id("account", account) != found.account:
        raise InvalidRequest("account", f"is not the one of the capture {capture}; leave it out")
    return _Taken(*found)


def _ask_at_once(
    session: Session, common: CommonArguments, row: InvoicedCapture, of: _Taken, terms: InvoiceTerms
) -> None:
    lines = [Line(row.description, Money(of.left, of.currency))]
    wanted = wanted_invoice(lines, AlreadyPaid(), terms=_with_total(terms, of.left), captures=[of.id])
    try:
        written, _ = write_invoice(session, common, row.customer, AlreadyPaid(), wanted, waits_for_capture=True)
    except RequestReused as error:
        # Another transaction has asked for it since it was looked for, or a restore has made it again.
        raise InvoicedOtherwise(of.id, None, error.differences) from None
    row.invoice_id, row.position, row.billed_minor = written.id, 0, written.total_minor


def _with_total(terms: InvoiceTerms, minor: int) -> InvoiceTerms:
    """Where Stripe reckons, it must come to what was taken: a tax that it would add is refused. Raises
    InvalidRequest."""
    if not isinstance(terms, InvoiceTerms):
        raise InvalidRequest("terms", f"must be billing.InvoiceTerms, not {type(terms).__name__}")
    if terms.discounts:
        raise InvalidRequest("terms", "must have no discounts: what was taken is not changed by its invoice")
    reckoned = bool(terms.tax_rates or terms.automatic_tax) and terms.total_minor is None
    return replace(terms, total_minor=minor) if reckoned else terms


def _the_same(before: InvoicedCapture, now: InvoicedCapture) -> InvoicedCaptureReceipt:
    """Raises InvoicedOtherwise, which does not repeat texts: an error is logged."""
    differing: Differing = {}
    if before.customer != now.customer:
        differing["customer"] = before.customer, now.customer
    if before.at_once != now.at_once:
        differing["when"] = _when(before), _when(now)
    if before.description not in (now.description, UNKNOWN_TEXT):
        differing["description"] = "a text", "another text"
    if differing:
        raise InvoicedOtherwise(before.capture_id, before.invoice_id, differing)
    return _receipt(before, new=False)


def _when(row: InvoicedCapture) -> Time:
    return "at_once" if row.at_once else "period"


def _receipt(row: InvoicedCapture, *, new: bool) -> InvoicedCaptureReceipt:
    invoice = None if row.invoice_id is None else ids.InvoiceId(row.invoice_id)
    return InvoicedCaptureReceipt(ids.CaptureId(row.capture_id), invoice, new)
