"""What is asked for: captures, voids, refunds, invoices with their lines, e-mails; and switches. Each has a life, and
facts. Those that came later have a file of their own in `billing/tables`.

    entity.py       what all of them have in common
    payments.py     captures, voids and refunds
    invoices.py     invoices and their lines
    emails.py       e-mails
    switches.py     switches
"""

from billing.tables.entities.emails import MAX_DATA, Email
from billing.tables.entities.entity import Entity, Requested
from billing.tables.entities.invoices import ERASED, MAX_DAYS, MAX_DESCRIPTION, MAX_LINES, Invoice, InvoiceLine
from billing.tables.entities.payments import (
    CANCELLATION_REASONS,
    MAX_CAPTURES,
    MAX_DESCRIPTOR,
    REFUND_REASONS,
    Capture,
    Refund,
    Void,
)
from billing.tables.entities.switches import Switch

__all__ = [
    "CANCELLATION_REASONS",
    "ERASED",
    "MAX_CAPTURES",
    "MAX_DATA",
    "MAX_DAYS",
    "MAX_DESCRIPTION",
    "MAX_DESCRIPTOR",
    "MAX_LINES",
    "REFUND_REASONS",
    "Capture",
    "Email",
    "Entity",
    "Invoice",
    "InvoiceLine",
    "Refund",
    "Requested",
    "Switch",
    "Void",
]
