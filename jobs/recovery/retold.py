"""Rows of captures, voids, refunds, invoices and documents, made of what their archived facts tell, or brought forward
by it.

Not every column is in a fact. Of a request id only its digest is (`billing.request_ids`); the correlation id is the
same text unless the application gave another one, which the digest shows. An invoice's lines are not, because their
texts may name people: Stripe has them once they were added, and an invoice whose lines were not added yet is refused
when it goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import refundable
from billing.capture_places import holder_of
from billing.credit_note_requests import UNKNOWN_LINES
from billing.document_steps import STORED_AS
from billing.facts import OWN
from billing.holders import CAPTURED_BY, VOIDED_BY, void_holding
from billing.invoice_terms import ALREADY_PAID, CHARGED
from billing.states import (
    FREES_FROM_THE_VOID,
    FREES_ITS_AMOUNT,
    FREES_THE_AUTHORIZATION,
    FREES_THE_CREDIT,
    CaptureState,
    DocumentState,
    InvoiceState,
    set_state,
)
from billing.tables.credit_notes import CreditNote
from billing.tables.documents import Document
from billing.tables.entities import Capture, Email, Entity, Invoice, Refund, Requested, Void
from billing.tables.invoice_actions import InvoiceAction
from jobs.recovery.repeats import Repeats

UNKNOWN_DAYS = 1
"""`days_until_due` of an invoice that was made again: it is in no fact. Only the call that makes a draft uses it."""

Told = Mapping[str, Any]


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
        row = _requested(session, kind, story[0], repeats)
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
        if isinstance(row, Capture | Void) and _is_taken(session, row):
            return False
        if isinstance(row, Document) and not _is_missed(session, row):
            return False
        if isinstance(row, Refund | CreditNote) and not _has_room(session, row):
            return False
        if isinstance(row, InvoiceAction) and not _is_there(session, row):
            return False
        session.add(row)
        session.flush()
    return made or row.state != before


def _is_taken(session: Session, row: Capture | Void) -> bool:
    if isinstance(row, Void):
        return (
            row.state not in FREES_FROM_THE_VOID and void_holding(session, row.account, row.payment_intent) is not None
        )
    same_place = Capture.capture_no == row.capture_no
    holder = holder_of(session, row.account, row.payment_intent, same_place)
    return row.state not in FREES_THE_AUTHORIZATION and holder is not None


def _has_room(session: Session, row: Refund | CreditNote) -> bool:
    """Whether its capture or invoice is here, and has so much left. Postgres would refuse the row otherwise."""
    if isinstance(row, CreditNote):
        if session.get(Invoice, row.invoice_id) is None:
            return False
        if row.refund_id is not None and session.get(Refund, row.refund_id) is None:
            return False
        creditable = refundable.creditable(session, row.invoice_id, returns=row.refund_id is None)
        return row.state in FREES_THE_CREDIT or creditable >= row.amount_minor
    left = refundable.left_of(session, row.capture_id, row.invoice_id)
    return left is not None and (row.state in FREES_ITS_AMOUNT or left >= row.amount_minor)


def _is_there(session: Session, row: InvoiceAction) -> bool:
    """Whether what was to be acted on is here: the invoice, and the credit note."""
    note = row.credit_note_id
    return session.get(Invoice, row.invoice_id) is not None and (
        note is None or session.get(CreditNote, note) is not None
    )


def _is_missed(session: Session, row: Document) -> bool:
    """Whether its invoice is here, and has no document: one that was asked for again finds the stored object, too."""
    there = session.scalar(select(Document.id).where(Document.stripe_object == row.stripe_object))
    return there is None and session.get(Invoice, row.invoice_id) is not None


def _account(payload: Told) -> str | None:
    account = payload.get("account")
    return None if account == OWN else account


def _requested(session: Session, kind: str, told: Told, repeats: Repeats) -> Requested | None:
    payload = told["payload"]
    if told["topic"] != f"{kind}.requested" or kind not in _ASKED_FOR:
        return None
    table, named_by = _ASKED_FOR[kind]
    account, own, named = _account(payload), str(told["entity_id"]), named_by(payload)
    if kind == "refund" and named.pop("invoice_id", None) is not None:
        named = _of_an_invoice(session, payload)
    if kind == "credit_note":
        named["stripe_invoice"] = _at_stripe(session, payload)
    if None in named.values():
        return None  # a value that the archive did not take
    digest, known = payload.get("request_digest"), told["correlation_id"]
    return table(
        id=own,
        account=account,
        correlation_id=told["correlation_id"],
        requested_at=told["happened_at"],
        state=table.life.first,
        state_since=told["happened_at"],
        version=told["entity_version"],
        request_id=repeats.request_id(session, table, account, own, digest=digest, known=known),
        **named,
    )


def _capture_asked_for(payload: Told) -> dict[str, Any]:
    """The texts of its terms are in no fact. If it was not sent yet, it is sent without them."""
    return {
        "payment_intent": payload.get("payment_intent"),
        "amount_minor": payload.get("minor"),
        "currency": payload.get("currency"),
        "capture_no": payload.get("capture_no", 1),
        "keeps_remainder": payload.get("keeps_remainder", False),
        **{name: payload[name] for name in ("application_fee_minor", "transfer_minor") if name in payload},
    }


def _action_asked_for(payload: Told) -> dict[str, Any]:
    asked = {
        "invoice_id": payload.get("invoice"),
        "action": payload.get("action"),
        "stripe_invoice": payload.get("stripe_invoice"),
        "amount_minor": payload.get("minor"),
        "currency": payload.get("currency"),
    }
    if "credit_note" in payload:
        asked |= {"credit_note_id": payload["credit_note"], "stripe_credit_note": payload.get("stripe_credit_note")}
    method = payload.get("payment_method")
    return asked if method is None else {**asked, "payment_method": method}


def _of_an_invoice(session: Session, payload: Told) -> dict[str, Any]:
    """A refund of an invoice, which was told before it: by which payment it was paid is read again."""
    of = {"invoice_id": payload.get("invoice"), "stripe_invoice": _at_stripe(session, payload)}
    return of | {"amount_minor": payload.get("minor"), "currency": payload.get("currency")}


def _terms_of(payload: Told) -> dict[str, Any]:
    """What is known of an invoice's terms: whether Stripe reckons its total, and whether it is charged."""
    known: dict[str, Any] = {"computed": True} if payload.get("computed") else {}
    known |= {"collect": CHARGED} if payload.get("charged") else {}
    known |= {"collect": ALREADY_PAID} if payload.get("paid_already") else {}
    return {"terms": {**known, "restored": True}} if known else {}


