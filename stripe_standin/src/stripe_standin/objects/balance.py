"""The balance: its transactions, the payouts that leave it, and its sums.

What is stored of each, and how it is shown.
"""

from typing import NamedTuple

from .parts import NO_METADATA, Json, null


class BalanceTransaction(NamedTuple):
    """One entry of the ledger, in minor units: `amount` is signed, `amount - fee` moves the balance.

    `payout` is the payout that it is part of; in the API that is only a filter of the list.
    """

    id: str
    created: int
    livemode: bool
    type: str
    amount: int
    fee: int
    currency: str
    source: str
    available_on: int
    status: str = "pending"
    payout: str | None = None
    description: str | None = None
    object: str = "balance_transaction"

    @property
    def net(self) -> int:
        return self.amount - self.fee

    @property
    def metadata(self) -> dict[str, str]:
        """An entry has no metadata."""
        return NO_METADATA


class Payout(NamedTuple):
    id: str
    created: int
    livemode: bool
    amount: int
    currency: str
    arrival_date: int
    balance_transaction: str
    status: str = "in_transit"
    metadata: dict[str, str] = NO_METADATA
    object: str = "payout"


def balance_transaction(row: BalanceTransaction) -> Json:
    return {
        "id": row.id,
        "object": "balance_transaction",
        "amount": row.amount,
        "available_on": row.available_on,
        "balance_type": "payments",
        "created": row.created,
        "currency": row.currency,
        "description": row.description,
        "exchange_rate": None,
        "fee": row.fee,
        "fee_details": [_fee(row)] if row.fee else [],
        "net": row.net,
        # For the types that are modeled here, the category has the name of the type.
        "reporting_category": row.type,
        "source": row.source,
        "status": row.status,
        "type": row.type,
    }


def _fee(row: BalanceTransaction) -> Json:
    return {
        "amount": row.fee,
        "application": None,
        "currency": row.currency,
        "description": "Stripe processing fees",
        "type": "stripe_fee",
    }


_PAYOUT = {
    **null("application_fee", "application_fee_amount", "failure_balance_transaction", "failure_code"),
    **null("failure_message", "original_payout", "payout_method", "reversed_by", "statement_descriptor"),
    "automatic": True,
    "description": "STRIPE PAYOUT",
    "destination": "ba_1StandIn00000000000000000",
    "method": "standard",
    "object": "payout",
    "reconciliation_status": "completed",
    "source_type": "card",
    "type": "bank_account",
}


def payout(row: Payout) -> Json:
    return {
        **_PAYOUT,
        "id": row.id,
        "amount": row.amount,
        "arrival_date": row.arrival_date,
        "balance_transaction": row.balance_transaction,
        "created": row.created,
        "currency": row.currency,
        "livemode": row.livemode,
        "metadata": row.metadata,
        "status": row.status,
        "trace_id": {"status": "pending" if row.status == "in_transit" else "unsupported", "value": None},
    }


def balance(livemode: bool, sums: dict[str, dict[str, int]]) -> Json:
    """`sums` has minor units by status (`available`, `pending`), then by currency."""
    return {
        "object": "balance",
        "livemode": livemode,
        **{status: [_amount(*each) for each in sorted(amounts.items())] for status, amounts in sums.items()},
    }


def _amount(currency: str, amount: int) -> Json:
    return {"amount": amount, "currency": currency, "source_types": {"card": amount}}
