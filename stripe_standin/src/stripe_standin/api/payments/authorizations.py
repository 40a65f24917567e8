"""Ask the bank for an authorization, and end it: captured in one part or several, released, or expired."""

from typing import Any

from stripe_standin.api.customers import cards, payment_methods
from stripe_standin.api.ledger.balance import enter, fee_of
from stripe_standin.call import Call
from stripe_standin.objects import Charge, Intent, PaymentMethod

from . import refusals

# The delay of an `automatic_async` capture; the documentation (asynchronous capture) says within an hour.
BACKGROUND_S = 5


def authorize(
    call: Call, intent: Intent, method: PaymentMethod, *, off_session: bool, authenticated: bool = False
) -> Intent:
    """Ask the bank. `capture_method` says whether the money is captured at once. Raises the decline.

    `off_session`: the merchant started the payment, and the customer is absent. If the customer is present and the bank
    wants 3-D Secure, the intent is left in `requires_action` until this is called again with `authenticated`.
    """
    if method.card.authenticates and not authenticated:
        return refusals.authentication(call, intent, method, off_session=off_session)
    options = intent.card_options or {}
    manual = intent.capture_method == "manual"
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
        multicapture=manual and options.get("request_multicapture") == "if_available",
        extended=manual and options.get("request_extended_authorization") == "if_available",
        authenticated=authenticated,
        description=intent.description,
        receipt_email=intent.receipt_email,
        shipping=intent.shipping,
        transfer_group=intent.transfer_group,
    )
    if method.card.decline:
        raise refusals.decline(call, intent, charge, method)
    intent = intent._replace(latest_charge=charge.id, last_payment_error=None, next_action=None)
    intent = _held(call, intent, charge, off_session) if manual else _taken_at_once(call, intent, charge)
    if intent.setup_future_usage is None:
        payment_methods.use_up(call, method)
    else:
        payment_methods.set_up(call, method, intent.customer)
    return intent


def take(call: Call, intent: Intent, charge: Charge, amount: int, *, final: bool = True, **changes: Any) -> Intent:
    """Capture `amount`; 0 only releases the rest. After the final capture no other is possible.

    Events of several captures: docs.stripe.com/payments/multicapture.
    """
    books = call.books
    entry_id = _entry(call, charge, amount) if amount else None
    left = intent.amount_capturable - amount
    charge = books.charges.put(
        charge._replace(
            amount_captured=charge.amount_captured + amount,
            captures=charge.captures + 1 if amount else charge.captures,
            captured=final,
            balance_transaction=charge.balance_transaction or entry_id,
        )
    )
    intent = books.intents.put(
        intent._replace(
            status="succeeded" if final else "requires_capture",
            amount_capturable=0 if final else left,
            amount_received=intent.amount_received + amount,
            **changes,
        )
    )
    # Effects before events: an event may cause others, such as the payment of an invoice.
    if amount:
        call.effect("capture", intent, amount)
    if final and left:
        call.effect("release", intent, left)
    if charge.multicapture:
        call.event("charge.updated", charge)
        call.event("payment_intent.amount_capturable_updated", intent)
    if final:
        call.event("charge.captured", charge)
        call.event("payment_intent.succeeded", intent)
    return intent


def release(call: Call, intent: Intent, reason: str | None, effect: str) -> Intent:
    """Release what is still held, so that nothing more can be captured. Earlier captures stay.

    Source: docs.stripe.com/payments/multicapture (uncaptured: canceled; captured in part: succeeded).
    """
    charge = call.books.charges.get(intent.latest_charge or "")
    if intent.amount_received and charge is not None:
        return take(call, intent, charge, 0)
    held = intent.amount_capturable
    intent = call.books.intents.put(
        intent._replace(
            status="canceled",
            amount_capturable=0,
            canceled_at=call.now,
            cancellation_reason=reason,
            next_action=None,
        )
    )
    call.effect(effect, intent, held)
    call.event("payment_intent.canceled", intent)
    return intent


def expire(call: Call) -> None:
    """Expire the authorization, unless it was captured or canceled before.

    Source: docs.stripe.com/changelog/basil/2025-03-31 (`expired`, formerly `automatic`; and no refund is made).
    """
    intent = call.books.intents.get(call.ids[0])
    if intent is None or intent.status != "requires_capture":
        return
    charge = call.books.charges.get(intent.latest_charge or "")
    if charge is not None and not charge.amount_captured:
        call.event("charge.expired", charge)
    release(call, intent, "expired", "authorization.expired")


def settle(call: Call) -> None:
    """The later part of `automatic_async`: give the charge its balance transaction."""
    charge = call.books.charges.get(call.ids[0])
    if charge is not None:
        entry_id = _entry(call, charge, charge.amount_captured)
        call.event("charge.updated", call.books.charges.put(charge._replace(balance_transaction=entry_id)))


def _held(call: Call, intent: Intent, charge: Charge, off_session: bool) -> Intent:
    window_s = cards.window(charge.card, charge.currency, merchant_initiated=off_session, extended=charge.extended)
    capture_before = call.now + window_s
    call.world.agenda.note(capture_before, expire, call.books, intent.id)
    charge = call.books.charges.put(charge._replace(capture_before=capture_before))
    intent = call.books.intents.put(intent._replace(status="requires_capture", amount_capturable=intent.amount))
    call.effect("authorization", intent, intent.amount)
    call.event("charge.succeeded", charge)
    call.event("payment_intent.amount_capturable_updated", intent)
    return intent


def _taken_at_once(call: Call, intent: Intent, charge: Charge) -> Intent:
    entry_id = None
    if intent.capture_method == "automatic_async":
        call.world.agenda.note(call.now + BACKGROUND_S, settle, call.books, charge.id)
    else:
        entry_id = _entry(call, charge, charge.amount)
    charge = call.books.charges.put(
        charge._replace(amount_captured=charge.amount, captures=1, captured=True, balance_transaction=entry_id)
    )
    intent = call.books.intents.put(intent._replace(status="succeeded", amount_received=intent.amount))
    call.effect("capture", intent, intent.amount)
    call.event("charge.succeeded", charge)
    call.event("payment_intent.succeeded", intent)
    return intent


def _entry(call: Call, charge: Charge, amount: int) -> str:
    """Enter a capture in the ledger, and return the entry's id. A charge shows the entry of its first capture."""
    entry_id = call.world.new_id("txn") if charge.balance_transaction else f"txn_{charge.id[3:]}"
    fee = fee_of(amount)
    enter(call, "charge", amount, charge.currency, charge.id, fee=fee, entry_id=entry_id, why=charge.description)
    return entry_id