def _at_stripe(session: Session, payload: Told) -> str | None:
    return session.scalar(select(Invoice.stripe_invoice).where(Invoice.id == payload.get("invoice")))


_ASKED_FOR: Mapping[str, tuple[type[Requested], Callable[[Told], dict[str, Any]]]] = {
    "capture": (Capture, _capture_asked_for),
    "void": (
        Void,
        lambda payload: {name: payload.get(name) for name in ("payment_intent", "cancellation_reason")},
    ),
    "refund": (
        Refund,
        lambda payload: {
            "capture_id": payload.get("capture"),
            "payment_intent": payload.get("payment_intent"),
            "amount_minor": payload.get("minor"),
            "currency": payload.get("currency"),
            "compensates": payload.get("compensates", False),
            **({"invoice_id": payload["invoice"]} if "invoice" in payload else {}),
        },
    ),
    "invoice_action": (InvoiceAction, _action_asked_for),
    "credit_note": (
        CreditNote,
        lambda payload: {
            "invoice_id": payload.get("invoice"),
            "amount_minor": payload.get("minor"),
            "currency": payload.get("currency"),
            "settle": payload.get("settle"),
            **({"refund_id": payload["refund"]} if "refund" in payload else {}),
            # Which lines it named, and its memo, are in no fact: it is not issued without them
            # (`billing.credit_notes.rule_out`).
            **({"lines": UNKNOWN_LINES} if "lines" in payload or "memo" in payload else {}),
        },
    ),
    # What it was about is in no fact, and it is not sent again: `jobs.recovery.emails_not_again`.
    "email": (
        Email,
        lambda payload: {**{name: payload.get(name) for name in ("template", "recipient")}, "data": {}},
    ),
    "document": (
        Document,
        lambda payload: {
            "invoice_id": payload.get("invoice"),
            "kind": payload.get("kind"),
            "stripe_object": payload.get("stripe_object"),
        },
    ),
    "invoice": (
        Invoice,
        lambda payload: {
            "customer": payload.get("customer"),
            "total_minor": payload.get("minor"),
            "currency": payload.get("currency"),
            # One that is charged, or paid already, is due at once.
            **({} if payload.get("charged") or payload.get("paid_already") else {"days_until_due": UNKNOWN_DAYS}),
            # Its other terms are in no fact; only the call that makes a draft uses them.
            **_terms_of(payload),
        },
    ),
}
"""What the fact that requested it says, as columns of its table; None for a value that the archive did not take."""


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
