"""Refunds: what is stored of each, and how it is shown."""

from typing import NamedTuple

from .parts import Json, null


class Refund(NamedTuple):
    """Money given back, in minor units.

    If the refund failed, `failure_balance_transaction` is the entry of its return.
    """

    id: str
    created: int
    livemode: bool
    amount: int
    currency: str
    charge: str
    intent: str
    payment_method: str
    customer: str | None
    metadata: dict[str, str]
    reason: str | None
    status: str
    balance_transaction: str
    failure_balance_transaction: str | None = None
    object: str = "refund"


_REFUND = {
    **null("customer_account", "receipt_number", "source_transfer_reversal", "transfer_reversal"),
    # As recorded: the bank's reference comes days later, if at all.
    "destination_details": {
        "card": {
            "reference_status": "pending",
            "reference_type": "acquirer_reference_number",
            "type": "refund",
        },
        "type": "card",
    },
    "object": "refund",
}


def refund(row: Refund) -> Json:
    body = {
        **_REFUND,
        "id": row.id,
        "amount": row.amount,
        "balance_transaction": row.balance_transaction,
        "charge": row.charge,
        "created": row.created,
        "currency": row.currency,
        "customer": row.customer,
        "metadata": row.metadata,
        "payment_intent": row.intent,
        "payment_method": row.payment_method,
        "reason": row.reason,
        "status": row.status,
    }
    if row.status == "pending":
        body["pending_reason"] = "processing"
    if row.status == "failed":
        body["failure_balance_transaction"] = row.failure_balance_transaction
        # From the documentation of the test card whose refunds fail.
        body["failure_reason"] = "expired_or_canceled_card"
    return body
