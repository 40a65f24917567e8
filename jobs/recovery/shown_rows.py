"""Rows of operations that only Stripe knows, made of what it shows of them; here those of captures and voids.

Stripe shows the digest of the application's request id, and little more of what was asked for.
"""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy.orm import Session

from billing import invoice_actions, voids
from billing.capture_places import LEAVES_NOTHING, holder_of, next_place
from billing.capture_requests import tell_terms
from billing.facts import new_fact
from billing.holders import void_holding
from billing.invoice_requests import FOR_NEWER_WORKERS
from billing.invoice_terms import is_charged
from billing.provider_ids import IdKind, is_id
from billing.refund_requests import OF_AN_INVOICE
from billing.request_ids import RECOVERED
from billing.states import CaptureState, CreditNoteState, InvoiceActionState, RefundState, VoidState
from billing.steps import Json
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import CANCELLATION_REASONS, Capture, Entity, Invoice, Refund, Requested, Void
from billing.tables.facts import Fact
from billing.tables.invoice_actions import InvoiceAction
from jobs.recovery.repeats import Repeats
from jobs.recovery.shown import Shown, is_money
from jobs.recovery.shown_invoices import action_on, invoice_of
from jobs.recovery.shown_refunds import credit_note_of, refund_of


def made_of(
    session: Session, own: str, account: str | None, data: Json, repeats: Repeats, steps: Collection[str] = ()
) -> tuple[Capture | Void | Refund | Invoice | InvoiceAction | CreditNote, dict[str, Any]] | None:
    """The row of the operation with this id, and the payload of the fact that requests it. None if what Stripe shows is
    not enough. `steps`: the calls of it that Stripe shows."""
    shown = Shown(own, account, data, steps, repeats)
    if own.startswith(f"{invoice_actions.OPERATION.prefix}_"):
        return action_on(session, shown)
    match data.get("object"):
        case "credit_note":
            return credit_note_of(session, shown)
        case "refund":
            return refund_of(session, shown)
    if _is_void(own):
        return _void_of(shown)
    return _capture_of(session, shown) or invoice_of(session, shown)


def _capture_of(session: Session, shown: Shown) -> tuple[Capture, dict[str, Any]] | None:
    intent, minor = shown.data.get("id"), shown.data.get("amount_received")
    if not (is_id(IdKind.PAYMENT_INTENT, intent) and is_money(minor)):
        return None
    # What Stripe received is the sum of all captures of this authorization; those before it are known again.
    number, before = next_place(session, shown.account, str(intent))
    assert isinstance(minor, int), "is_money says so"
    minor -= before
    if minor <= 0:
        return None
    capture = Capture(
        id=shown.own,
        account=shown.account,
        request_id=shown.request_id(session, Capture),
        payment_intent=intent,
        capture_no=number,
        keeps_remainder=shown.data.get("status") == "requires_capture",
        amount_minor=minor,
        currency=shown.currency,
        # At least so much was authorized.
        authorized_minor=minor,
        authorized_currency=shown.currency,
        state=CaptureState.REQUESTED,
    )
    of = {"minor": minor, "payment_intent": intent, "authorized": True, "capture_before": None}
    return capture, shown.asked | of


def _is_void(own: str) -> bool:
    return own.startswith(f"{voids.OPERATION.prefix}_")


def _void_of(shown: Shown) -> tuple[Void, dict[str, Any]] | None:
    """A cancel takes no metadata, so nothing shows the application's request id: if it asks again, it is told that the
    authorization belongs to this void."""
    intent, why, amount = (shown.data.get(name) for name in ("id", "cancellation_reason", "amount"))
    if not is_id(IdKind.PAYMENT_INTENT, intent) or why not in CANCELLATION_REASONS or not is_money(amount):
        return None
    void = Void(
        id=shown.own,
        account=shown.account,
        request_id=f"{RECOVERED}{shown.own}",
        payment_intent=intent,
        cancellation_reason=why,
        # At most so much was held.
        held_minor=amount,
        currency=shown.currency,
        state=VoidState.REQUESTED,
    )
    return void, {"payment_intent": intent, "cancellation_reason": why, "account": shown.account}


def requested(row: Requested, actor: str, asked: Mapping[str, Any]) -> Fact:
    """The fact that requests it, with what `made_of` says."""
    fact = new_fact(row, "requested", actor=actor, **asked)
    if isinstance(row, Capture):
        tell_terms(fact, row)
    elif isinstance(row, Refund) and row.invoice_id is not None:
        fact.version = OF_AN_INVOICE
    elif isinstance(row, Invoice) and is_charged(row):
        fact.version, fact.payload = FOR_NEWER_WORKERS, {**fact.payload, "charged": True}
    return fact


def ended_without_effect(row: Entity) -> bool:
    """Whether this final row says that nothing was taken, or given back."""
    if isinstance(row, Void):
        return row.state != VoidState.VOIDED
    if isinstance(row, Refund):
        return row.state == RefundState.REFUSED
    if isinstance(row, InvoiceAction):
        return row.state == InvoiceActionState.REFUSED
    if isinstance(row, CreditNote):
        return row.state == CreditNoteState.REFUSED
    return isinstance(row, Capture) and row.state != CaptureState.CAPTURED


def is_taken(session: Session, own: str, account: str | None, data: Json) -> bool:
    """Whether another one of its kind has the authorization that this one has taken or given back, and leaves nothing
    of it."""
    intent = data.get("id")
    if not is_id(IdKind.PAYMENT_INTENT, intent):
        return False
    if _is_void(own):
        return void_holding(session, account, str(intent)) is not None
    return holder_of(session, account, str(intent), LEAVES_NOTHING) is not None
