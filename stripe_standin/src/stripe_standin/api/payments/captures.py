"""What the merchant does with an authorization: capture it, in one part or several, or cancel it."""

from typing import Any

from stripe_standin import errors
from stripe_standin.call import Call
from stripe_standin.expansion import paths
from stripe_standin.objects import Intent, Json, shown
from stripe_standin.parameters import (
    Table,
    amount,
    boolean,
    expand,
    merged,
    metadata,
    natural,
    nested,
    one_of,
    short_text,
)

from .authorizations import release, take

CAPTURES_MAX = 50  # docs.stripe.com/payments/multicapture


def _amount_to_capture(value: Any, name: str) -> int:
    """An amount. After a first capture it may be 0, which releases the rest (docs: multicapture)."""
    return natural(value, name) and amount(value, name)


_expand = expand(*paths("payment_intent"))
CAPTURE = Table(
    {
        "amount_to_capture": _amount_to_capture,
        "application_fee_amount": amount,
        "final_capture": boolean,
        "metadata": metadata,
        "statement_descriptor": short_text(22),
        "statement_descriptor_suffix": short_text(22),
        "transfer_data": nested(Table({"amount": amount}, required=("amount",))),
        "expand": _expand,
    }
)
CANCEL = Table(
    {
        "cancellation_reason": one_of("duplicate", "fraudulent", "requested_by_customer", "abandoned"),
        "expand": _expand,
    }
)

_MAY_BE_CANCELED = (
    "requires_payment_method",
    "requires_capture",
    "requires_reauthorization",
    "requires_confirmation",
    "requires_action",
    "expired",
    "processing",
)


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
    final = asked.get("final_capture", True)
    if not final and not charge.multicapture:
        raise errors.wrong_state(
            "This payment is not eligible for multicapture, so `final_capture` cannot be false.", param="final_capture"
        )
    if not taken and not (final and charge.captures):
        raise errors.amount_below_one()
    if charge.captures >= CAPTURES_MAX and taken:
        raise errors.wrong_state(f"A PaymentIntent can be captured at most {CAPTURES_MAX} times.")
    shares = _shares(call, intent, taken)
    labels = merged(intent.metadata, asked["metadata"]) if "metadata" in asked else intent.metadata
    intent = take(
        call,
        intent,
        charge,
        taken,
        final=final,
        metadata=labels,
        **shares,
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
    if intent.invoice is not None:
        raise errors.unexpected_state(
            "You cannot perform this action on PaymentIntents created by Invoices. Try voiding the Invoice instead.",
            shown(intent),
        )
    return shown(release(call, intent, call.params.get("cancellation_reason"), "payment_intent.canceled"))


def _shares(call: Call, intent: Intent, taken: int) -> Json:
    """What the platform and the connected account get of this capture.

    Source: docs.stripe.com/api/payment_intents/capture and docs.stripe.com/connect/destination-charges. The texts are
    this program's own.
    """
    fee, transfer = call.params.get("application_fee_amount"), call.params.get("transfer_data")
    shares: Json = {}
    if fee is not None:
        if intent.transfer_data is None and call.books.account == call.world.settings.account:
            raise errors.wrong_state(
                "An application fee needs a connected account: as Stripe-Account, or as the destination of a transfer.",
                param="application_fee_amount",
            )
        if transfer is not None:
            raise errors.wrong_state("A fee and the amount of a transfer exclude each other.", param="transfer_data")
        if fee > taken:
            raise errors.wrong_state("The fee is more than the amount.", param="application_fee_amount")
        shares["application_fee_amount"] = fee
    if transfer is not None:
        if intent.transfer_data is None:
            raise errors.wrong_state("This payment has no destination of a transfer.", param="transfer_data")
        if transfer["amount"] > taken:
            raise errors.wrong_state("The transfer is more than the amount.", param="transfer_data[amount]")
        shares["transfer_data"] = {**intent.transfer_data, **transfer}
    return shares


def _intent(call: Call) -> Intent:
    return call.books.find(call.books.intents, call.ids[0], "intent")


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
