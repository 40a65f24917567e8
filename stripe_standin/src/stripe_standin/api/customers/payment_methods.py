"""Payment methods: Stripe's published test cards, with or without a customer."""

from stripe_standin import errors
from stripe_standin.call import Call
from stripe_standin.expansion import paths
from stripe_standin.lists import page
from stripe_standin.objects import NO_METADATA, Card, Json, PaymentMethod, shown
from stripe_standin.parameters import PAGE, Table, expand, merged, metadata, nested, one_of, text

from . import cards

_expand = expand(*paths("payment_method"))
_LIST = {**PAGE, "type": one_of("card"), "expand": expand(*paths("payment_method", data=True))}
CREATE = Table(
    {
        "type": one_of("card"),
        "card": nested(Table({"token": text, "number": text, "exp_month": text, "exp_year": text, "cvc": text})),
        "metadata": metadata,
        "expand": _expand,
    },
    required=("type", "card"),
)
ATTACH = Table({"customer": text, "expand": _expand}, required=("customer",))
DETACH = Table({"expand": _expand})
UPDATE = Table({"metadata": metadata, "expand": _expand})
GET = Table({"expand": _expand})
LIST = Table({**_LIST, "customer": text})
LIST_OF_CUSTOMER = Table(_LIST)

# Two texts, as recorded: on attaching (stripe/stripe-php#1221), and on paying (Automattic/woocommerce-payments#323).
_NOT_ATTACHED_AGAIN = (
    "This PaymentMethod was previously used without being attached to a Customer or was detached from a Customer, and "
    "may not be used again."
)
_NOT_PAID_WITH_AGAIN = (
    "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment, shared with a "
    "connected account without Customer attachment, or was detached from a Customer. It may not be used again. To use "
    "a PaymentMethod multiple times, you must attach it to a Customer first."
)


def create(call: Call) -> Json:
    asked = call.params["card"]
    card = cards.by_token(asked.get("token") or "") or cards.by_number(asked.get("number") or "")
    if call.books.livemode:
        raise errors.card_declined(cards.TEST_CARD_IN_LIVE_MODE)
    if card is None and asked.get("number") and cards.mistyped(asked["number"]):
        raise errors.card_declined(cards.WRONG_NUMBER, param="number")
    if card is None:
        raise errors.bad_request(
            "The stand-in knows Stripe's published test cards only: give card[token]=tok_visa or a test number.",
            "card",
        )
    return shown(new(call, card, merged(NO_METADATA, call.params.get("metadata"))))


def attach(call: Call) -> Json:
    customer = call.books.find(call.books.customers, call.params["customer"], "customer", status=400)
    return shown(keep(call, attachable(call, call.ids[0], "payment_method"), customer.id))


def detach(call: Call) -> Json:
    """Detach it: it may not be used again, and is no default any more."""
    books, method = call.books, _method(call)
    if method.customer is None:
        raise errors.wrong_state(
            "The payment method you provided is not attached to a customer so detachment is impossible."
        )
    customer = books.customers.get(method.customer)
    if customer is not None and customer.default_payment_method == method.id:
        call.event("customer.updated", books.customers.put(customer._replace(default_payment_method=None)))
    method = books.payment_methods.put(method._replace(customer=None, used_up=True))
    call.event("payment_method.detached", method)
    call.effect("payment_method.detached", method)
    return shown(method)


def forget(call: Call, customer_id: str) -> None:
    """Detach all cards of a deleted customer, so that not even an invoice that advances by itself uses one."""
    shelf = call.books.payment_methods
    for method in [each for each in shelf.newest_first() if each.customer == customer_id]:
        shelf.put(method._replace(customer=None, used_up=True))


def update(call: Call) -> Json:
    method = _method(call)
    if method.customer is None:
        raise errors.wrong_state(
            "You must save this PaymentMethod to a customer before you can update it.", param="payment_method"
        )
    if "metadata" in call.params:
        labels = merged(method.metadata, call.params["metadata"])
        method = call.books.payment_methods.put(method._replace(metadata=labels))
        call.event("payment_method.updated", method)
    return shown(method)


