"""The provider calls of a void: reading what the authorization holds, and canceling it.

The read comes first, because a cancel that comes too late is not always refused: where a part was captured, it releases
the rest, which somebody may have kept for another capture. From the read on, the open record holds the payment intent,
so no capture of ours comes in between. Sources: docs.stripe.com/api/payment_intents/cancel, and
docs.stripe.com/payments/multicapture, by which such a rest is released by a last capture, of 0.
"""

from collections.abc import Mapping
from typing import Any

from billing.capture_steps import LAPSED
from billing.differences import differences, reason
from billing.facts import OWN, new_fact
from billing.holders import CAPTURED_BY
from billing.idempotency import Rules
from billing.learned import Learned
from billing.own_events import around, by_whom
from billing.provider_ids import IdKind, object_path
from billing.states import VoidState, set_state
from billing.steps import (
    METADATA_KEY,
    Ask,
    Gone,
    Json,
    Judgment,
    LoadedOperation,
    LookResult,
    Reader,
    Step,
    judgment,
    read_object,
)
from billing.tables.entities import Void
from billing.tables.facts import Fact

LAPSED_BEFORE = "lapsed_before"
"""The reason of a void whose authorization had lapsed, or was given back by Stripe itself."""


def _void(loaded: LoadedOperation) -> Void:
    assert isinstance(loaded.row, Void)
    return loaded.row


def _path(loaded: LoadedOperation, *verb: str) -> str:
    return object_path(IdKind.PAYMENT_INTENT, _void(loaded).payment_intent, *verb)


def _read_intent(loaded: LoadedOperation, read: Reader, livemode: bool) -> Json:
    return read_object(read, _path(loaded), ("payment_intent", _void(loaded).payment_intent), livemode=livemode)


# What it holds.


