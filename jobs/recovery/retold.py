"""Rows of operations brought forward by what their archived facts tell, or made anew by it.

How a row is made of the fact that requested it: `jobs.recovery.retold_requests`.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from billing.document_steps import STORED_AS
from billing.holders import CAPTURED_BY, VOIDED_BY
from billing.states import CaptureState, DocumentState, InvoiceState, set_state
from billing.tables.credit_notes import CreditNote
from billing.tables.documents import Document
from billing.tables.entities import Capture, Email, Entity, Invoice, Refund, Void
from billing.tables.invoice_actions import InvoiceAction
from jobs.recovery.repeats import Repeats
from jobs.recovery.retold_requests import Told, has_a_place, requested


def tell(
    session: Session, row: Entity | None, kind: str, story: Sequence[Told], version: int, repeats: Repeats
) -> bool:
    """Apply these facts of one entity, in their order. True if its row was made or changed.

    `version`: the number of its newest fact, from which the next one counts. No row is made without the fact that
    requested it, or if another one of its kind has the authorization by now, or other refunds what was left of the
    capture or the invoice.
    """
    made = row is None
    if row is None and story:
        row = requested(session, kind, story[0], repeats)
    if row is None:
        return False
    before = row.state
    for each in story:
        topic, payload = str(each["topic"]).partition(".")[2], each["payload"]
        if isinstance(row, Capture):
            _tell_capture(row, topic, payload, each["happened_at"])
        elif isinstance(row, Void):
            _tell_void(row, topic, payload, each["happened_at"])
        elif isinstance(row, Refund):
            _tell_refund(row, topic, payload, each["happened_at"])
        elif isinstance(row, Invoice):
            _tell_invoice(row, topic, payload, each["happened_at"])
        elif isinstance(row, InvoiceAction):
            _forward(row, topic, payload, each["happened_at"])
        elif isinstance(row, CreditNote):
            _tell_credit_note(row, topic, payload, each["happened_at"])
        elif isinstance(row, Email):
            _tell_email(row, topic, payload, each["happened_at"])
        elif isinstance(row, Document):
            _tell_document(row, topic, payload, each["happened_at"])
    row.version = version
    if made:
        if not has_a_place(session, row):
            return False
        session.add(row)
        session.flush()
    return made or row.state != before


def _tell_capture(row: Capture, topic: str, payload: Told, at: datetime) -> None:
    if topic == "authorization_read":
        row.authorized_minor, row.authorized_currency = payload.get("minor"), payload.get("currency")
        before = payload.get("capture_before")
        row.capture_before = datetime.fromisoformat(before) if before else None
    elif _forward(row, topic, payload, at) and topic == CaptureState.CAPTURED:
        row.charge = payload.get("charge")


def _tell_void(row: Void, topic: str, payload: Told, at: datetime) -> None:
    if topic == "hold_read":
        row.held_minor, row.currency = payload.get("minor"), payload.get("currency")
    else:
        _forward(row, topic, payload, at)


def _tell_refund(row: Refund, topic: str, payload: Told, at: datetime) -> None:
    if topic == "requested":
        row.all_left, row.refund_reason = payload.get("all_left"), payload.get("refund_reason")
    elif _forward(row, topic, payload, at):
        row.stripe_refund = payload.get("stripe_refund") or row.stripe_refund
        row.payment_intent = payload.get("payment_intent") or row.payment_intent


def _tell_invoice(row: Invoice, topic: str, payload: Told, at: datetime) -> None:
    row.paid_minor = payload.get("paid_minor") or row.paid_minor
    row.attempts = payload.get("attempts") or row.attempts
    if topic == "reopened":
        topic = InvoiceState.FINALIZED if row.number else InvoiceState.REQUESTED
    if not _forward(row, topic, payload, at):
        return
    if topic == InvoiceState.REQUESTED:
        row.stripe_invoice = row.create_generation = None
    row.stripe_invoice = payload.get("stripe_invoice") or row.stripe_invoice
    row.create_generation = payload.get("generation") or row.create_generation
    row.number = payload.get("number") or row.number
    if topic == InvoiceState.LINES_ADDED and "tax_minor" in payload:
        row.reckoned_minor, row.subtotal_minor = payload["minor"], payload["subtotal_minor"]
        row.discount_minor, row.tax_minor = payload["discount_minor"], payload["tax_minor"]


def _tell_credit_note(row: CreditNote, topic: str, payload: Told, at: datetime) -> None:
    if topic == "requested":
        row.credit_reason = payload.get("credit_reason")
    elif _forward(row, topic, payload, at):
        row.stripe_credit_note = payload.get("stripe_credit_note") or row.stripe_credit_note
        row.number = payload.get("number") or row.number


def _tell_email(row: Email, topic: str, payload: Told, at: datetime) -> None:
    if topic == "requested":
        row.locale = payload.get("locale")
    elif _forward(row, topic, payload, at):
        row.provider_message = payload.get("provider_message") or row.provider_message


def _tell_document(row: Document, topic: str, payload: Told, at: datetime) -> None:
    if topic == "reopened":
        topic = DocumentState.REQUESTED
    if topic == DocumentState.STORED:
        if any(payload.get(name) is None for name in STORED_AS):
            return  # it is fetched again, and finds what is stored
        for name in STORED_AS:
            value = payload[name]
            setattr(row, name, datetime.fromisoformat(value) if name == "locked_until" else value)
    _forward(row, topic, payload, at)


def _forward(row: Entity, state: str, payload: Told, at: datetime) -> bool:
    """Move the row to this state. False if that cannot come after its own in any number of transitions: a look may have
    found here, since the restore, more than the archive tells."""
    ways: dict[str, list[str]] = {row.state: []}
    following = [row.state]
    for start in following:
        for begin, end in sorted(row.life.legal):
            if begin == start and end not in ways:
                ways[end] = [*ways[start], end]
                following.append(end)
    way = ways.get(state)
    if not way:
        return False
    for each in way:
        set_state(row, each)
    row.state_since, row.reason = at, payload.get("why")
    if row.reason in (CAPTURED_BY, VOIDED_BY) and payload.get("winner"):
        row.reason = f"{row.reason}: {payload['winner']}"
    return True
