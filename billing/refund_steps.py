"""The provider calls of a refund: reading by which payment an invoice was paid, making the refund, and observing it
until Stripe has ended it.

A refund moves money out, and Stripe lists no effect of a call that it may still carry out. So that no refund is listed
proves nothing: a call whose outcome is unknown is never repeated under a new key by a machine (`Learned.UNPROVABLE`).
It stays undecided, with an alarm, until a refund with our metadata is found, or until so little is left of the payment
that there cannot be one.
Source: docs.stripe.com/refunds; docs.stripe.com/error-low-level (a 500 may still be rolled forward).
"""

from collections.abc import Mapping
from typing import Any

from billing import request_ids
from billing.differences import Difference, differences, reason
from billing.facts import OWN, new_fact
from billing.idempotency import Rules
from billing.learned import Learned
from billing.provider_ids import IdKind, is_id, object_path
from billing.states import RefundState, set_state
from billing.steps import (
    CAPTURE_KEY,
    INVOICE_KEY,
    METADATA_KEY,
    Ask,
    Gone,
    Json,
    LoadedOperation,
    LookResult,
    Reader,
    Step,
    judgment,
    read_object,
)
from billing.tables.entities import Refund
from billing.tables.facts import Fact

PAID_OUTSIDE = "paid_outside_stripe"
"""The reason of a refund of an invoice for which Stripe holds no payment: it was paid out of band, by a credit balance,
or nothing was left to pay."""
PAID_IN_PARTS = "no_payment_of_so_much"
"""The reason of a refund that no single payment of its invoice covers: one refund is of one payment."""


def _refund(loaded: LoadedOperation) -> Refund:
    assert isinstance(loaded.row, Refund)
    return loaded.row


# By which payment an invoice was paid: read, because Stripe made that payment.


