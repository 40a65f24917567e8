"""Invoice payments: which PaymentIntent pays which invoice. What is stored of each, and how it is shown."""

from typing import NamedTuple

from .parts import NO_METADATA, Json


class InvoicePayment(NamedTuple):
    """`requested` and `paid` are in minor units; `paid` is None until it is."""

    id: str
    created: int
    livemode: bool
    invoice: str
    intent: str
    currency: str
    requested: int
    status: str = "open"
    paid: int | None = None
    paid_at: int | None = None
    canceled_at: int | None = None
    is_default: bool = True
    metadata: dict[str, str] = NO_METADATA  # it has none
    object: str = "invoice_payment"


def invoice_payment(row: InvoicePayment) -> Json:
    return {
        "id": row.id,
        "object": "invoice_payment",
        "amount_paid": row.paid,
        "amount_requested": row.requested,
        "created": row.created,
        "currency": row.currency,
        "invoice": row.invoice,
        "is_default": row.is_default,
        "livemode": row.livemode,
        "payment": {"payment_intent": row.intent, "type": "payment_intent"},
        "status": row.status,
        "status_transitions": {"canceled_at": row.canceled_at, "paid_at": row.paid_at},
    }