def get(call: Call) -> Json:
    return shown(_method(call))


def list_(call: Call) -> Json:
    return _of(call, call.params.get("customer"), "/v1/payment_methods")


def list_of_customer(call: Call) -> Json:
    customer = call.books.find(call.books.customers, call.ids[0], "customer")
    return _of(call, customer.id, f"/v1/customers/{customer.id}/payment_methods")


def get_of_customer(call: Call) -> Json:
    customer, named = call.ids
    return shown(owned(call, named, customer, "payment_method", status=404))


def new(call: Call, card: Card, labels: dict[str, str] = NO_METADATA) -> PaymentMethod:
    return call.books.payment_methods.put(
        PaymentMethod(call.world.new_id("pm"), call.now, call.books.livemode, card, None, labels)
    )


def for_payment(call: Call, named: str, customer: str | None) -> PaymentMethod:
    """The payment method `named`, or a new one for a token such as pm_card_visa.

    Raises if it belongs to another customer.
    """
    card = cards.by_token(named)
    if card is not None and not call.books.livemode:
        return new(call, card)
    method = call.books.find(call.books.payment_methods, named, "payment_method", status=400)
    if method.customer is not None and method.customer != customer:
        raise not_theirs(named, "payment_method")
    if method.used_up:
        raise errors.wrong_state(_NOT_PAID_WITH_AGAIN)
    return method


def owned(call: Call, named: str, customer: str, param: str, *, status: int = 400) -> PaymentMethod:
    """The payment method `named`, which must be attached to this customer."""
    method = call.books.find(call.books.payment_methods, named, param, status=status)
    if method.customer != customer:
        raise not_theirs(named, param)
    return method


def attachable(call: Call, named: str, param: str) -> PaymentMethod:
    card = cards.by_token(named)
    if card is not None and not call.books.livemode:
        method = PaymentMethod(call.world.new_id("pm"), call.now, call.books.livemode, card, None, NO_METADATA)
    else:
        method = call.books.find(call.books.payment_methods, named, param, status=404)
    if method.customer is not None:
        raise errors.wrong_state("The payment method you provided has already been attached to a customer.")
    if method.used_up:
        raise errors.wrong_state(_NOT_ATTACHED_AGAIN)
    decline = method.card.decline
    if decline is not None and method.card.refuses_attach:
        raise errors.card_declined(decline)
    return method


def use_up(call: Call, method: PaymentMethod) -> None:
    """Note that the bank was asked.

    A card without a customer can be used once, even if it was declined (the text above).
    """
    if method.customer is None and not method.used_up:
        call.books.payment_methods.put(method._replace(used_up=True))


def set_up(call: Call, method: PaymentMethod, customer: str | None) -> None:
    """Keep it for later payments: attach it to the payment's customer; without one it can be attached later.

    Source: `setup_future_usage` in docs.stripe.com/api/payment_intents/create.
    """
    if method.customer is None and customer is not None and call.books.customers.get(customer):
        keep(call, method, customer)


def keep(call: Call, method: PaymentMethod, customer: str) -> PaymentMethod:
    kept = call.books.payment_methods.put(method._replace(customer=customer))
    call.event("payment_method.attached", kept)
    call.effect("payment_method.attached", kept)
    return kept


def _method(call: Call) -> PaymentMethod:
    return call.books.find(call.books.payment_methods, call.ids[0], "payment_method")


def _of(call: Call, customer: str | None, url: str) -> Json:
    return page(call.books.payment_methods, call.params, url, where=lambda method: customer in (None, method.customer))


def not_theirs(named: str, param: str) -> errors.StripeError:
    return errors.wrong_state(
        "The customer does not have a payment method with the ID "
        f"{named}. The payment method must belong to the customer.",
        param=param,
    )
