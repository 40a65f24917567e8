"""Refusals of a payment: the bank declines, or wants 3-D Secure first, or is not asked at all.

Sources: docs.stripe.com/payments/3d-secure, without-card-authentication (`error_on_requires_action`); the shapes of
declines are recorded ones.
"""

from typing import Any

from stripe_standin import errors
from stripe_standin.api.customers import cards, payment_methods
from stripe_standin.call import Call
from stripe_standin.objects import Charge, Intent, Json, PaymentMethod, shown


def nothing_to_pay_with(customer: str | None, **attached: Json) -> errors.StripeError:
    """As recorded, without a customer and with one (Automattic/woocommerce-payments #487, #672).

    The same if an intent is to be confirmed as it is created. Then no intent is made (decided here).
    """
    why = "You cannot confirm this PaymentIntent because it's missing a payment method. "
    if customer is None:
        why += (
            "You can either update the PaymentIntent with a payment method and then confirm it again, or confirm it "
            "again directly with a payment method or ConfirmationToken."
        )
    else:
        why += (
            f"To confirm the PaymentIntent with {customer}, specify a payment method attached to this customer along "
            "with the customer ID."
        )
    return errors.wrong_state(why, code="payment_intent_unexpected_state", **attached)


def decline(call: Call, intent: Intent, charge: Charge, method: PaymentMethod) -> errors.StripeError:
    """The error to raise. The rows of a decline stay, as at Stripe, and the error shows them."""
    refused = charge.card.decline
    assert refused is not None
    call.books.charges.put(charge)
    attached = {"charge": charge.id, "payment_method": shown(method)}
    error = errors.card_declined(refused, **attached).body["error"]
    intent = _failed(call, intent._replace(latest_charge=charge.id), method, error, charge)
    return errors.card_declined(refused, payment_intent=shown(intent), **attached)


def authentication(call: Call, intent: Intent, method: PaymentMethod, *, off_session: bool) -> Intent:
    """The bank wants 3-D Secure. Raises a decline if that is impossible. No charge is made."""
    unhandled = cards.AUTHENTICATION_NOT_HANDLED if call.params.get("error_on_requires_action") else None
    refused = cards.AUTHENTICATION_REQUIRED if off_session else unhandled
    if refused is not None:
        attached = {"payment_method": shown(method)}
        error = errors.card_declined(refused, **attached).body["error"]
        intent = _failed(call, intent, method, error)
        raise errors.card_declined(refused, payment_intent=shown(intent), **attached)
    intent = call.books.intents.put(
        intent._replace(
            status="requires_action",
            payment_method=method.id,
            next_action=_next_action(intent, call.params),
            last_payment_error=None,
        )
    )
    call.event("payment_intent.requires_action", intent)
    return intent


def not_authenticated(call: Call, intent: Intent, method: PaymentMethod) -> Intent:
    """The customer was asked, and failed to authenticate."""
    error = errors.authentication_failed(shown(method)).body["error"]
    return _failed(call, intent._replace(next_action=None), method, error)


def _failed(call: Call, intent: Intent, method: PaymentMethod, error: Json, charge: Charge | None = None) -> Intent:
    payment_methods.use_up(call, method)
    intent = call.books.intents.put(
        intent._replace(status="requires_payment_method", payment_method=None, last_payment_error=error)
    )
    if charge is not None:
        call.event("charge.failed", charge)
    call.event("payment_intent.payment_failed", intent)
    call.effect("decline", intent, intent.amount)
    return intent


def _next_action(intent: Intent, asked: dict[str, Any]) -> Json:
    """The page that the customer is sent to. `/_standin/authentications` does what the customer would do there."""
    page = f"https://standin.invalid/authenticate/{intent.id}"
    if asked.get("return_url") and not asked.get("use_stripe_sdk"):
        return {"type": "redirect_to_url", "redirect_to_url": {"return_url": asked["return_url"], "url": page}}
    return {
        "type": "use_stripe_sdk",
        "use_stripe_sdk": {"type": "three_d_secure_redirect", "stripe_js": page},
    }
