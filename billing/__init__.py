"""Payment capture and invoicing that cannot take money twice, and can prove it.

    with Session(engine) as session, session.begin():
        receipt = billing.request_capture(session, payment_intent="pi_…", amount=billing.Money(1999, "USD"),
                                          request_id="order-42")

The wish is written in the caller's own transaction; jobs carry it out. This is the whole face that
application code needs; operators use the `billing` command.
"""

from billing.captures import Authorisation, CaptureReceipt, request_capture
from billing.errors import (
    AuthorisationTaken,
    BillingError,
    InvalidAmount,
    InvalidCurrency,
    InvalidRequest,
    InvalidText,
    RequestReused,
    UnknownEntity,
    WrongDatabase,
)
from billing.invoices import InvoiceReceipt, Line, SendInvoice, issue_invoice
from billing.money import Money
from billing.status import Status, status

__all__ = [
    "Authorisation",
    "AuthorisationTaken",
    "BillingError",
    "CaptureReceipt",
    "InvalidAmount",
    "InvalidCurrency",
    "InvalidRequest",
    "InvalidText",
    "InvoiceReceipt",
    "Line",
    "Money",
    "RequestReused",
    "SendInvoice",
    "Status",
    "UnknownEntity",
    "WrongDatabase",
    "issue_invoice",
    "request_capture",
    "status",
]
