"""The provider calls of a capture: reading the authorization, and taking the money."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from billing import request_ids
from billing.differences import below, differences, reason
from billing.facts import OWN, new_fact
from billing.idempotency import Rules
from billing.learned import Learned
from billing.provider_ids import IdKind, object_path
from billing.states import CaptureState, set_state
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
from billing.tables.entities import Capture
from billing.tables.facts import Fact


def _capture(loaded: LoadedOperation) -> Capture:
    assert isinstance(loaded.row, Capture)
    return loaded.row


def _path(loaded: LoadedOperation, *verb: str) -> str:
    return object_path(IdKind.PAYMENT_INTENT, _capture(loaded).payment_intent, *verb)


# The authorization, read once if the caller did not pass it.


def _read_authorization(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
    row = _capture(loaded)
    try:
        intent = read_object(
            read,
            f"{_path(loaded)}?expand[0]=latest_charge",
            ("payment_intent", row.payment_intent),
            livemode=livemode,
        )
    except Gone as gone:
        return LookResult(Learned.REFUSED if gone.sure else Learned.LOOK_UNANSWERED, why="no_such_payment_intent")
    status = intent.get("status")
    if status == "canceled":
        return LookResult(_lapsed_or_canceled(intent), intent, "canceled_at_stripe")
    if status == "processing":
        # The customer's bank has not answered yet.
        return LookResult(Learned.UNPROVABLE, intent, _not_capturable(intent))
    if status not in ("requires_capture", "succeeded"):
        return LookResult(Learned.REFUSED, intent, _not_capturable(intent))
    if wrong := differences(intent, currency=row.currency.lower()):
        return LookResult(Learned.REFUSED, intent, reason("currency_differs", wrong))
    if status == "requires_capture" and (wrong := differences(intent, amount_received=0)):
        return LookResult(Learned.REFUSED, intent, reason("captured_in_part", wrong))
    if status == "requires_capture" and (wrong := below(intent, "amount_capturable", row.amount_minor)):
        return LookResult(Learned.REFUSED, intent, reason("more_than_authorized", wrong))
    # A succeeded intent counts, too: Stripe refuses to capture it, and the look that follows compares it.
    return LookResult(Learned.SUCCEEDED, intent)


def _apply_authorization(loaded: LoadedOperation, outcome: Learned, intent: Json, why: str) -> list[Fact]:
    row = _capture(loaded)
    if outcome is not Learned.SUCCEEDED:
        return _apply_capture(loaded, outcome, intent, why)
    row.authorized_minor = _whole(intent, "amount_capturable")
    row.authorized_currency = str(intent.get("currency")).upper()
    row.capture_before = capture_before(intent)
    return [
        new_fact(
            row,
            "authorization_read",
            minor=row.authorized_minor,
            currency=row.authorized_currency,
            capture_before=iso(row.capture_before),
        ),
    ]


def capture_before(intent: Json) -> datetime | None:
    """The time until which, as Stripe says, the expanded charge may be captured; None if Stripe says nothing."""
    node: Any = intent
    for name in ("latest_charge", "payment_method_details", "card", "capture_before"):
        node = node.get(name) if isinstance(node, Mapping) else None
    return datetime.fromtimestamp(node, UTC) if type(node) is int else None


# The capture.


def _ask_to_capture(loaded: LoadedOperation) -> Ask:
    row = _capture(loaded)
    metadata = {METADATA_KEY: row.id, **request_ids.metadata(row.request_id)}
    parameters = {"amount_to_capture": row.amount_minor, "metadata": metadata}
    return Ask("POST", _path(loaded, "capture"), parameters, row.payment_intent, row.capture_before)


def _judge_capture(loaded: LoadedOperation, intent: Json) -> Judgment:
    row = _capture(loaded)
    wrong = differences(intent, object="payment_intent", id=row.payment_intent, currency=row.currency.lower())
    if wrong or intent.get("status") != "succeeded":
        return judgment(wrong, Learned.ASK)
    return judgment(differences(intent, amount_received=row.amount_minor))


def _refused_capture(loaded: LoadedOperation, error: Json) -> Learned:
    """By the intent inside the refusal, of which nothing may have been received."""
    intent = error.get("payment_intent")
    if not isinstance(intent, Mapping) or differences(intent, id=_capture(loaded).payment_intent, amount_received=0):
        return Learned.ASK
    if intent.get("status") == "canceled":
        return _lapsed_or_canceled(intent)
    if intent.get("status") in _NOT_AUTHORIZED:
        return Learned.REFUSED
    if intent.get("status") == "requires_capture":
        expired = error.get("code") in ("charge_expired_for_capture", "capture_charge_authorization_expired")
        return Learned.EXPIRED if expired else Learned.REFUSED
    return Learned.ASK


def _look_for_capture(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
    row = _capture(loaded)
    try:
        intent = read_object(read, _path(loaded), ("payment_intent", row.payment_intent), livemode=livemode)
    except Gone as gone:
        # Stripe deletes no intent. Unless the account is known to be ours, its key may be another's.
        return LookResult(Learned.IMPOSSIBLE if gone.sure else Learned.UNPROVABLE, why="no_such_payment_intent")
    untouched = ("canceled", "requires_capture", *_NOT_AUTHORIZED)
    match intent.get("status"):
        case "succeeded":
            return _captured_by_whom(row, intent)
        case status if status in untouched and (wrong := differences(intent, amount_received=0)):
            # Somebody captured a part and left the rest open, which our own capture never does.
            return LookResult(Learned.FOUND_DIFFERENT, intent, reason("captured_in_part", wrong))
        case "canceled":
            expired = _lapsed_or_canceled(intent) is Learned.EXPIRED
            learned = Learned.IMPOSSIBLE_EXPIRED if expired else Learned.IMPOSSIBLE_CANCELED
            return LookResult(learned, intent, "canceled_at_stripe")
        case "requires_capture":
            return LookResult(Learned.ABSENT, intent)
        case status if status in _NOT_AUTHORIZED:
            return LookResult(Learned.IMPOSSIBLE, intent, _not_capturable(intent))
        case _:
            # `processing`, or a status that is new: it proves nothing.
            return LookResult(Learned.UNPROVABLE, intent, reason("not_over", differences(intent, status="succeeded")))


def _captured_by_whom(row: Capture, intent: Json) -> LookResult:
    if wrong := differences(intent, amount_received=row.amount_minor, currency=row.currency.lower()):
        return LookResult(Learned.FOUND_DIFFERENT, intent, reason("captured_otherwise", wrong))
    metadata = intent.get("metadata")
    if not isinstance(metadata, Mapping) or metadata.get(METADATA_KEY) is None:
        return LookResult(Learned.FOUND_FREE, intent)
    if wrong := differences(intent, within="metadata", **{METADATA_KEY: row.id}):
        return LookResult(Learned.FOUND_CLAIMED, intent, reason("captured_for_another", wrong))
    return LookResult(Learned.FOUND_OURS, intent)


_NOT_AUTHORIZED = ("requires_payment_method", "requires_confirmation", "requires_action")
"""The intent holds no money that could be captured, whatever it held before."""


def _not_capturable(intent: Json) -> str:
    return reason("not_capturable", differences(intent, status="requires_capture"))


LAPSED = ("automatic", "expired")
"""Stripe cancels a lapsed authorization by itself, for these reasons. Source:
docs.stripe.com/api/payment_intents/object."""


def _lapsed_or_canceled(intent: Json) -> Learned:
    return Learned.EXPIRED if intent.get("cancellation_reason") in LAPSED else Learned.CANCELED


_STATES = {
    Learned.SUCCEEDED: CaptureState.CAPTURED,
    Learned.DECLINED: CaptureState.DECLINED,
    Learned.REFUSED: CaptureState.REFUSED,
    Learned.EXPIRED: CaptureState.EXPIRED,
    Learned.CANCELED: CaptureState.CANCELED,
}


def _apply_capture(loaded: LoadedOperation, outcome: Learned, intent: Json, why: str) -> list[Fact]:
    row = _capture(loaded)
    set_state(row, _STATES[outcome])
    row.reason = why or None
    money: dict[str, Any] = {"minor": row.amount_minor, "currency": row.currency, "account": row.account or OWN}
    if outcome is not Learned.SUCCEEDED:
        return [new_fact(row, row.state, **money, why=why)]
    charge = intent.get("latest_charge")
    row.charge = charge if isinstance(charge, str) else None
    return [
        new_fact(
            row,
            "captured",
            **money,
            # What was not captured of it, Stripe has released.
            authorized_minor=row.authorized_minor,
            payment_intent=row.payment_intent,
            charge=row.charge,
            why=why,
        )
    ]


def _whole(data: Json, name: str) -> int:
    value = data.get(name)
    return value if type(value) is int else -1


def iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


READ_AUTHORIZATION = Step(
    name="read_authorization",
    ask=lambda loaded: Ask("GET", _path(loaded)),
    find=_read_authorization,
    apply=_apply_authorization,
    rules=Rules(replays=False),
)
CAPTURE = Step(
    name="capture",
    ask=_ask_to_capture,
    judge=_judge_capture,
    refusal=_refused_capture,
    find=_look_for_capture,
    apply=_apply_capture,
)
