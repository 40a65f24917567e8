"""Which fields of Stripe's answers are kept: the names on one list, each with the shape that its value must have.

Nothing about a person is on the list, and no text on it can be a sentence, a card number or one of Stripe's secrets.
So nothing that is made of an answer later (a reason, a fact, a log line, the kept answer) can hold anything else.
Stripe's own log has the rest, under the request id.
"""

import json
from collections.abc import Mapping
from typing import Any

from billing.provider_ids import IdKind
from billing.request_ids import REQUEST_KEY, is_digest
from billing.shapes import Shape, code, id_of, invoice_number, like, whole, yes_or_no
from billing.timing import EARLIEST, LATEST

UNREADABLE = "unreadable"
"""Replaces an invoice's number of an unknown shape: that it has a number shows that it was finalized."""
SOMEBODY_ELSES = "somebody_elses"
"""Replaces a value of metadata that is not ours: that it exists matters, and its content must not be kept."""


def _time(value: Any) -> bool:
    """Seconds since 1970, as Stripe writes times."""
    return whole(value) and EARLIEST.timestamp() <= value < LATEST.timestamp()


_id = id_of(IdKind.CHARGE)

SHAPES: dict[str, Shape] = {
    # Of an event about a connected account.
    "account": id_of(IdKind.ACCOUNT),
    "amount": whole,
    "amount_capturable": whole,
    "amount_captured": whole,
    # Of an invoice, or of a payment of it.
    "amount_paid": whole,
    "amount_paid_off_stripe": whole,
    "amount_received": whole,
    "amount_refunded": whole,
    "amount_remaining": whole,
    "attempt_count": whole,
    "attempted": yes_or_no,
    "available_on": _time,
    "billing_capture": like(r"cap_[A-Za-z0-9_]{1,36}"),
    "billing_collect": like(r"already_paid"),
    "billing_invoice": like(r"inv_[A-Za-z0-9_]{1,36}"),
    "billing_line": like(r"\d{1,4}"),
    "billing_operation": like(r"[a-z]{3}_[A-Za-z0-9_]{1,36}"),
    "billing_request": is_digest,
    "canceled_at": _time,
    "cancellation_reason": code,
    "capture_before": _time,
    "charge": _id,
    "code": code,
    "collection_method": code,
    "created": _time,
    "currency": like(r"[a-z]{3}"),
    "customer": _id,
    "customer_balance_transaction": _id,
    "decline_code": code,
    "default_payment_method": id_of(IdKind.PAYMENT_METHOD),
    # Only that there is none.
    "customer_email": lambda value: value is None,
    "deleted": yes_or_no,
    "due_date": _time,
    "enabled": yes_or_no,
    "fee": whole,
    "failure_reason": code,
    "finalized_at": _time,
    "has_more": yes_or_no,
    "id": _id,
    # Compared with ours, which look like this whatever the service is called.
    "idempotency_key": like(r"[a-z0-9][A-Za-z0-9_:.-]{0,254}"),
    "latest_charge": _id,
    "livemode": yes_or_no,
    "net": whole,
    "number": invoice_number,
    "object": code,
    "paid_at": _time,
    "out_of_band_amount": whole,
    "param": like(r"[a-z][a-z0-9_\[\]]{0,79}"),
    # Objects that are named, and not expanded.
    **dict.fromkeys(("payment_intent", "invoice"), _id),
    "price": like(r"price_[A-Za-z0-9_]{1,200}"),
    "quantity": whole,
    "refund": _id,
    "source": _id,
    "pending_reason": code,
    "post_payment_amount": whole,
    "post_payment_credit_notes_amount": whole,
    "pre_payment_amount": whole,
    # Of a draft, what the customer has at Stripe: below zero, a credit.
    "starting_balance": whole,
    "status": code,
    "subtotal": whole,
    "tax_behavior": code,
    "total": whole,
    # A code, or the type of an event: `invoice.paid`.
    "type": like(r"[a-z][a-z0-9_]{0,79}(?:\.[a-z0-9_]{1,40}){0,5}"),
}
CONTAINERS = frozenset(
    {
        *(
            "automatic_tax",
            "card",
            "charge",
            "data",
            "error",
            "invoice",
            "latest_charge",
            "lines",
            "metadata",
            "object",
        ),
        *("price_details", "pricing", "total_discount_amounts", "total_taxes"),
        *("last_payment_error", "payment", "payments"),
        *("multicapture", "payment_intent", "payment_method_details", "refunds", "request", "source"),
        "status_transitions",
    }
)
"""Names of objects and of lists of objects; the listed names inside them are kept, too."""


def excerpt(body: bytes) -> dict[str, Any] | None:
    """The listed fields of this body; None if it is no JSON object. A listed name with a value of another shape is left
    out, as if Stripe had not sent it."""
    try:
        data = json.loads(body)
        return _of(data) if isinstance(data, dict) else None
    except (ValueError, RecursionError):
        return None


def encoded(data: Mapping[str, Any]) -> bytes:
    """As it is stored: JSON without blanks."""
    return json.dumps(data, separators=(",", ":")).encode()


def _of(data: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, dict) and name in CONTAINERS:
            kept[name] = _metadata(value) if name == "metadata" else _of(value)
        elif isinstance(value, list) and name in CONTAINERS:
            # One item for each, so that the list keeps its length.
            kept[name] = [_of(item) if isinstance(item, dict) else {} for item in value]
        elif name in SHAPES and SHAPES[name](value):
            kept[name] = value
        elif name == "number" and value is not None:
            kept[name] = UNREADABLE
    return kept


def _metadata(value: Mapping[str, Any]) -> dict[str, Any]:
    """Our own names only. If another program wrote a value of another shape under one, `SOMEBODY_ELSES` replaces it."""
    ours = ("billing_operation", "billing_line", REQUEST_KEY, "billing_capture", "billing_invoice", "billing_collect")
    return {name: value[name] if SHAPES[name](value[name]) else SOMEBODY_ELSES for name in ours if name in value}
