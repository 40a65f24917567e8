"""PaymentIntents: made, changed, confirmed."""

from typing import Any

from stripe_standin import errors
from stripe_standin.api.customers import payment_methods
from stripe_standin.call import Call
from stripe_standin.contacts import email, parcel
from stripe_standin.expansion import paths
from stripe_standin.lists import page
from stripe_standin.objects import AUTOMATIC, NO_METADATA, Intent, Json, shown
from stripe_standin.parameters import (
    PAGE,
    Removed,
    Table,
    amount,
    boolean,
    currency,
    expand,
    list_of,
    merged,
    metadata,
    moment,
    nested,
    one_of,
    short_text,
    text,
)

from . import refusals
from .authorizations import authorize

_expand = expand(*paths("payment_intent"))


def _no_payment_method_types() -> errors.StripeError:
    return errors.bad_request(
        "`payment_method_types` is no longer supported. Use `allowed_payment_method_types` or dynamic payment methods.",
        "payment_method_types",
        "payment_method_types_no_longer_supported",
    )


# docs.stripe.com/changelog/endive: removed from create, update and confirm.
_REMOVED = {"payment_method_types": Removed("2026-09-30", list_of(text, most=50), _no_payment_method_types)}
_IF_AVAILABLE = one_of("if_available", "never")
_CARD = Table(
    {
        "request_extended_authorization": _IF_AVAILABLE,
        "request_multicapture": _IF_AVAILABLE,
        "request_three_d_secure": one_of("any", "automatic", "challenge"),
    }
)
# The parameters that create, update and confirm share.
_EVERYWHERE = {
    "allowed_payment_method_types": list_of(text, most=50),
    "capture_method": one_of("automatic", "automatic_async", "manual"),
    "payment_method": text,
    "payment_method_options": nested(Table({"card": nested(_CARD)})),
    "receipt_email": email,
    "setup_future_usage": one_of("off_session", "on_session"),
    "shipping": parcel,
    "expand": _expand,
}
_DETAILS = {
    "amount": amount,
    "currency": currency,
    "customer": text,
    "description": text,
    "metadata": metadata,
    "statement_descriptor": short_text(22),
    "statement_descriptor_suffix": short_text(22),
    "transfer_group": text,
}
_CONFIRM = {
    "error_on_requires_action": boolean,
    "off_session": one_of("true", "false", "one_off", "recurring"),
    "return_url": text,
    "use_stripe_sdk": boolean,
}
CREATE = Table(
    {
        **_EVERYWHERE,
        **_DETAILS,
        **_CONFIRM,
        "automatic_payment_methods": nested(
            Table({"enabled": boolean, "allow_redirects": one_of("always", "never")}, required=("enabled",))
        ),
        "application_fee_amount": amount,
        "confirm": boolean,
        "transfer_data": nested(Table({"destination": text, "amount": amount}, required=("destination",))),
        "confirmation_method": one_of("automatic", "manual"),
    },
    required=("amount", "currency"),
    removed=_REMOVED,
)
UPDATE = Table({**_EVERYWHERE, **_DETAILS}, removed=_REMOVED)
CONFIRM = Table({**_EVERYWHERE, **_CONFIRM}, removed=_REMOVED)
GET = Table({"expand": _expand, "client_secret": text})
LIST = Table(
    {
        **PAGE,
        "customer": text,
        "created": moment,
        "expand": expand(*paths("payment_intent", data=True)),
    }
)

_MAY_BE_CONFIRMED = ("requires_payment_method", "requires_confirmation", "requires_action")
# Fixed by the invoice, if there is one (decided here).
_OF_THE_INVOICE = ("amount", "capture_method", "currency", "customer")
# Parameters that change the payment itself: fixed once the bank was asked.
_DECIDING = (*_OF_THE_INVOICE, "payment_method", "payment_method_options", "setup_future_usage")
_WRITTEN_ON_IT = (
    *("description", "receipt_email", "shipping", "statement_descriptor", "statement_descriptor_suffix"),
    "transfer_group",
)


def create(call: Call) -> Json:
    asked = call.params
    customer = asked.get("customer")
    if customer is not None:
        call.books.find(call.books.customers, customer, "customer", status=400)
    method = None
    if asked.get("payment_method"):
        method = payment_methods.for_payment(call, asked["payment_method"], customer)
    elif asked.get("confirm"):
        raise refusals.nothing_to_pay_with(customer)
    intent = Intent(
        id=call.world.new_id("pi"),
        created=call.now,
        livemode=call.books.livemode,
        amount=asked["amount"],
        currency=asked["currency"],
        status="requires_confirmation" if method else "requires_payment_method",
        capture_method=asked.get("capture_method", "automatic_async"),
        metadata=merged(NO_METADATA, asked.get("metadata")),
        customer=customer,
        payment_method=method.id if method else None,
        confirmation_method=asked.get("confirmation_method", "automatic"),
        automatic_payment_methods=_automatic(asked),
        card_options=_card_options(None, asked),
        setup_future_usage=asked.get("setup_future_usage"),
        application_fee_amount=asked.get("application_fee_amount"),
        transfer_data=asked.get("transfer_data"),
        **{name: asked[name] for name in _WRITTEN_ON_IT if name in asked},
    )
    call.books.intents.put(intent)
    call.event("payment_intent.created", intent)
    call.effect("payment_intent.created", intent, intent.amount)
    if asked.get("confirm") and method:
        intent = authorize(call, intent, method, off_session=_off_session(call))
    return shown(intent)


