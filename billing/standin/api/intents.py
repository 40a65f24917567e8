"""PaymentIntents: authorise, capture once, or let go."""

from billing.standin import errors
from billing.standin.call import Call
from billing.standin.lists import page
from billing.standin.objects import NO_METADATA, Intent, Json, shown
from billing.standin.parameters import (
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

from . import payment_methods
from .authorisations import authorise, let_go, take

_EXPANDABLE = ("latest_charge", "customer", "payment_method")
_expand = expand(*_EXPANDABLE)


def _no_payment_method_types() -> errors.StripeError:
    return errors.bad_request(
        "`payment_method_types` is no longer supported. Use `allowed_payment_method_types` or dynamic payment methods.",
        "payment_method_types",
        "payment_method_types_no_longer_supported",
    )


# docs.stripe.com/changelog/endive: removed from create, update and confirm.
_REMOVED = {"payment_method_types": Removed("2026-09-30", list_of(text, most=50), _no_payment_method_types)}
_CAPTURE_METHOD = one_of("automatic", "automatic_async", "manual")
_CONFIRM = {
    "payment_method": text,
    "off_session": one_of("true", "false", "one_off", "recurring"),
    "allowed_payment_method_types": list_of(text, most=50),
    "capture_method": _CAPTURE_METHOD,
    "error_on_requires_action": boolean,
    "receipt_email": short_text(512),
    "return_url": text,
    "setup_future_usage": one_of("off_session", "on_session"),
    "use_stripe_sdk": boolean,
    "expand": _expand,
}
CREATE = Table(
    {
        **_CONFIRM,
        "amount": amount,
        "currency": currency,
        "customer": text,
        "confirm": boolean,
        "confirmation_method": one_of("automatic", "manual"),
        "automatic_payment_methods": nested(
            Table({"enabled": boolean, "allow_redirects": one_of("always", "never")}, required=("enabled",))
        ),
        "description": text,
        "metadata": metadata,
        "statement_descriptor": short_text(22),
        "statement_descriptor_suffix": short_text(22),
    },
    required=("amount", "currency"),
    removed=_REMOVED,
)
CONFIRM = Table(_CONFIRM, removed=_REMOVED)
CAPTURE = Table(
    {
        "amount_to_capture": amount,
        "final_capture": boolean,
        "metadata": metadata,
        "statement_descriptor": short_text(22),
        "statement_descriptor_suffix": short_text(22),
        "expand": _expand,
    }
)
CANCEL = Table(
    {
        "cancellation_reason": one_of("duplicate", "fraudulent", "requested_by_customer", "abandoned"),
        "expand": _expand,
    }
)
GET = Table({"expand": _expand, "client_secret": text})
LIST = Table(
    {
        **PAGE,
        "customer": text,
        "created": moment,
        "expand": expand(*(f"data.{field}" for field in _EXPANDABLE)),
    }
)

_MAY_BE_CONFIRMED = ("requires_payment_method", "requires_confirmation")
_MAY_BE_CANCELED = (
    "requires_payment_method",
    "requires_capture",
    "requires_reauthorization",
    "requires_confirmation",
    "requires_action",
    "expired",
    "processing",
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
        raise errors.missing_parameter("payment_method")
    automatic = asked.get("automatic_payment_methods")
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
        automatic_payment_methods={"allow_redirects": "always", **automatic} if automatic else None,
        description=asked.get("description"),
        receipt_email=asked.get("receipt_email"),
        setup_future_usage=asked.get("setup_future_usage"),
        statement_descriptor=asked.get("statement_descriptor"),
        statement_descriptor_suffix=asked.get("statement_descriptor_suffix"),
    )
    call.books.intents.put(intent)
    call.event("payment_intent.created", intent)
    call.effect("payment_intent.created", intent, intent.amount)
    if asked.get("confirm") and method:
        intent = authorise(call, intent, method, off_session=_off_session(call))
    return shown(intent)


def confirm(call: Call) -> Json:
    intent, asked = _intent(call), call.params
    if intent.status not in _MAY_BE_CONFIRMED:
        raise errors.unexpected_state(
            f"You cannot confirm this PaymentIntent because it has a status of {intent.status}. Only a "
            "PaymentIntent with one of the following statuses may be confirmed: "
            f"{', '.join(_MAY_BE_CONFIRMED)}.",
            shown(intent),
        )
    given = asked.get("payment_method") or intent.payment_method
    if given is None:
        raise errors.unexpected_state(
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update "
            "the PaymentIntent with a payment method and then confirm it again, or confirm it again directly with "
            "a payment method or ConfirmationToken.",
            shown(intent),
        )
    method = payment_methods.for_payment(call, given, intent.customer)
    changes = {name: asked[name] for name in ("capture_method", "receipt_email", "setup_future_usage") if name in asked}
    intent = intent._replace(payment_method=method.id, **changes)
    return shown(authorise(call, intent, method, off_session=_off_session(call)))


def capture(call: Call) -> Json:
    intent, asked = _intent(call), call.params
    charge = call.books.charges.get(intent.latest_charge or "")
    if intent.status != "requires_capture" or charge is None:
        raise errors.unexpected_state(_why_not_capturable(intent), shown(intent))
    if charge.capture_before is not None and charge.capture_before <= call.now:
        raise errors.charge_expired(charge.id, shown(intent))
    taken = asked.get("amount_to_capture", intent.amount_capturable)
    if taken > intent.amount_capturable:
        raise errors.amount_too_large(shown(intent))
    if asked.get("final_capture") is False:
        raise errors.wrong_state(
            "This payment is not eligible for multicapture, so `final_capture` cannot be false.", param="final_capture"
        )
    labels = merged(intent.metadata, asked["metadata"]) if "metadata" in asked else intent.metadata
    intent = take(
        call,
        intent,
        charge,
        taken,
        metadata=labels,
        statement_descriptor=asked.get("statement_descriptor", intent.statement_descriptor),
        statement_descriptor_suffix=asked.get("statement_descriptor_suffix", intent.statement_descriptor_suffix),
    )
    return shown(intent)


def cancel(call: Call) -> Json:
    intent = _intent(call)
    if intent.status not in _MAY_BE_CANCELED:
        raise errors.unexpected_state(
            f"You cannot cancel this PaymentIntent because it has a status of {intent.status}. Only a PaymentIntent "
            f"with one of the following statuses may be canceled: {', '.join(_MAY_BE_CANCELED)}.",
            shown(intent),
        )
    return shown(let_go(call, intent, call.params.get("cancellation_reason"), "payment_intent.canceled"))


def get(call: Call) -> Json:
    return shown(_intent(call))


def list_(call: Call) -> Json:
    customer = call.params.get("customer")
    return page(
        call.books.intents,
        call.params,
        "/v1/payment_intents",
        shown,
        lambda intent: customer is None or intent.customer == customer,
    )


def _intent(call: Call) -> Intent:
    return call.books.find(call.books.intents, call.ids[0], "intent")


def _off_session(call: Call) -> bool:
    said: str = call.params.get("off_session", "false")
    return said != "false"


def _why_not_capturable(intent: Intent) -> str:
    if intent.status == "succeeded":
        return (
            "The remaining amount on this PaymentIntent could not be captured because the remainder of the "
            "authorized amount has been released."
        )
    return (
        f"This PaymentIntent could not be captured because it has a status of {intent.status}. Only a PaymentIntent "
        "with one of the following statuses may be captured: requires_capture."
    )
