"""Asking the bank for an authorisation, and how it ends: taken, let go, or run out."""

from typing import Any, NoReturn

from billing.standin import errors
from billing.standin.call import Call
from billing.standin.objects import Charge, Intent, PaymentMethod, shown

from . import cards


def authorise(call: Call, intent: Intent, method: PaymentMethod, *, off_session: bool) -> Intent:
    """Ask the bank; `capture_method` says whether the money is taken at once. Raises the decline.

    `off_session`: the merchant initiated it, and the customer is not there.
    """
    charge = Charge(
        id=call.world.new_id("ch"),
        created=call.now,
        livemode=intent.livemode,
        amount=intent.amount,
        currency=intent.currency,
        intent=intent.id,
        payment_method=method.id,
        card=method.card,
        customer=intent.customer,
        metadata=intent.metadata,
        status="failed" if method.card.decline else "succeeded",
        description=intent.description,
        receipt_email=intent.receipt_email,
    )
    if method.card.decline:
        _declined(call, intent, charge, method)
    intent = intent._replace(latest_charge=charge.id, last_payment_error=None)
    if intent.capture_method == "manual":
        return _held(call, intent, charge, cards.window(method.card, off_session))
    return _taken_at_once(call, intent, charge)


def take(call: Call, intent: Intent, charge: Charge, amount: int, **changes: Any) -> Intent:
    """Capture `amount`. Whatever was not taken is released: there is no second capture."""
    charge = call.books.charges.put(_captured(charge, amount))
    intent = call.books.intents.put(
        intent._replace(status="succeeded", amount_capturable=0, amount_received=amount, **changes)
    )
    call.event("charge.captured", charge)
    call.event("payment_intent.succeeded", intent)
    call.effect("capture", intent, amount)
    return intent


def let_go(call: Call, intent: Intent, reason: str | None, effect: str) -> Intent:
    """Release whatever is held; nothing can be taken any more."""
    held = intent.amount_capturable
    intent = call.books.intents.put(
        intent._replace(status="canceled", amount_capturable=0, canceled_at=call.now, cancellation_reason=reason)
    )
    call.event("payment_intent.canceled", intent)
    call.effect(effect, intent, held)
    return intent


def expire(call: Call) -> None:
    """The authorisation's time is over, unless it was captured or canceled before."""
    intent = call.books.intents.get(call.ids[0])
    if intent is None or intent.status != "requires_capture":
        return
    charge = call.books.charges.get(intent.latest_charge or "")
    if charge is not None:
        call.event("charge.expired", charge)
    let_go(call, intent, "automatic", "authorisation.expired")


def _held(call: Call, intent: Intent, charge: Charge, window_s: int) -> Intent:
    capture_before = call.now + window_s
    call.world.agenda.note(capture_before, expire, call.books, intent.id)
    charge = call.books.charges.put(charge._replace(capture_before=capture_before))
    intent = call.books.intents.put(intent._replace(status="requires_capture", amount_capturable=intent.amount))
    call.event("charge.succeeded", charge)
    call.event("payment_intent.amount_capturable_updated", intent)
    call.effect("authorisation", intent, intent.amount)
    return intent


def _taken_at_once(call: Call, intent: Intent, charge: Charge) -> Intent:
    charge = _captured(charge, charge.amount)
    if intent.capture_method == "automatic_async":
        # It arrives later with `charge.updated` (docs: asynchronous capture), which is not modelled yet.
        charge = charge._replace(balance_transaction=None)
    call.books.charges.put(charge)
    intent = call.books.intents.put(intent._replace(status="succeeded", amount_received=intent.amount))
    call.event("charge.succeeded", charge)
    call.event("payment_intent.succeeded", intent)
    call.effect("capture", intent, intent.amount)
    return intent


def _declined(call: Call, intent: Intent, charge: Charge, method: PaymentMethod) -> NoReturn:
    """The rows of a decline stay, as Stripe's do, and the error shows them."""
    decline = charge.card.decline
    assert decline is not None
    attached = {"charge": charge.id, "payment_method": shown(method)}
    intent = intent._replace(
        status="requires_payment_method",
        payment_method=None,
        latest_charge=charge.id,
        last_payment_error=errors.card_declined(decline, **attached).body["error"],
    )
    call.books.charges.put(charge)
    call.books.intents.put(intent)
    call.event("charge.failed", charge)
    call.event("payment_intent.payment_failed", intent)
    call.effect("decline", intent, intent.amount)
    raise errors.card_declined(decline, payment_intent=shown(intent), **attached)


def _captured(charge: Charge, amount: int) -> Charge:
    return charge._replace(captured=True, amount_captured=amount, balance_transaction=f"txn_{charge.id[3:]}")