def update(call: Call) -> Json:
    """Change an intent; there is no event for it. The payment itself can be changed until the bank was asked.

    After a change it has to be confirmed again, even if the bank had asked for the customer already (decided here).
    """
    intent, asked = _intent(call), call.params
    as_given = (*_OF_THE_INVOICE, *_WRITTEN_ON_IT, "setup_future_usage")
    changes = {name: asked[name] for name in as_given if name in asked}
    for name in asked:
        if name in _DECIDING and intent.status not in _MAY_BE_CONFIRMED:
            raise errors.unexpected_state(
                f"This PaymentIntent's {name} could not be updated because it has a status of {intent.status}. You may "
                f"only update the {name} of a PaymentIntent with one of the following statuses: "
                f"{', '.join(_MAY_BE_CONFIRMED)}.",
                shown(intent),
                param=name,
            )
    _respect_the_invoice(call, intent)
    group = intent.transfer_group
    if group is not None and asked.get("transfer_group", group) != group:
        raise errors.wrong_state("The transfer_group cannot be changed once it has been set.", param="transfer_group")
    if "metadata" in asked:
        changes["metadata"] = merged(intent.metadata, asked["metadata"])
    customer = asked.get("customer", intent.customer)
    if asked.get("customer"):
        call.books.find(call.books.customers, asked["customer"], "customer", status=400)
    given = asked.get("payment_method", intent.payment_method)
    if given is not None and ("payment_method" in asked or "customer" in asked):
        changes["payment_method"] = payment_methods.for_payment(call, given, customer).id
    elif "payment_method" in asked:
        changes["payment_method"] = None
    if "payment_method_options" in asked:
        changes["card_options"] = _card_options(intent.card_options, asked)
    if any(name in asked for name in _DECIDING):
        has_one = changes.get("payment_method", intent.payment_method) is not None
        changes["status"] = "requires_confirmation" if has_one else "requires_payment_method"
        changes["next_action"] = None
    return shown(call.books.intents.put(intent._replace(**changes)))


def confirm(call: Call) -> Json:
    intent, asked = _intent(call), call.params
    if intent.status not in _MAY_BE_CONFIRMED:
        raise errors.unexpected_state(
            f"You cannot confirm this PaymentIntent because it has a status of {intent.status}. Only a "
            "PaymentIntent with one of the following statuses may be confirmed: "
            f"{', '.join(_MAY_BE_CONFIRMED)}.",
            shown(intent),
        )
    _respect_the_invoice(call, intent)
    given = asked.get("payment_method") or intent.payment_method
    if given is None:
        raise refusals.nothing_to_pay_with(intent.customer, payment_intent=shown(intent))
    method = payment_methods.for_payment(call, given, intent.customer)
    as_given = ("capture_method", "receipt_email", "setup_future_usage", "shipping")
    changes = {name: asked[name] for name in as_given if name in asked}
    intent = intent._replace(
        payment_method=method.id, card_options=_card_options(intent.card_options, asked), **changes
    )
    return shown(authorize(call, intent, method, off_session=_off_session(call)))


def get(call: Call) -> Json:
    return shown(_intent(call))


def list_(call: Call) -> Json:
    return page(call.books.intents, call.params, "/v1/payment_intents", "customer")


def _intent(call: Call) -> Intent:
    return call.books.find(call.books.intents, call.ids[0], "intent")


def _respect_the_invoice(call: Call, intent: Intent) -> None:
    for name in _OF_THE_INVOICE:
        if name in call.params and intent.invoice is not None:
            raise errors.unexpected_state(
                f"The {name} of a PaymentIntent created by an Invoice cannot be updated.", shown(intent), param=name
            )


def _automatic(asked: dict[str, Any]) -> Json | None:
    """On, unless the request has something else (docs.stripe.com/changelog/2023-08-16/automatic-payment-methods)."""
    if "automatic_payment_methods" in asked:
        return {**AUTOMATIC, **asked["automatic_payment_methods"]}
    return None if "payment_method_types" in asked else AUTOMATIC


def _off_session(call: Call) -> bool:
    off_session: str = call.params.get("off_session", "false")
    return off_session != "false"


def _card_options(before: Json | None, asked: dict[str, Any]) -> Json | None:
    asked_now = asked.get("payment_method_options", {}).get("card")
    return {**(before or {}), **asked_now} if asked_now else before