def _read_hold(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
    try:
        intent = _read_intent(loaded, read, livemode)
    except Gone as gone:
        return LookResult(Learned.REFUSED if gone.sure else Learned.LOOK_UNANSWERED, why="no_such_payment_intent")
    if (too_late := _too_late(intent)) is not None:
        return LookResult(Learned.REFUSED, intent, too_late)
    if _has_lapsed(intent):
        return LookResult(Learned.EXPIRED, intent, LAPSED_BEFORE)
    if intent.get("status") == "processing":
        # The customer's bank has not answered yet, and Stripe cancels such an intent in rare cases only.
        return LookResult(Learned.UNPROVABLE, intent, _not_canceled(intent))
    # A canceled intent, too: Stripe refuses to cancel it again, and the look that follows finds out whose it was.
    return LookResult(Learned.SUCCEEDED, intent)


def _apply_hold(loaded: LoadedOperation, outcome: Learned, intent: Json, why: str) -> list[Fact]:
    row = _void(loaded)
    if outcome is not Learned.SUCCEEDED:
        return _apply_void(loaded, outcome, intent, why)
    currency = intent.get("currency")
    row.held_minor, row.currency = _held(intent), currency.upper() if isinstance(currency, str) else None
    return [new_fact(row, "hold_read", minor=row.held_minor, currency=row.currency)]


def _held(intent: Json) -> int:
    """What a cancel gives back, in minor units. Nothing is held if no card was authorized; of a canceled intent Stripe
    shows only how much it was about."""
    authorized = isinstance(intent.get("latest_charge"), str)
    amount = intent.get("amount" if intent.get("status") == "canceled" else "amount_capturable")
    return amount if authorized and type(amount) is int and amount > 0 else 0


# The cancel.


def _ask_to_cancel(loaded: LoadedOperation) -> Ask:
    row = _void(loaded)
    parameters = {"cancellation_reason": row.cancellation_reason}
    # Without a deadline: once the authorization has lapsed, Stripe refuses the cancel, and nothing is lost.
    return Ask("POST", _path(loaded, "cancel"), parameters, row.payment_intent)


def _judge_void(loaded: LoadedOperation, intent: Json) -> Judgment:
    wrong = differences(intent, object="payment_intent", id=_void(loaded).payment_intent)
    if wrong or intent.get("status") != "canceled":
        return judgment(wrong, Learned.ASK)
    return judgment(differences(intent, amount_received=0))


def _refused_void(loaded: LoadedOperation, error: Json) -> Learned:
    """By the intent inside the refusal. Of one that is canceled, only a look shows by whom."""
    intent = error.get("payment_intent")
    if not isinstance(intent, Mapping) or differences(intent, id=_void(loaded).payment_intent):
        return Learned.ASK
    excluded = _too_late(intent) is not None or intent.get("status") in _MAY_BE_CANCELED
    return Learned.REFUSED if excluded else Learned.ASK


def _look_for_void(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
    try:
        intent = _read_intent(loaded, read, livemode)
        if (too_late := _too_late(intent)) is not None:
            return LookResult(Learned.IMPOSSIBLE, intent, too_late)
        if _has_lapsed(intent):
            return LookResult(Learned.IMPOSSIBLE_EXPIRED, intent, LAPSED_BEFORE)
        if intent.get("status") == "canceled":
            whose = by_whom(
                loaded, read, "payment_intent.canceled", _void(loaded).payment_intent, _when(loaded, intent)
            )
            return LookResult(whose or Learned.FOUND_FREE, intent)
    except Gone as gone:
        # Stripe deletes no intent. Unless the account is known to be ours, its key may be another's.
        return LookResult(Learned.IMPOSSIBLE if gone.sure else Learned.UNPROVABLE, why="no_such_payment_intent")
    if intent.get("status") in _MAY_BE_CANCELED:
        return LookResult(Learned.ABSENT, intent)
    # `processing`, or a status that is new: it proves nothing.
    return LookResult(Learned.UNPROVABLE, intent, _not_canceled(intent))


def _when(loaded: LoadedOperation, intent: Json) -> Json:
    """The filter for the event of its cancellation."""
    at = intent.get("canceled_at")
    return around(at) if type(at) is int else loaded.created


_MAY_BE_CANCELED = ("requires_capture", "requires_payment_method", "requires_confirmation", "requires_action")
"""Source: docs.stripe.com/api/payment_intents/cancel."""


def _too_late(intent: Json) -> str | None:
    """Why there is nothing to void any more: money of it was taken. Names the capture, if it is one of ours. None: no
    money was taken."""
    received = intent.get("amount_received")
    if intent.get("status") != "succeeded" and not (type(received) is int and received > 0):
        return None
    metadata = intent.get("metadata")
    by = metadata.get(METADATA_KEY) if isinstance(metadata, Mapping) else None
    if isinstance(by, str):
        return f"{CAPTURED_BY}: {by}"
    return reason("captured_elsewhere", differences(intent, status="requires_capture", amount_received=0))


def _has_lapsed(intent: Json) -> bool:
    return intent.get("status") == "canceled" and intent.get("cancellation_reason") in LAPSED


def _not_canceled(intent: Json) -> str:
    return reason("not_over", differences(intent, status="canceled"))


_STATES = {
    Learned.SUCCEEDED: VoidState.VOIDED,
    Learned.DECLINED: VoidState.REFUSED,
    Learned.REFUSED: VoidState.REFUSED,
    Learned.EXPIRED: VoidState.EXPIRED,
    Learned.CANCELED: VoidState.VOIDED,
}


def _apply_void(loaded: LoadedOperation, outcome: Learned, data: Json, why: str) -> list[Fact]:
    row = _void(loaded)
    set_state(row, _STATES[outcome])
    if row.state == VoidState.REFUSED:
        why = _too_late(_attached(data)) or why
    row.reason = why or None
    about: dict[str, Any] = {
        "minor": row.held_minor,
        "currency": row.currency,
        "account": row.account or OWN,
        "payment_intent": row.payment_intent,
        "why": why,
    }
    if row.state == VoidState.VOIDED:
        return [new_fact(row, "voided", **about)]
    code, _, capture = why.partition(": ")
    winner = {"winner": capture} if code == CAPTURED_BY else {}
    return [new_fact(row, row.state, **about, **winner)]


def _attached(data: Json) -> Json:
    """The intent that an answer is, or that is attached to its error."""
    error = data.get("error")
    attached = error.get("payment_intent") if isinstance(error, Mapping) else None
    return attached if isinstance(attached, Mapping) else data


READ_HOLD = Step(
    name="read_hold",
    ask=lambda loaded: Ask("GET", _path(loaded), provider_object=_void(loaded).payment_intent),
    find=_read_hold,
    apply=_apply_hold,
    rules=Rules(replays=False),
)
VOID = Step(
    name="void",
    ask=_ask_to_cancel,
    judge=_judge_void,
    refusal=_refused_void,
    find=_look_for_void,
    apply=_apply_void,
)
