"""Asking for something to be done with an invoice that has its number, or with a credit note of it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import ids, request_ids, row_io
from billing.asking import callers_session, common_arguments, write_once, written_before
from billing.errors import NoLongerOpen, NotFinalized, NotIssued, UnknownEntity
from billing.facts import new_fact
from billing.provider_ids import provider_id
from billing.states import INVOICE, CreditNoteState, InvoiceState
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import Invoice
from billing.tables.invoice_actions import (
    MARK_PAID,
    MARK_UNCOLLECTIBLE,
    PAY,
    VOID,
    VOID_CREDIT_NOTE,
    InvoiceAction,
)
from billing.texts import opaque_id

TOO_LATE: dict[str, str] = {
    InvoiceState.PAID: "already_paid",
    InvoiceState.VOIDED: "already_voided",
    InvoiceState.UNCOLLECTIBLE: "already_uncollectible",
    InvoiceState.REFUSED: "invoice_refused",
}
"""By the invoice's state, why an action is impossible; but what was given up may still be paid, or voided."""


@dataclass(frozen=True, slots=True)
class InvoiceActionReceipt:
    """What was requested, true once the caller's transaction commits. `new` is False if it was requested before."""

    action_id: ids.InvoiceActionId
    invoice_id: ids.InvoiceId
    request_id: str
    new: bool


def pay_invoice(
    session: Session,
    *,
    invoice: str,
    payment_method: str | None = None,
    request_id: str,
    correlation_id: str | None = None,
    actor: str = "application",
) -> InvoiceActionReceipt:
    """Ask, inside the caller's own transaction, for an invoice to be charged once: `payment_method` (pm_...), or
    without it the invoice's own, or the customer's default one. It ends as `done`, or as `declined` with the issuer's
    code.

    `invoice` (inv_...) has its number, and is not paid, voided or refused; it may be given up. The same `request_id`
    again returns the same receipt, and never charges again; to charge again is another request id.

    Raises RequestReused (same request id, another action, invoice or method), UnknownEntity, NotFinalized,
    NoLongerOpen, and InvalidRequest; nothing is written then, and the caller's transaction stays usable.
    """
    method = None if payment_method is None else provider_id("payment_method", payment_method)
    return _ask(session, PAY, invoice, request_id, correlation_id, actor, method)


def mark_invoice_paid(
    session: Session, *, invoice: str, request_id: str, correlation_id: str | None = None, actor: str = "application"
) -> InvoiceActionReceipt:
    """Ask for an invoice to be marked as paid out of band: the money came in another way, and nothing is charged. As
    `pay_invoice` otherwise."""
    return _ask(session, MARK_PAID, invoice, request_id, correlation_id, actor)


def void_invoice(
    session: Session, *, invoice: str, request_id: str, correlation_id: str | None = None, actor: str = "application"
) -> InvoiceActionReceipt:
    """Ask for an invoice to be voided: it keeps its number, and cannot be paid any more. As `pay_invoice` otherwise.

    Of a payment and a void at the same time Stripe carries out one; the other ends as `refused`, and says why."""
    return _ask(session, VOID, invoice, request_id, correlation_id, actor)


def mark_invoice_uncollectible(
    session: Session, *, invoice: str, request_id: str, correlation_id: str | None = None, actor: str = "application"
) -> InvoiceActionReceipt:
    """Ask for an invoice to be given up: it counts as bad debt at Stripe, and may still be paid or voided. As
    `pay_invoice` otherwise."""
    return _ask(session, MARK_UNCOLLECTIBLE, invoice, request_id, correlation_id, actor)


