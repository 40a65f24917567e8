"""Refunds and credit notes that only Stripe knows: see `jobs.recovery.shown_rows`. What they belong to was made before
them."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import refundable
from billing.provider_ids import IdKind, is_id
from billing.states import CaptureState, CreditNoteState, RefundState
from billing.steps import CAPTURE_KEY, INVOICE_KEY
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import Capture, Invoice, Refund
from jobs.recovery.shown import Shown, is_money


def refund_of(session: Session, shown: Shown) -> tuple[Refund, dict[str, Any]] | None:
    """Of the capture or the invoice that its metadata names; of one that an older version made, the first capture of
    this payment that has so much left. Stripe does not say whether all that was left was asked for."""
    intent, minor = shown.data.get("payment_intent"), shown.data.get("amount")
    if not is_id(IdKind.PAYMENT_INTENT, intent) or not is_money(minor):
        return None
    if INVOICE_KEY in shown.metadata:
        return _refund_of_invoice(session, shown)
    named = shown.metadata.get(CAPTURE_KEY)
    of_account = Capture.account.is_(None) if shown.account is None else Capture.account == shown.account
    enough = Capture.amount_minor - Capture.refunds_minor >= minor
    # Anybody can write anything into metadata, so what it names must be a capture of this payment.
    fits = (of_account, Capture.payment_intent == intent, Capture.state == CaptureState.CAPTURED, enough)
    found = select(Capture.id).where(*fits).order_by(Capture.id).limit(1)
    capture_id = session.scalar(found if named is None else found.where(Capture.id == str(named)))
    if capture_id is None:
        return None
    refund = Refund(
        id=shown.own,
        account=shown.account,
        request_id=shown.request_id(session, Refund),
        capture_id=capture_id,
        payment_intent=intent,
        amount_minor=minor,
        currency=shown.currency,
        state=RefundState.REQUESTED,
    )
    of = {"capture": capture_id, "payment_intent": intent, "refund_reason": None}
    return refund, shown.asked | {"minor": minor} | of


def _refund_of_invoice(session: Session, shown: Shown) -> tuple[Refund, dict[str, Any]] | None:
    minor, named = shown.data["amount"], str(shown.metadata[INVOICE_KEY])
    invoice = session.get(Invoice, named)
    if invoice is None or invoice.account != shown.account or invoice.stripe_invoice is None:
        return None
    if (refundable.left_of(session, None, named) or 0) < minor:
        return None
    refund = Refund(
        id=shown.own,
        account=shown.account,
        request_id=shown.request_id(session, Refund),
        invoice_id=named,
        stripe_invoice=invoice.stripe_invoice,
        payment_intent=shown.data["payment_intent"],
        amount_minor=minor,
        currency=shown.currency,
        state=RefundState.REQUESTED,
    )
    return refund, shown.asked | {"minor": minor, "invoice": named, "refund_reason": None}


def credit_note_of(session: Session, shown: Shown) -> tuple[CreditNote, dict[str, Any]] | None:
    """Of the invoice that its metadata names. Stripe shows by its parts what became of the amount."""
    minor = shown.data.get("amount")
    invoice = session.get(Invoice, str(shown.metadata.get(INVOICE_KEY)))
    if invoice is None or invoice.account != shown.account or not is_money(minor):
        return None
    assert isinstance(minor, int), "is_money says so"
    given = [each.get("refund") for each in shown.data.get("refunds") or ()]
    refund_id = session.scalar(select(Refund.id).where(Refund.stripe_refund == given[0])) if given else None
    settle = _settled_by(shown, refund_id)
    returns = settle != "refund"
    fits = shown.data.get("invoice") == invoice.stripe_invoice and settle is not None
    if not fits or refundable.creditable(session, invoice.id, returns=returns) < minor:
        return None
    note = CreditNote(
        id=shown.own,
        account=shown.account,
        request_id=shown.request_id(session, CreditNote),
        invoice_id=invoice.id,
        stripe_invoice=invoice.stripe_invoice,
        amount_minor=minor,
        currency=shown.currency,
        settle=settle,
        refund_id=refund_id,
        # Whether lines were named, nothing shows; the look that follows finds the note, and needs none.
        state=CreditNoteState.REQUESTED,
    )
    told = {"minor": minor, "invoice": invoice.id, "settle": settle, "credit_reason": None, "lines": None}
    return note, shown.asked | told | {"refund": refund_id}


def _settled_by(shown: Shown, refund_id: str | None) -> str | None:
    """None if it is none that we issue, or its refund is not known here."""
    if shown.data.get("pre_payment_amount"):
        return "reduce"
    if shown.data.get("refunds"):
        return "refund" if refund_id is not None else None
    return "out_of_band" if shown.data.get("out_of_band_amount") else "balance"
