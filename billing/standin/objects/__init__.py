"""Every object of the API: what is kept of it (a row), and how it looks in an answer (`shown`).

A row never changes: a change is a new version of it. So an event's snapshot, or an effect's, is a reference
to the version of that moment, and costs a pointer. What the stand-in does not model is constant in an
object's look, and stands in a table above it: null, empty or zero.
"""

from collections.abc import Callable, Mapping
from typing import Any

from .invoices import Invoice, Line, invoice
from .parts import NO_METADATA, Json, as_list
from .payments import Charge, Intent, charge, intent
from .people import Card, Customer, Decline, PaymentMethod, customer, payment_method

Row = Customer | PaymentMethod | Intent | Charge | Invoice

LOOKS: Mapping[type[Row], Callable[[Any], Json]] = {
    Customer: customer,
    PaymentMethod: payment_method,
    Intent: intent,
    Charge: charge,
    Invoice: invoice,
}


def shown(row: Row) -> Json:
    """The object as the API shows it."""
    return LOOKS[type(row)](row)


__all__ = [
    "NO_METADATA",
    "Card",
    "Charge",
    "Customer",
    "Decline",
    "Intent",
    "Invoice",
    "Json",
    "Line",
    "PaymentMethod",
    "Row",
    "as_list",
    "shown",
]
