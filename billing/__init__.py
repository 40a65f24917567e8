"""Payment capture and invoicing that cannot take money twice, and can prove it.

    with Session(engine) as session, session.begin():
        receipt = billing.request_capture(session, payment_intent="pi_…", amount=billing.Money(1999, "USD"),
                                          request_id="order-42")

The request is written in the caller's own transaction; jobs carry it out. This is the whole face that
application code needs; operators use the `billing` command.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from billing.captures import Authorization, CaptureReceipt, request_capture
    from billing.errors import (
        AuthorizationTaken,
        BillingError,
        InvalidAmount,
        InvalidCurrency,
        InvalidRequest,
        InvalidText,
        PossibleCardNumber,
        RequestReused,
        UnknownEntity,
        WrongDatabase,
        WrongSession,
    )
    from billing.invoices import InvoiceReceipt, Line, SendInvoice, issue_invoice
    from billing.money import Money
    from billing.standing import Status, status

# Loaded when they are asked for: whoever wants `stripe_standin` only need not pay for SQLAlchemy. No name here may
# be a room's, too: the import system would put the room in its place.
_ROOMS = {
    "billing.captures": ("Authorization", "CaptureReceipt", "request_capture"),
    "billing.errors": (
        "AuthorizationTaken",
        "BillingError",
        "InvalidAmount",
        "InvalidCurrency",
        "InvalidRequest",
        "InvalidText",
        "PossibleCardNumber",
        "RequestReused",
        "UnknownEntity",
        "WrongDatabase",
        "WrongSession",
    ),
    "billing.invoices": ("InvoiceReceipt", "Line", "SendInvoice", "issue_invoice"),
    "billing.money": ("Money",),
    "billing.standing": ("Status", "status"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "Authorization",
    "AuthorizationTaken",
    "BillingError",
    "CaptureReceipt",
    "InvalidAmount",
    "InvalidCurrency",
    "InvalidRequest",
    "InvalidText",
    "InvoiceReceipt",
    "Line",
    "Money",
    "PossibleCardNumber",
    "RequestReused",
    "SendInvoice",
    "Status",
    "UnknownEntity",
    "WrongDatabase",
    "WrongSession",
    "issue_invoice",
    "request_capture",
    "status",
]


def __getattr__(name: str) -> Any:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module 'billing' has no attribute {name!r}")
    return getattr(import_module(room), name)
