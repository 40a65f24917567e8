"""Customers and their payment methods, as far as authorisations and invoices need them; and the account."""

from . import cards, errors, shapes
from .call import Call
from .parameters import Table, expand, merged, metadata, nested, one_of, short_text, text
from .rows import NO_METADATA, Card, Customer, Json, PaymentMethod

_ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")
_address = nested(Table(dict.fromkeys(_ADDRESS, text)))

ACCOUNT = Table({"expand": expand()})
CREATE = Table(
    {
        "address": _address,
        "description": text,
        "email": short_text(512),
        "metadata": metadata,
        "name": short_text(256),
        "phone": short_text(20),
        "payment_method": text,
        "expand": expand(),
    }
)
GET = Table({"expand": expand()})
METHOD_CREATE = Table(
    {
        "type": one_of("card"),
        "card": nested(Table({"token": text, "number": text, "exp_month": text, "exp_year": text, "cvc": text})),
        "metadata": metadata,
        "expand": expand("customer"),
    },
    required=("type", "card"),
)
METHOD_ATTACH = Table({"customer": text, "expand": expand("customer")}, required=("customer",))
METHOD_GET = Table({"expand": expand("customer")})


def account(call: Call) -> Json:
    return shapes.account(call.books.account)


def create(call: Call) -> Json:
    asked = call.params
    customer_id = call.world.new_id("cus")
    method = None
    if asked.get("payment_method"):
        method = _attachable(call, asked["payment_method"], "payment_method")
    customer = Customer(
        id=customer_id,
        created=call.now,
        livemode=call.books.livemode,
        email=asked.get("email"),
        name=asked.get("name"),
        phone=asked.get("phone"),
        description=asked.get("description"),
        address=asked.get("address"),
        metadata=merged(NO_METADATA, asked.get("metadata")),
        invoice_prefix=customer_id[-8:].upper(),
    )
    call.books.customers.put(customer)
    call.event("customer.created", customer)
    call.effect("customer.created", customer)
    if method is not None:
        _keep(call, method, customer_id)
    return shapes.customer(customer)


def get(call: Call) -> Json:
    return shapes.customer(call.books.find(call.books.customers, call.ids[0], "id"))


def method_create(call: Call) -> Json:
    asked = call.params["card"]
    card = cards.by_token(asked.get("token") or "") or cards.by_number(asked.get("number") or "")
    if call.books.livemode:
        raise errors.card_declined(cards.TEST_CARD_IN_LIVE_MODE)
    if card is None:
        raise errors.bad_request(
            "The stand-in knows Stripe's published test cards only: give card[token]=tok_visa or a test number.",
            "card",
        )
    return shapes.payment_method(new_method(call, card, merged(NO_METADATA, call.params.get("metadata"))))


def method_attach(call: Call) -> Json:
    customer = call.books.find(call.books.customers, call.params["customer"], "customer", status=400)
    return shapes.payment_method(_keep(call, _attachable(call, call.ids[0], "payment_method"), customer.id))


def method_get(call: Call) -> Json:
    return shapes.payment_method(call.books.find(call.books.payment_methods, call.ids[0], "payment_method"))


def new_method(call: Call, card: Card, labels: dict[str, str] = NO_METADATA) -> PaymentMethod:
    return call.books.payment_methods.put(
        PaymentMethod(call.world.new_id("pm"), call.now, call.books.livemode, card, None, labels)
    )


def method_for_payment(call: Call, named: str, customer: str | None) -> PaymentMethod:
    """The payment method `named`, or a new one for a token such as pm_card_visa. Raises if it is another's."""
    card = cards.by_token(named)
    if card is not None and not call.books.livemode:
        return new_method(call, card)
    method = call.books.find(call.books.payment_methods, named, "payment_method", status=400)
    if method.customer is not None and method.customer != customer:
        raise errors.wrong_state(
            "The customer does not have a payment method with the ID "
            f"{named}. The payment method must belong to the customer.",
            param="payment_method",
        )
    return method


def _attachable(call: Call, named: str, param: str) -> PaymentMethod:
    card = cards.by_token(named)
    if card is not None and not call.books.livemode:
        method = PaymentMethod(call.world.new_id("pm"), call.now, call.books.livemode, card, None, NO_METADATA)
    else:
        method = call.books.find(call.books.payment_methods, named, param, status=404)
    if method.customer is not None:
        raise errors.wrong_state("The payment method you provided has already been attached to a customer.")
    decline = method.card.decline
    if decline is not None and method.card.refuses_attach:
        raise errors.card_declined(decline)
    return method


def _keep(call: Call, method: PaymentMethod, customer: str) -> PaymentMethod:
    kept = call.books.payment_methods.put(method._replace(customer=customer))
    call.event("payment_method.attached", kept)
    call.effect("payment_method.attached", kept)
    return kept
