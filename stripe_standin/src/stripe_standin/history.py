"""What happened: events, which Stripe sends as webhooks, and effects, which are what really happened."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from .objects import Json, Row, shown

API_VERSION = "2026-10-28.endive"


class Moves(StrEnum):
    """Where an effect moves the customer's money, as seen by the account."""

    IN = "in"
    OUT = "out"
    HELD = "held"
    RELEASED = "let go"


# Every kind of effect. A capture moves money in, a refund moves it out; no other kind moves any. An invoice is paid by
# the capture of its intent, so counting both would count the money twice.
EFFECTS: Mapping[str, Moves | None] = {
    "authorization": Moves.HELD,
    "capture": Moves.IN,  # of an authorization, or of an intent that is captured at once
    "release": Moves.RELEASED,  # the rest, after the last capture
    "payment_intent.canceled": Moves.RELEASED,
    "authorization.expired": Moves.RELEASED,
    "refund": Moves.OUT,
    "refund.failed": Moves.IN,  # the bank sent the refund back
    "payout": None,  # from the account's balance to its own bank
    "payment_intent.created": None,
    "decline": None,
    "customer.created": None,
    "customer.deleted": None,
    "customer_balance": None,
    "payment_method.attached": None,
    "payment_method.detached": None,
    "invoiceitem.created": None,
    "invoiceitem.deleted": None,
    "invoice.created": None,
    "invoice.lines_added": None,
    "invoice.deleted": None,
    "invoice.finalized": None,
    "invoice.sent": None,
    "invoice.paid": None,
    "invoice.paid_out_of_band": None,
    "invoice.voided": None,
    "invoice.marked_uncollectible": None,
    "credit_note.created": None,
    "credit_note.voided": None,
}


class Event(NamedTuple):
    """An event as Stripe sends it by webhook, with the object as it was then."""

    id: str
    type: str
    created: int
    livemode: bool
    row: Row
    request_id: str | None
    key: str | None
    object: str = "event"


class Effect(NamedTuple):
    """Something that really happened. Tests compare what a client believes with these."""

    kind: str
    row: Row
    amount: int | None
    account: str
    created: int
    request_id: str | None
    key: str | None


def event(row: Event, pending: int = 0) -> Json:
    """The event as it was made. `pending` is how many of its webhooks are not delivered."""
    return {
        "id": row.id,
        "object": "event",
        "api_version": API_VERSION,
        "created": row.created,
        "data": {"object": shown(row.row)},
        "livemode": row.livemode,
        "pending_webhooks": pending,
        "request": {"id": row.request_id, "idempotency_key": row.key},
        "type": row.type,
    }
