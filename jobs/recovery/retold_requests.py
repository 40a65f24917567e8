"""Rows made of the fact that requested them, as it is archived; and whether there is still a place for such a row.

Not every column is in a fact. Of a request id only its digest is (`billing.request_ids`); the correlation id is the
same text unless the application gave another one, which the digest shows. An invoice's lines are not, because their
texts may name people: Stripe has them once they were added, and an invoice whose lines were not added yet is refused
when it goes on.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import refundable
from billing.capture_places import holder_of
from billing.credit_note_requests import UNKNOWN_LINES
from billing.facts import OWN
from billing.holders import void_holding
from billing.invoice_terms import ALREADY_PAID, CHARGED
from billing.states import FREES_FROM_THE_VOID, FREES_ITS_AMOUNT, FREES_THE_AUTHORIZATION, FREES_THE_CREDIT
from billing.tables.credit_notes import CreditNote
from billing.tables.documents import Document
from billing.tables.entities import Capture, Email, Entity, Invoice, Refund, Requested, Void
from billing.tables.invoice_actions import InvoiceAction
from jobs.recovery.repeats import Repeats

UNKNOWN_DAYS = 1
"""`days_until_due` of an invoice that was made again: it is in no fact. Only the call that makes a draft uses it."""

Told = Mapping[str, Any]
"""A fact, as a row of an archived batch; `payload` is read."""


def has_a_place(session: Session, row: Entity) -> bool:
    """Whether a row that was made again fits beside those that are here. Postgres would refuse it otherwise."""
    match row:
        case Capture() | Void():
            return not _is_taken(session, row)
        case Document():
            return _is_missed(session, row)
        case Refund() | CreditNote():
            return _has_room(session, row)
        case InvoiceAction():
            return _is_there(session, row)
    return True


def _is_taken(session: Session, row: Capture | Void) -> bool:
    if isinstance(row, Void):
        return (
            row.state not in FREES_FROM_THE_VOID and void_holding(session, row.account, row.payment_intent) is not None
        )
    same_place = Capture.capture_no == row.capture_no
    holder = holder_of(session, row.account, row.payment_intent, same_place)
    return row.state not in FREES_THE_AUTHORIZATION and holder is not None


def _has_room(session: Session, row: Refund | CreditNote) -> bool:
    """Whether its capture or invoice is here, and has so much left."""
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


def requested(session: Session, kind: str, told: Told, repeats: Repeats) -> Requested | None:
    """The row of an operation of this kind. None if this fact does not request it, or the archive did not take a value
    that is needed."""
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
        return None
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
