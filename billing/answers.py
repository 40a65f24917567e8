"""What an answer to a send means: it is definite, it asks for a look, it says nothing, or there was no answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from billing.differences import differences, listed
from billing.gateway import Answer, NoAnswer, NotSent, Response
from billing.learned import Learned
from billing.steps import Json, LoadedOperation, Step
from billing.tables.idempotency_records import Record


class Kind(StrEnum):
    """How an answer counts."""

    LEARNED = "learned"
    """It says what happened, or that a look is needed: see `Reading.learned`."""
    NO_ANSWER = "no_answer"
    """The request may have been sent, and what came back says nothing about its effect."""
    THROTTLED = "throttled"
    """Not executed, so it is no unanswered send. The same key is sent later, and the account is slowed down."""
    MISCONFIGURED = "misconfigured"
    """Not executed: Stripe refuses our credentials. The operation itself is correct."""
    NOT_SENT = "not_sent"


@dataclass(frozen=True, slots=True)
class Reading:
    kind: Kind
    learned: Learned | None = None
    why: str = ""
    data: Json | None = None
    status: int = 0
    server_error: bool = False
    replayed: bool = False
    executed: bool = False
    """Stripe executed the call with this key. A look must still read the object's present state."""


# 400s about the state of an object; every other 400 with a code or a parameter is about the request.
# Source: docs.stripe.com/error-codes.
_STATE_CODES = frozenset(
    {
        "payment_intent_unexpected_state",
        "amount_too_large",
        "amount_too_small",
        "charge_already_captured",
        "charge_expired_for_capture",
        "capture_charge_authorization_expired",
        "invoice_not_editable",
        "intent_invalid_state",
    }
)
_OBJECTS = ("payment_intent", "invoice", "charge")


def read_answer(step: Step, loaded: LoadedOperation, record: Record, answer: Answer) -> Reading:
    """What this answer means. The first match wins, and the last row takes everything else. Reads statuses and codes,
    never texts."""
    match answer:
        case NotSent(why):
            return Reading(Kind.NOT_SENT, why=why)
        case NoAnswer(why):
            return Reading(Kind.NO_ANSWER, why=why)
    if answer.status in (200, 201, 202) and answer.data is not None:
        return _success(step, loaded, record, answer, answer.data)
    status, why = answer.status, _reason(answer)
    if 400 <= status < 500 and not (answer.data and isinstance(answer.data.get("error"), Mapping)):
        # Stripe's refusals have an error object. This one is a proxy's, which does not know what Stripe did.
        return Reading(Kind.NO_ANSWER, why=f"status {status} without an error of Stripe's")
    match status:
        case 402:
            return Reading(Kind.LEARNED, Learned.DECLINED, why, answer.data, replayed=answer.replayed)
        case 400 if answer.error_type == "idempotency_error":
            return Reading(Kind.LEARNED, Learned.ASK, why)
        # `unanswered` counts the send that this is the answer to: at most 1 means that no other is open.
        case 400 if step.creates and record.unanswered <= 1 and not answer.replayed:
            # The object did not exist before this call, so no earlier effect can be the reason.
            return Reading(Kind.LEARNED, Learned.REFUSED, why, answer.data)
        case 400 if _is_about_state(answer):
            learned = step.refusal(loaded, _error(answer))
            return Reading(Kind.LEARNED, learned, why, answer.data, replayed=answer.replayed)
        case 401 | 403:
            return Reading(Kind.MISCONFIGURED, why=why, status=status)
        case 404:
            # The object is gone, never existed, or belongs to another account than our key. A look asks for the
            # account, too.
            return Reading(Kind.LEARNED, Learned.ASK, why)
        case 400:
            # Stripe did not accept the request. That says nothing about an earlier send of this key.
            first = record.unanswered <= 1
            return Reading(Kind.LEARNED, Learned.REFUSED if first else Learned.ASK, why, answer.data)
        case 409 if answer.error_code == "idempotency_key_in_use":
            return Reading(Kind.THROTTLED, why=why)
        case 429 if not answer.replayed:
            return Reading(Kind.THROTTLED, why=why)
    return Reading(
        Kind.NO_ANSWER,
        why=why,
        server_error=status >= 500,
        replayed=answer.replayed,
    )


def _success(step: Step, loaded: LoadedOperation, record: Record, answer: Response, data: Json) -> Reading:
    assert step.judge is not None, "a step that only looks has no answer to a send"
    learned, why = step.judge(loaded, data)
    # A deleted object has no livemode, and neither has one of some kinds. Every other must have ours.
    names_mode = step.names_mode and data.get("deleted") is not True
    if names_mode and data.get("livemode") is not record.livemode:
        wrong_mode = listed(differences(data, livemode=record.livemode))
        learned, why = Learned.MISMATCH, "; ".join(filter(None, (wrong_mode, why)))
    if not step.trust_replay and (answer.replayed or learned is Learned.ASK) and learned is not Learned.MISMATCH:
        return Reading(Kind.LEARNED, Learned.ASK, "", data, replayed=answer.replayed, executed=True)
    return Reading(Kind.LEARNED, learned, why, data, replayed=answer.replayed)


def _is_about_state(answer: Response) -> bool:
    error = _error(answer)
    if any(isinstance(error.get(name), dict) for name in _OBJECTS):
        return True
    return answer.error_code in _STATE_CODES or (answer.error_code is None and "param" not in error)


def _reason(answer: Response) -> str:
    """Stripe's code, and the parameter that it is about; never its text."""
    code = answer.error_code or answer.error_type or f"status {answer.status}"
    return f"{code}: {answer.error_param}" if answer.error_param else code


def _error(answer: Response) -> Json:
    error = answer.data.get("error") if answer.data else None
    return error if isinstance(error, dict) else {}
