"""The provider calls of a capture: reading the authorisation, and taking the money."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from billing.facts import told
from billing.idempotency import Learned, Rules
from billing.provider_ids import Kind, object_path
from billing.steps import METADATA_KEY, Ask, Case, Finding, Gone, Json, Reader, Step, Unread, as_asked, see
from billing.tables import Capture, CaptureState, Fact


def _capture(case: Case) -> Capture:
    assert isinstance(case.row, Capture)
    return case.row


def _path(case: Case, *verb: str) -> str:
    return object_path(Kind.PAYMENT_INTENT, _capture(case).payment_intent, *verb)


# The authorisation, read once where the caller did not bring it.


def _read_authorisation(case: Case, read: Reader, livemode: bool) -> Finding:
    row = _capture(case)
    try:
        intent = see(
            read,
            f"{_path(case)}?expand[0]=latest_charge",
            ("payment_intent", row.payment_intent),
            livemode=livemode,
        )
    except Unread as unread:
        return Finding(Learned.LOOK_UNANSWERED, why=unread.why, answer=unread.answer)
    except Gone as gone:
        return Finding(Learned.REFUSED if gone.sure else Learned.LOOK_UNANSWERED, why="no_such_payment_intent")
    status = intent.get("status")
    if status == "canceled":
        return Finding(_lapsed_or_canceled(case, intent), intent, "canceled_at_stripe")
    if status not in ("requires_capture", "succeeded"):
        return Finding(Learned.REFUSED, intent, f"not_capturable:{status}")
    if intent.get("currency") != row.currency.lower():
        return Finding(Learned.REFUSED, intent, "currency_differs")
    if status == "requires_capture" and row.amount_minor > _whole(intent, "amount_capturable"):
        return Finding(Learned.REFUSED, intent, "more_than_authorised")
    # A succeeded intent goes on too: Stripe refuses to capture it, and the look that follows compares.
    return Finding(Learned.SUCCEEDED, intent)


def _apply_authorisation(case: Case, outcome: Learned, intent: Json, why: str) -> list[Fact]:
    row = _capture(case)
    if outcome is not Learned.SUCCEEDED:
        return _apply_capture(case, outcome, intent, why)
    row.authorised_minor = _whole(intent, "amount_capturable")
    row.authorised_currency = str(intent.get("currency")).upper()
    row.capture_before = capture_before(intent)
    return [
        told(
            row,
            "authorisation_read",
            minor=row.authorised_minor,
            currency=row.authorised_currency,
            capture_before=iso(row.capture_before),
        ),
    ]


def capture_before(intent: Json) -> datetime | None:
    """Until when Stripe says the expanded charge may be captured; None where it says nothing."""
    node: Any = intent
    for name in ("latest_charge", "payment_method_details", "card", "capture_before"):
        node = node.get(name) if isinstance(node, Mapping) else None
    return datetime.fromtimestamp(node, UTC) if type(node) is int else None


# The capture.


def _ask_to_capture(case: Case) -> Ask:
    row = _capture(case)
    parameters = {"amount_to_capture": row.amount_minor, "metadata": {METADATA_KEY: row.id}}
    return Ask("POST", _path(case, "capture"), parameters, row.payment_intent)


def _judge_capture(case: Case, intent: Json) -> Learned:
    row = _capture(case)
    if not as_asked(intent, object="payment_intent", id=row.payment_intent, currency=row.currency.lower()):
        return Learned.MISMATCH
    if intent.get("status") != "succeeded":
        return Learned.ASK
    return Learned.SUCCEEDED if as_asked(intent, amount_received=row.amount_minor) else Learned.MISMATCH


def _refused_capture(case: Case, error: Json) -> Learned:
    intent = error.get("payment_intent")
    if not isinstance(intent, Mapping) or intent.get("id") != _capture(case).payment_intent:
        return Learned.ASK
    if intent.get("status") == "canceled" and intent.get("amount_received") == 0:
        return _lapsed_or_canceled(case, intent)
    if intent.get("status") == "requires_capture" and intent.get("amount_received") == 0:
        expired = error.get("code") in ("charge_expired_for_capture", "capture_charge_authorization_expired")
        return Learned.EXPIRED if expired else Learned.REFUSED
    return Learned.ASK


def _look_for_capture(case: Case, read: Reader, livemode: bool) -> Finding:
    row = _capture(case)
    try:
        intent = see(read, _path(case), ("payment_intent", row.payment_intent), livemode=livemode)
    except Unread as unread:
        return Finding(Learned.LOOK_UNANSWERED, why=unread.why, answer=unread.answer)
    except Gone as gone:
        # Stripe deletes no intent. Unless the account is known to be ours, its key may be another's.
        return Finding(Learned.IMPOSSIBLE if gone.sure else Learned.UNPROVABLE, why="no_such_payment_intent")
    received = _whole(intent, "amount_received")
    match intent.get("status"):
        case "succeeded":
            if received != row.amount_minor or intent.get("currency") != row.currency.lower():
                return Finding(Learned.FOUND_DIFFERENT, intent, "captured_otherwise")
            owner = (intent.get("metadata") or {}).get(METADATA_KEY)
            if owner is None:
                return Finding(Learned.FOUND_FREE, intent)
            return Finding(Learned.FOUND_OURS if owner == row.id else Learned.FOUND_CLAIMED, intent)
        case "canceled":
            expired = _lapsed_or_canceled(case, intent) is Learned.EXPIRED
            learned = Learned.IMPOSSIBLE_EXPIRED if expired else Learned.IMPOSSIBLE_CANCELED
            return Finding(learned, intent, "canceled_at_stripe")
        case "requires_capture" if received == 0:
            return Finding(Learned.ABSENT, intent)
        case status:
            # Processing, or a status that Stripe invents tomorrow: it proves nothing.
            return Finding(Learned.UNPROVABLE, intent, f"status:{status}")


def _lapsed_or_canceled(case: Case, intent: Json) -> Learned:
    """Stripe cancels a lapsed authorisation by itself. Reasons: docs.stripe.com/api/payment_intents/object."""
    lapsed = intent.get("cancellation_reason") in ("automatic", "expired")
    return Learned.EXPIRED if lapsed else Learned.CANCELED


_STATES = {
    Learned.SUCCEEDED: CaptureState.CAPTURED,
    Learned.DECLINED: CaptureState.DECLINED,
    Learned.REFUSED: CaptureState.REFUSED,
    Learned.EXPIRED: CaptureState.EXPIRED,
    Learned.CANCELED: CaptureState.CANCELED,
}


def _apply_capture(case: Case, outcome: Learned, intent: Json, why: str) -> list[Fact]:
    row = _capture(case)
    row.state, row.reason = _STATES[outcome], why or None
    if outcome is not Learned.SUCCEEDED:
        return [told(row, row.state, minor=row.amount_minor, currency=row.currency, why=why)]
    charge = intent.get("latest_charge")
    row.charge = charge if isinstance(charge, str) else None
    return [
        told(
            row,
            "captured",
            minor=row.amount_minor,
            currency=row.currency,
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


READ_AUTHORISATION = Step(
    name="read_authorisation",
    ask=lambda case: Ask("GET", _path(case)),
    look=_read_authorisation,
    apply=_apply_authorisation,
    rules=Rules(replays=False),
)
CAPTURE = Step(
    name="capture",
    ask=_ask_to_capture,
    judge=_judge_capture,
    refusal=_refused_capture,
    look=_look_for_capture,
    apply=_apply_capture,
)
