"""What an answer to a send means: definite, worth a look, nothing learned, or no answer at all."""

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
    """It says what happened, or where to look: see `Reading.learned`."""
    NO_ANSWER = "no_answer"
    """It left us, and what came back says nothing about its effect."""
    THROTTLED = "throttled"
    """Not executed, and not an unanswered send: the same key later, more slowly."""
    MISCONFIGURED = "misconfigured"
    """Not executed: our credentials are refused. Nothing about this operation is wrong."""
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
    """A success of this very key: only how things stand now, or all of it, is still to be seen."""


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
    """First match wins, and the last row takes everything else. Statuses and codes only, never texts."""
    match answer:
        case NotSent(why):
            return Reading(Kind.NOT_SENT, why=why)
        case NoAnswer(why):
            return Reading(Kind.NO_ANSWER, why=why)
    if answer.status in (200, 201, 202) and answer.data is not None:
        return _success(step, loaded, record, answer, answer.data)
    status, why = answer.status, _reason(answer)
    if 400 <= status < 500 and not (answer.data and isinstance(answer.data.get("error"), Mapping)):
        # Not Stripe's way to refuse: some proxy on the way said it, and what it knows is nothing.
        return Reading(Kind.NO_ANSWER, why=f"status {status} without an error of Stripe's")
    match status:
        case 402:
            return Reading(Kind.LEARNED, Learned.DECLINED, why, answer.data, replayed=answer.replayed)
        case 400 if answer.error_type == "idempotency_error":
            return Reading(Kind.LEARNED, Learned.ASK, why)
        # `unanswered` counts the send that this is the answer to: at most 1 means that no other is open.
        case 400 if step.creates and record.unanswered <= 1 and not answer.replayed:
            # No object was there before, so there is no state that this could be about.
            return Reading(Kind.LEARNED, Learned.REFUSED, why, answer.data)
        case 400 if _is_about_state(answer):
            learned = step.refusal(loaded, _error(answer))
            return Reading(Kind.LEARNED, learned, why, answer.data, replayed=answer.replayed)
        case 401 | 403:
            return Reading(Kind.MISCONFIGURED, why=why, status=status)
        case 404:
            # Gone, never there, or another account's key: a look asks the account, too.
            return Reading(Kind.LEARNED, Learned.ASK, why)
        case 400:
            # The request itself was not accepted. That says nothing about an earlier send of this key.
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
    # Only a deleted object carries no livemode; everything else must say that it is of our mode.
    if data.get("livemode") is not record.livemode and data.get("deleted") is not True:
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
