"""Payment methods: Stripe's published test cards, loose or attached to a customer."""

from billing.standin import errors
from billing.standin.call import Call
from billing.standin.objects import NO_METADATA, Card, Json, PaymentMethod, shown
from billing.standin.parameters import Table, expand, merged, metadata, nested, one_of, text

from . import cards

CREATE = Table(
    {
        "type": one_of("card"),
        "card": nested(Table({"token": text, "number": text, "exp_month": text, "exp_year": text, "cvc": text})),
        "metadata": metadata,
        "expand": expand("customer"),
    },
    required=("type", "card"),
)
ATTACH = Table({"customer": text, "expand": expand("customer")}, required=("customer",))
GET = Table({"expand": expand("customer")})


def create(call: Call) -> Json:
    asked = call.params["card"]
    card = cards.by_token(asked.get("token") or "") or cards.by_number(asked.get("number") or "")
    if call.books.livemode:
        raise errors.card_declined(cards.TEST_CARD_IN_LIVE_MODE)
    if card is None:
        raise errors.bad_request(
            "The stand-in knows Stripe's published test cards only: give card[token]=tok_visa or a test number.",
            "card",
        )
    return shown(new(call, card, merged(NO_METADATA, call.params.get("metadata"))))


def attach(call: Call) -> Json:
    customer = call.books.find(call.books.customers, call.params["customer"], "customer", status=400)
    return shown(keep(call, attachable(call, call.ids[0], "payment_method"), customer.id))


def get(call: Call) -> Json:
    return shown(call.books.find(call.books.payment_methods, call.ids[0], "payment_method"))


def new(call: Call, card: Card, labels: dict[str, str] = NO_METADATA) -> PaymentMethod:
    return call.books.payment_methods.put(
        PaymentMethod(call.world.new_id("pm"), call.now, call.books.livemode, card, None, labels)
    )


def for_payment(call: Call, named: str, customer: str | None) -> PaymentMethod:
    """The payment method `named`, or a new one for a token such as pm_card_visa. Raises if it is another's."""
    card = cards.by_token(named)
    if card is not None and not call.books.livemode:
        return new(call, card)
    method = call.books.find(call.books.payment_methods, named, "payment_method", status=400)
    if method.customer is not None and method.customer != customer:
        raise errors.wrong_state(
            "The customer does not have a payment method with the ID "
            f"{named}. The payment method must belong to the customer.",
            param="payment_method",
        )
    return method


def attachable(call: Call, named: str, param: str) -> PaymentMethod:
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


def keep(call: Call, method: PaymentMethod, customer: str) -> PaymentMethod:
    kept = call.books.payment_methods.put(method._replace(customer=customer))
    call.event("payment_method.attached", kept)
    call.effect("payment_method.attached", kept)
    return kept
