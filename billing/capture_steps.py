"""The provider calls of a capture: reading the authorization, and taking the money."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from billing import capture_terms, receipts, request_ids
from billing.capture_places import taken_before
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
    status, before = intent.get("status"), taken_before(loaded)
    if status == "canceled":
        return LookResult(_lapsed_or_canceled(intent), intent, "canceled_at_stripe")
    if before and status == "succeeded" and not differences(intent, amount_received=before):
        return LookResult(Learned.CANCELED, intent, REST_RELEASED)
    if status == "processing":
        # The customer's bank has not answered yet.
        return LookResult(Learned.UNPROVABLE, intent, _not_capturable(intent))
    if status not in ("requires_capture", "succeeded"):
        return LookResult(Learned.REFUSED, intent, _not_capturable(intent))
    if wrong := differences(intent, currency=row.currency.lower()):
        return LookResult(Learned.REFUSED, intent, reason("currency_differs", wrong))
    if status == "requires_capture" and (wrong := differences(intent, amount_received=before)):
        return LookResult(Learned.REFUSED, intent, reason("captured_in_part", wrong))
    if status == "requires_capture" and (wrong := below(intent, "amount_capturable", row.amount_minor)):
        return LookResult(Learned.REFUSED, intent, reason("more_than_authorized", wrong))
    if row.keeps_remainder and _of_card(intent, "multicapture", "status") == "unavailable":
        return LookResult(Learned.REFUSED, intent, NO_MULTICAPTURE)
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
    found = _of_card(intent, "capture_before")
    return datetime.fromtimestamp(found, UTC) if type(found) is int else None


def _of_card(intent: Json, *names: str) -> object:
    """What the expanded charge says about its card; None if it says nothing."""
    node: Any = intent
    for name in ("latest_charge", "payment_method_details", "card", *names):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


# The capture.

REST_RELEASED = "rest_released"
"""An earlier capture took a part, and what was left is not held any more: it lapsed, or somebody released it."""
NO_MULTICAPTURE = "multicapture_unavailable"
"""The rest cannot be kept: Stripe allows only one capture of this authorization."""


def _ask_to_capture(loaded: LoadedOperation) -> Ask:
    row = _capture(loaded)
    metadata = {**capture_terms.callers_metadata(row), METADATA_KEY: row.id, **request_ids.metadata(row.request_id)}
    parameters = {"amount_to_capture": row.amount_minor, **capture_terms.parameters(row), "metadata": metadata}
    return Ask("POST", _path(loaded, "capture"), parameters, row.payment_intent, row.capture_before)


def _judge_capture(loaded: LoadedOperation, intent: Json) -> Judgment:
    row = _capture(loaded)
    wrong = differences(intent, object="payment_intent", id=row.payment_intent, currency=row.currency.lower())
    if wrong or intent.get("status") not in _ended(row):
        return judgment(wrong, Learned.ASK)
    return judgment(differences(intent, amount_received=taken_before(loaded) + row.amount_minor))


def _ended(row: Capture) -> tuple[str, ...]:
    """The intent's status after this capture. It has succeeded, too, if nothing is left that could be kept."""
    return ("succeeded", "requires_capture") if row.keeps_remainder else ("succeeded",)


def _refused_capture(loaded: LoadedOperation, error: Json) -> Learned:
    """By the intent inside the refusal, of which nothing may have been received but what our earlier captures took."""
    intent, before = error.get("payment_intent"), taken_before(loaded)
    named = _capture(loaded).payment_intent
    if not isinstance(intent, Mapping) or differences(intent, id=named, amount_received=before):
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
    before = taken_before(loaded)
    untouched = ("canceled", "requires_capture", *_NOT_AUTHORIZED)
    match intent.get("status"):
        case "succeeded" if before and not differences(intent, amount_received=before):
            return LookResult(Learned.IMPOSSIBLE_CANCELED, intent, REST_RELEASED)
        case status if status in _ended(row) and (status == "succeeded" or differences(intent, amount_received=before)):
            return _captured_by_whom(row, intent, before)
        case status if status in untouched and (wrong := differences(intent, amount_received=before)):
            # Somebody captured a part and left the rest open, which our own capture does only if it keeps the rest.
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


def _captured_by_whom(row: Capture, intent: Json, before: int) -> LookResult:
    """`before`: what our earlier captures took. Their ids may be the newest in its metadata, and then this effect is
    not provably ours."""
    if wrong := differences(intent, amount_received=before + row.amount_minor, currency=row.currency.lower()):
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
    if why == REST_RELEASED and _past_its_time(loaded, intent):
        outcome = Learned.EXPIRED
    if outcome is Learned.REFUSED and _parameter_of(intent) == "final_capture":
        why = NO_MULTICAPTURE
    set_state(row, _STATES[outcome])
    row.reason = why or None
    money: dict[str, Any] = {"minor": row.amount_minor, "currency": row.currency, "account": row.account or OWN}
    if outcome is not Learned.SUCCEEDED:
        return [new_fact(row, row.state, **money, why=why)]
    charge = intent.get("latest_charge")
    row.charge = charge if isinstance(charge, str) else None
    row.customer = receipts.customer_of(intent)
    return [
        new_fact(
            row,
            "captured",
            **money,
            # What was not captured of it, Stripe has released, unless it is kept.
            authorized_minor=None if row.keeps_remainder else row.authorized_minor,
            payment_intent=row.payment_intent,
            charge=row.charge,
            why=why,
            **beside_the_amount(row),
        )
    ]


def beside_the_amount(row: Capture) -> dict[str, Any]:
    """What finance needs of its terms. A plain capture has none, and its fact stays as short as it was."""
    terms = {
        "application_fee_minor": row.application_fee_minor,
        "transfer_minor": row.transfer_minor,
        "keeps_remainder": row.keeps_remainder or None,
    }
    return {name: value for name, value in terms.items() if value is not None}


def _past_its_time(loaded: LoadedOperation, intent: Json) -> bool:
    """By the database's clock of the call that has just concluded. Stripe says of a rest that is released neither who
    did it nor when."""
    ended = max(record.concluded_at for record in loaded.records if record.concluded_at)
    until = _capture(loaded).capture_before or capture_before(intent)
    return until is not None and ended >= until


def _parameter_of(answer: Json) -> object:
    """The parameter that a refusal is about; None if it names none."""
    error = answer.get("error")
    return error.get("param") if isinstance(error, Mapping) else None


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