def _read_payment(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
    """The payments of its invoice, and the oldest of those that still have so much. A later refund, which finds less
    left of the first, takes the next.

    Source: docs.stripe.com/api/invoice-payment/object (`payment.payment_intent`, `amount_paid`).
    """
    row = _refund(loaded)
    paid = list(read.pages("/v1/invoice_payments", {"invoice": str(row.stripe_invoice), "status": "paid"}))
    payments = {intent: each for each in reversed(paid) if (intent := _intent_of(row, each)) is not None}
    if not payments:
        return LookResult(Learned.REFUSED, why=PAID_OUTSIDE)
    for intent, payment in payments.items():
        left = _left_of(intent, read, livemode)
        if min(payment["amount_paid"], left if left is not None else row.amount_minor) >= row.amount_minor:
            return LookResult(Learned.SUCCEEDED, payment)
    return LookResult(Learned.REFUSED, why=PAID_IN_PARTS)


def _intent_of(row: Refund, payment: Json) -> str | None:
    """The payment intent of this payment; None if it is of another kind (a payment that was recorded, and made outside
    of Stripe), or of another invoice."""
    within = payment.get("payment")
    intent = within.get("payment_intent") if isinstance(within, Mapping) else None
    whole = type(payment.get("amount_paid")) is int
    ours = not differences(payment, invoice=row.stripe_invoice, currency=row.currency.lower(), status="paid")
    return intent if whole and ours and is_id(IdKind.PAYMENT_INTENT, intent) else None


def _apply_payment(loaded: LoadedOperation, outcome: Learned, payment: Json, why: str) -> list[Fact]:
    row = _refund(loaded)
    if outcome is not Learned.SUCCEEDED:
        return moved(row, RefundState.REFUSED, why)
    row.payment_intent = _intent_of(row, payment)
    return []


# Make it.


def _ask_to_refund(loaded: LoadedOperation) -> Ask:
    row = _refund(loaded)
    parameters: dict[str, Any] = {
        "payment_intent": row.payment_intent,
        "amount": row.amount_minor,
        # With the capture, because a payment may have been captured in parts: see `jobs.recovery.shown_refunds`.
        "metadata": {METADATA_KEY: row.id, **_source(row), **request_ids.metadata(row.request_id)},
    }
    if row.refund_reason is not None:
        parameters["reason"] = row.refund_reason
    # The payment and not the refund: what changes one payment is called one after the other.
    return Ask("POST", "/v1/refunds", parameters, row.payment_intent)


def _source(row: Refund) -> Json:
    return {INVOICE_KEY: row.invoice_id} if row.capture_id is None else {CAPTURE_KEY: row.capture_id}


def _not_as_asked(row: Refund, refund: Json) -> list[Difference]:
    wrong = differences(
        refund,
        object="refund",
        payment_intent=row.payment_intent,
        amount=row.amount_minor,
        currency=row.currency.lower(),
    )
    wrong += differences(refund, within="metadata", **{METADATA_KEY: row.id})
    if not is_id(IdKind.REFUND, refund.get("id")):
        wrong.append(Difference("id", "the id of a refund", "none"))
    return wrong


def _look_for_refund(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
    """First what is left of the payment, then all its refunds: one that was made between the two is in the list."""
    row = _refund(loaded)
    left = _left_of(str(row.payment_intent), read, livemode)
    refunds = read.pages("/v1/refunds", {"payment_intent": row.payment_intent})
    ours = [refund for refund in refunds if _names(row, refund)]
    if len(ours) > 1:
        # Each has an id of its own, so there is no key of ours under which both were made.
        twice = Difference("refunds", "one", str(len(ours)))
        return LookResult(Learned.FOUND_DIFFERENT, ours[0], reason("refunded_more_than_once", [twice]))
    if ours:
        if wrong := _not_as_asked(row, ours[0]):
            return LookResult(Learned.FOUND_DIFFERENT, ours[0], reason("refunded_otherwise", wrong))
        return LookResult(Learned.FOUND_OURS, ours[0])
    if left is not None and left < row.amount_minor:
        return LookResult(Learned.IMPOSSIBLE, why=reason("too_little_left", [_difference(row, left)]))
    return LookResult(Learned.UNPROVABLE, why="no_refund_of_ours")


def _names(row: Refund, refund: Json) -> bool:
    metadata = refund.get("metadata")
    return isinstance(metadata, Mapping) and metadata.get(METADATA_KEY) == row.id


def _left_of(payment_intent: str, read: Reader, livemode: bool) -> int | None:
    """What Stripe could still give back of this payment; None if Stripe does not say."""
    path = f"{object_path(IdKind.PAYMENT_INTENT, payment_intent)}?expand[0]=latest_charge"
    try:
        intent = read_object(read, path, ("payment_intent", payment_intent), livemode=livemode)
    except Gone:
        return None
    charge = intent.get("latest_charge")
    if not isinstance(charge, Mapping):
        return None
    captured, refunded = charge.get("amount_captured"), charge.get("amount_refunded")
    return captured - refunded if type(captured) is int and type(refunded) is int else None


def _difference(row: Refund, left: int) -> Difference:
    return Difference("left", f"at least {row.amount_minor}", str(left))


def _apply_refund(loaded: LoadedOperation, outcome: Learned, refund: Json, why: str) -> list[Fact]:
    row = _refund(loaded)
    if outcome is not Learned.SUCCEEDED:
        return moved(row, RefundState.REFUSED, why)
    row.stripe_refund = str(refund["id"])
    return moved(row, _state_of(refund) or RefundState.PENDING, _why(refund) or why)


# Observe it: Stripe ends it later, and may find after its success that the bank does not take the money.


def _observe(loaded: LoadedOperation, read: Reader, _livemode: bool) -> LookResult:
    row = _refund(loaded)
    path = object_path(IdKind.REFUND, row.stripe_refund)
    try:
        refund = read_object(read, path, ("refund", str(row.stripe_refund)), livemode=None)
    except Gone:
        # Stripe deletes no refund.
        return LookResult(Learned.UNPROVABLE, why="no_such_refund")
    if wrong := differences(refund, amount=row.amount_minor, currency=row.currency.lower()):
        return LookResult(Learned.FOUND_DIFFERENT, refund, reason("refunded_otherwise", wrong))
    # One that has ended needs no further look, whatever this one shows.
    if row.life.is_final(row.state) or (row.state, _state_of(refund)) in row.life.legal:
        return LookResult(Learned.SUCCEEDED, refund)
    return LookResult(Learned.UNPROVABLE, refund, _why(refund))


def _apply_observed(loaded: LoadedOperation, _outcome: Learned, refund: Json, why: str) -> list[Fact]:
    row = _refund(loaded)
    state = _state_of(refund)
    # A row moves forward only, whatever Stripe shows.
    return moved(row, state, _why(refund) or why) if state and (row.state, state) in row.life.legal else []


_AT_STRIPE = {
    "pending": RefundState.PENDING,
    "requires_action": RefundState.REQUIRES_ACTION,
    "succeeded": RefundState.SUCCEEDED,
    "failed": RefundState.FAILED,
    "canceled": RefundState.CANCELED,
}
"""Stripe's statuses of a refund. Source: docs.stripe.com/api/refunds/object."""


def _state_of(refund: Json) -> RefundState | None:
    """None for a status that is new: it is looked at again."""
    return _AT_STRIPE.get(str(refund.get("status")))


def _why(refund: Json) -> str:
    """Why it failed, or why it is pending: `insufficient_funds` if our balance at Stripe does not cover it."""
    return str(refund.get("failure_reason") or refund.get("pending_reason") or "")


def moved(row: Refund, state: RefundState, why: str) -> list[Fact]:
    """Change its state, and return the fact that says so."""
    set_state(row, state)
    row.reason = why or None
    return [
        new_fact(
            row,
            state,
            minor=row.amount_minor,
            currency=row.currency,
            account=row.account or OWN,
            **({"invoice": row.invoice_id} if row.capture_id is None else {"capture": row.capture_id}),
            payment_intent=row.payment_intent,
            stripe_refund=row.stripe_refund,
            refund_reason=row.refund_reason,
            why=why,
        )
    ]


READ_PAYMENT = Step(
    # As all that only reads: the archive counts no doubt of it.
    name="read_payment",
    ask=lambda loaded: Ask("GET", f"/v1/invoice_payments?invoice={_refund(loaded).stripe_invoice}"),
    find=_read_payment,
    apply=_apply_payment,
    rules=Rules(replays=False),
)
REFUND = Step(
    name="refund",
    ask=_ask_to_refund,
    judge=lambda loaded, refund: judgment(_not_as_asked(_refund(loaded), refund)),
    find=_look_for_refund,
    apply=_apply_refund,
    creates=True,
    names_mode=False,
    rules=Rules(needs_a_person=True),
)
OBSERVE = Step(
    name="observe_refund",
    ask=lambda loaded: Ask("GET", object_path(IdKind.REFUND, _refund(loaded).stripe_refund)),
    find=_observe,
    apply=_apply_observed,
    # A bank may take days, which is no error.
    rules=Rules(replays=False, alarms=False),
)
