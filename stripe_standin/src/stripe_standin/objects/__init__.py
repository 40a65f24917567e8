"""Every object of the API: what is kept of it (a row), and how it looks in an answer (`shown`).

A row never changes: a change is a new version of it. So an event's snapshot, or an effect's, is a reference
to the version of that moment, and costs a pointer. What the stand-in does not model is constant in an
object's look, and stands in a table above it: null, empty or zero.
"""

from collections.abc import Callable, Mapping
from typing import Any

from .balance import BalanceTransaction, Payout, balance_transaction, payout
from .credit_notes import BalanceChange, CreditNote, balance_change, credit_note
from .invoice_items import InvoiceItem, Line, invoice_item
from .invoice_payments import InvoicePayment, invoice_payment
from .invoices import Invoice, invoice
from .parts import NO_METADATA, Json, as_list
from .payments import AUTOMATIC, Charge, Intent, charge, intent
from .people import Card, Customer, Decline, PaymentMethod, customer, payment_method
from .refunds import Refund, refund
from .webhooks import Endpoint, Secret, endpoint

Row = (
    Customer
    | PaymentMethod
    | Intent
    | Charge
    | Refund
    | BalanceTransaction
    | Payout
    | Invoice
    | Endpoint
    | InvoiceItem
    | InvoicePayment
    | CreditNote
    | BalanceChange
)

LOOKS: Mapping[type[Row], Callable[[Any], Json]] = {
    Customer: customer,
    PaymentMethod: payment_method,
    Intent: intent,
    Charge: charge,
    Refund: refund,
    BalanceTransaction: balance_transaction,
    Payout: payout,
    Invoice: invoice,
    InvoiceItem: invoice_item,
    InvoicePayment: invoice_payment,
    CreditNote: credit_note,
    BalanceChange: balance_change,
    Endpoint: endpoint,
}


def shown(row: Row) -> Json:
    """The object as the API shows it."""
    return LOOKS[type(row)](row)


__all__ = [
    "AUTOMATIC",
    "NO_METADATA",
    "BalanceChange",
    "BalanceTransaction",
    "Card",
    "Charge",
    "CreditNote",
    "Customer",
    "Decline",
    "Endpoint",
    "Intent",
    "Invoice",
    "InvoiceItem",
    "InvoicePayment",
    "Json",
    "Line",
    "PaymentMethod",
    "Payout",
    "Refund",
    "Row",
    "Secret",
    "as_list",
    "shown",
]
