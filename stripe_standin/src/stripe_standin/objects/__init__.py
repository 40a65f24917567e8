"""Every object of the API: what is stored of it (a row), and how an answer shows it (`shown`).

A row never changes: a change makes a new version of it. So the snapshot in an event or an effect is only a reference to
that version. Fields that the stand-in does not model are always null, empty or zero, and stand in a table above the
object.
"""

from collections.abc import Callable, Mapping
from typing import Any

from .balance import BalanceTransaction, Payout, balance_transaction, payout
from .catalog import Coupon, Discount, Price, TaxRate, coupon, price, tax_rate
from .credit_notes import BalanceChange, CreditNote, balance_change, credit_note
from .invoice_items import InvoiceItem, Line, Tax, invoice_item
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
    | Price
    | TaxRate
    | Coupon
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
    Price: price,
    TaxRate: tax_rate,
    Coupon: coupon,
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
    "Coupon",
    "CreditNote",
    "Customer",
    "Decline",
    "Discount",
    "Endpoint",
    "Intent",
    "Invoice",
    "InvoiceItem",
    "InvoicePayment",
    "Json",
    "Line",
    "PaymentMethod",
    "Payout",
    "Price",
    "Refund",
    "Row",
    "Secret",
    "Tax",
    "TaxRate",
    "as_list",
    "shown",
]