def void_credit_note(
    session: Session,
    *,
    credit_note: str,
    request_id: str,
    correlation_id: str | None = None,
    actor: str = "application",
) -> InvoiceActionReceipt:
    """Ask for a credit note (crn_...) to be voided: what it took off its invoice is due again. As `pay_invoice`
    otherwise.

    Stripe voids a note of an open invoice only: what was given back after a payment cannot be taken again. If the
    customer pays first, the request ends as `refused`, and the note stays.

    Raises RequestReused, UnknownEntity, NotIssued (it is not issued yet, voided or refused), NoLongerOpen (its invoice
    is paid, voided or given up), and InvalidRequest; nothing is written then.
    """
    session = callers_session(session)
    own = opaque_id("credit_note", credit_note, 40)
    columns = (CreditNote.id, CreditNote.invoice_id, CreditNote.state, CreditNote.stripe_credit_note)
    note = session.execute(select(*columns, CreditNote.amount_minor).where(CreditNote.id == own)).one_or_none()
    if note is None:
        raise UnknownEntity(own)
    return _ask(session, VOID_CREDIT_NOTE, note.invoice_id, request_id, correlation_id, actor, note=note)


def _ask(
    session: Session,
    action: str,
    invoice: str,
    request_id: str,
    correlation_id: str | None,
    actor: str,
    payment_method: str | None = None,
    note: Any = None,
) -> InvoiceActionReceipt:
    session = callers_session(session)
    invoice_id = opaque_id("invoice", invoice, 40)
    of = session.execute(_OF_AN_INVOICE.where(Invoice.id == invoice_id)).one_or_none()
    if of is None:
        raise UnknownEntity(invoice_id)
    common = common_arguments(request_id, correlation_id, of.account, actor)
    parameters = {"invoice_id": invoice_id, "action": action, "payment_method": payment_method}
    parameters |= {"credit_note_id": note.id} if note is not None else {}
    # Asked for again, it is the same request, whatever became of the invoice since.
    if (before := written_before(session, InvoiceAction, common, parameters, lambda _first: {})) is not None:
        return _receipt(before, new=False)
    if of.number is None and not INVOICE.is_final(of.state):
        raise NotFinalized(invoice_id, of.state)
    if (of.stripe_invoice is None or of.number is None) or too_late(action, of.state) is not None:
        raise NoLongerOpen(invoice_id, of.state, action)
    if note is not None and note.state != CreditNoteState.ISSUED:
        raise NotIssued(note.id, note.state)
    row = InvoiceAction(id=ids.new("iac"), correlation_id=common.correlation_id)
    total = of.total_minor if of.reckoned_minor is None else of.reckoned_minor
    total = total if note is None else note.amount_minor
    as_it_has_them = {"stripe_invoice": of.stripe_invoice, "amount_minor": total, "currency": of.currency}
    as_it_has_them |= {"stripe_credit_note": note.stripe_credit_note} if note is not None else {}
    written = write_once(session, row, common, parameters, further=as_it_has_them)
    assert written is not None, "nothing but its request id makes an action unique"
    if written is not row:
        return _receipt(written, new=False)
    requested = new_fact(
        row,
        "requested",
        actor=common.actor,
        traceparent=common.traceparent,
        action=action,
        invoice=invoice_id,
        stripe_invoice=of.stripe_invoice,
        minor=total,
        currency=of.currency,
        payment_method=payment_method,
        account=common.account,
        request_digest=request_ids.digest_of(common.request_id),
    )
    if note is not None:
        requested.payload |= {"credit_note": note.id, "stripe_credit_note": note.stripe_credit_note}
    row_io.save(session, (), [requested])
    return InvoiceActionReceipt(ids.InvoiceActionId(row.id), ids.InvoiceId(invoice_id), common.request_id, new=True)


_OF_AN_INVOICE = select(
    Invoice.account,
    Invoice.state,
    Invoice.stripe_invoice,
    Invoice.number,
    Invoice.total_minor,
    Invoice.reckoned_minor,
    Invoice.currency,
)


def _receipt(row: InvoiceAction, *, new: bool) -> InvoiceActionReceipt:
    return InvoiceActionReceipt(ids.InvoiceActionId(row.id), ids.InvoiceId(row.invoice_id), row.request_id, new)


def too_late(action: str, state: str) -> str | None:
    """Why this action is impossible for an invoice in this state; None if it is possible, as far as is known here."""
    if state == InvoiceState.UNCOLLECTIBLE and action not in (MARK_UNCOLLECTIBLE, VOID_CREDIT_NOTE):
        return None
    return TOO_LATE.get(state)
