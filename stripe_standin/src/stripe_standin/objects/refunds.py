"""Refunds: what is kept of each, and how it looks."""

from typing import NamedTuple

from .parts import Json, null


class Refund(NamedTuple):
    """Money given back, in minor units. One that failed came back: `failure_balance_transaction` says so."""

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
    told = {
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
        told["pending_reason"] = "processing"
    if row.status == "failed":
        told["failure_balance_transaction"] = row.failure_balance_transaction
        # What the documentation of test cards says of the one whose refunds fail.
        told["failure_reason"] = "expired_or_canceled_card"
    return told
