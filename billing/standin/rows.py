"""What is kept of each object. A row never changes: a change is a new version of it.

So an event's snapshot, or an effect's, is a reference to the version of that moment, and costs a pointer.
"""

from typing import Any, NamedTuple

Json = dict[str, Any]

# Shared by every row without metadata. Metadata is replaced, never changed in place.
NO_METADATA: dict[str, str] = {}


class Decline(NamedTuple):
    """What the bank says when it says no."""

    code: str
    decline_code: str | None
    message: str
    advice_code: str | None


class Card(NamedTuple):
    """One of Stripe's test cards."""

    brand: str
    last4: str
    funding: str = "credit"
    country: str = "US"
    decline: Decline | None = None
    refuses_attach: bool = False  # most declining cards are refused as soon as a customer wants to keep them


class Customer(NamedTuple):
    id: str
    created: int
    livemode: bool
    email: str | None
    name: str | None
    phone: str | None
    description: str | None
    address: Json | None
    metadata: dict[str, str]
    invoice_prefix: str
    next_invoice_sequence: int = 1
    object: str = "customer"


class PaymentMethod(NamedTuple):
    id: str
    created: int
    livemode: bool
    card: Card
    customer: str | None
    metadata: dict[str, str]
    object: str = "payment_method"


class Intent(NamedTuple):
    """A PaymentIntent. Amounts are in minor units."""

    id: str
    created: int
    livemode: bool
    amount: int
    currency: str
    status: str
    capture_method: str
    metadata: dict[str, str]
    customer: str | None = None
    payment_method: str | None = None
    amount_capturable: int = 0
    amount_received: int = 0
    latest_charge: str | None = None
    canceled_at: int | None = None
    cancellation_reason: str | None = None
    last_payment_error: Json | None = None
    confirmation_method: str = "automatic"
    automatic_payment_methods: Json | None = None
    description: str | None = None
    receipt_email: str | None = None
    setup_future_usage: str | None = None
    statement_descriptor: str | None = None
    statement_descriptor_suffix: str | None = None
    object: str = "payment_intent"


class Charge(NamedTuple):
    id: str
    created: int
    livemode: bool
    amount: int
    currency: str
    intent: str
    payment_method: str
    card: Card
    customer: str | None
    metadata: dict[str, str]
    status: str
    amount_captured: int = 0
    captured: bool = False
    capture_before: int | None = None
    balance_transaction: str | None = None
    description: str | None = None
    receipt_email: str | None = None
    object: str = "charge"


class Line(NamedTuple):
    id: str
    amount: int
    currency: str
    description: str | None
    quantity: int
    discountable: bool
    metadata: dict[str, str]
    period_start: int
    period_end: int
    invoice_item: str


class Invoice(NamedTuple):
    id: str
    created: int
    livemode: bool
    customer: str
    customer_email: str | None
    customer_name: str | None
    currency: str
    status: str
    collection_method: str
    auto_advance: bool
    metadata: dict[str, str]
    lines: tuple[Line, ...] = ()
    total: int = 0
    number: str | None = None
    days_until_due: int | None = None
    due_date: int | None = None
    effective_at: int | None = None
    description: str | None = None
    footer: str | None = None
    statement_descriptor: str | None = None
    finalized_at: int | None = None
    paid_at: int | None = None
    object: str = "invoice"


Row = Customer | PaymentMethod | Intent | Charge | Invoice


class Event(NamedTuple):
    """Something Stripe would tell by webhook, with the object as it was then."""

    id: str
    type: str
    created: int
    livemode: bool
    row: Row
    request_id: str | None
    key: str | None
    object: str = "event"


class Effect(NamedTuple):
    """Something that really happened: what a client believes is compared with these."""

    kind: str
    row: Row
    amount: int | None
    account: str
    created: int
    request_id: str | None
    key: str | None
