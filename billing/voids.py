"""Giving back what a customer has authorized, before any of it was captured."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from billing import ids, observing, request_ids, row_io
from billing.asking import callers_session, common_arguments, write_once
from billing.errors import AuthorizationTaken, InvalidRequest, InvalidText
from billing.facts import new_fact
from billing.holders import IS_CAPTURED, capture_holding, void_holding
from billing.provider_ids import IdKind, NoSuchShape, is_id, provider_id
from billing.registration import Afterwards, BusinessMetric, Compensation, Contract, Operation, Retry
from billing.states import VoidState, set_state
from billing.steps import LoadedOperation, Step
from billing.tables.entities import CANCELLATION_REASONS, Capture, Void
from billing.void_steps import READ_HOLD, VOID

ONCE_CAPTURED = (
    "money that was captured is refunded, and what a capture has kept is released by a last capture, or lapses"
)


@dataclass(frozen=True, slots=True)
class VoidReceipt:
    """What was requested, true once the caller's transaction commits. `new` is False if it was requested before."""

    void_id: ids.VoidId
    request_id: str
    new: bool


def request_void(
    session: Session,
    *,
    payment_intent: str,
    reason: str,
    request_id: str,
    correlation_id: str | None = None,
    account: str | None = None,
    actor: str = "application",
) -> VoidReceipt:
    """Ask, inside the caller's own transaction, for an authorization to be given back: nothing of it can be captured
    afterwards. The same `request_id` again returns the same receipt, and is the default of `correlation_id`.

    `reason`: `duplicate`, `fraudulent`, `requested_by_customer` or `abandoned`, as Stripe shows it in its dashboard.

    Raises RequestReused (same request id, other parameters), AuthorizationTaken, which names the capture or the void
    that has the authorization, and InvalidRequest before anything is written; the caller's transaction stays usable.
    A capture that another transaction requests at the same instant is not seen yet. Then one of the two wins at Stripe,
    and the reason of the other one names it: docs/moves/voids.md.
    """
    session = callers_session(session)
    payment_intent = provider_id("payment_intent", payment_intent)
    reason = _known_reason(reason)
    common = common_arguments(request_id, correlation_id, account, actor)
    row = Void(id=ids.new("void"), correlation_id=common.correlation_id)
    parameters = {"payment_intent": payment_intent, "cancellation_reason": reason}
    written = write_once(session, row, common, parameters, unless=IS_CAPTURED)
    if written is None:
        if (capture := capture_holding(session, common.account, payment_intent)) is not None:
            raise AuthorizationTaken(payment_intent, capture, instead=ONCE_CAPTURED)
        raise AuthorizationTaken(payment_intent, void_holding(session, common.account, payment_intent) or "unknown")
    if written is not row:
        return VoidReceipt(ids.VoidId(written.id), common.request_id, new=False)
    requested = new_fact(
        row,
        "requested",
        actor=common.actor,
        traceparent=common.traceparent,
        payment_intent=payment_intent,
        cancellation_reason=reason,
        account=common.account,
        request_digest=request_ids.digest_of(common.request_id),
    )
    row_io.save(session, (), [requested])
    return VoidReceipt(ids.VoidId(row.id), common.request_id, new=True)


def _known_reason(given: object) -> str:
    if not isinstance(given, str) or given not in CANCELLATION_REASONS:
        what = "" if isinstance(given, str) else f", not {type(given).__name__}"
        raise InvalidText("reason", f"must be one of {', '.join(CANCELLATION_REASONS)}{what}")
    return str.__str__(given)


def next_step(loaded: LoadedOperation) -> Step | None:
    row = loaded.row
    assert isinstance(row, Void), "the operation's own table"
    if row.state != VoidState.REQUESTED:
        return None
    return READ_HOLD if row.held_minor is None else VOID


def unfit(loaded: LoadedOperation) -> str | None:
    """As `Operation.unfit`."""
    row = loaded.row
    assert isinstance(row, Void), "the operation's own table"
    if not is_id(IdKind.PAYMENT_INTENT, row.payment_intent):
        return str(NoSuchShape(IdKind.PAYMENT_INTENT))
    return None if row.cancellation_reason in CANCELLATION_REASONS else "cancellation_reason is none of Stripe's"


def reconsider(session: Session, row: Void) -> bool:
    """As `Operation.reconsider`: a void that ended without its effect is set back, so that a look at Stripe shows
    whether the authorization was canceled after all. Refused if another void has it by now."""
    if row.state in (VoidState.REQUESTED, VoidState.VOIDED):
        return False
    holder = void_holding(session, row.account, row.payment_intent)
    if holder not in (None, row.id):
        raise InvalidRequest(str(holder), f"gives {row.payment_intent} back since; its own end counts")
    set_state(row, VoidState.REQUESTED)
    row.reason = None
    return True


def _shown(_session: Session, row: Void) -> dict[str, Any]:
    return {
        "payment_intent": row.payment_intent,
        "cancellation_reason": row.cancellation_reason,
        "held_minor": row.held_minor,
        "currency": row.currency,
    }


OPERATION = Operation(
    table=Void,
    prefix="void",
    contracts=(
        Contract(
            name="void_authorization",
            topic="requested",
            # With the captures, whose calls it competes with. It has no deadline, so a capture whose authorization
            # lapses soon comes first.
            queue="captures",
            max_attempts=5,
            call_budget_s=30,
            retry=Retry.PROMPT,
            owner="payments",
            purpose="give one authorization back, once",
            payload={
                "payment_intent": "text",
                "cancellation_reason": "text",
                "account": "text or null",
                "request_digest": "optional text",
            },
        ),
        # No step of its own: an open cancel is looked at at once, and what was canceled stays so.
        observing.contract("void", queue="captures", owner="payments"),
    ),
    next_step=next_step,
    steps={step.name: step for step in (READ_HOLD, VOID)}.__getitem__,
    belongs_to=((Void.payment_intent, Capture.payment_intent),),
    scope="voids",
    amount="held_minor",
    business=(BusinessMetric("voided_money_minor", VoidState.VOIDED, "money that voids gave back", money=True),),
    found_by={"pi": Void.payment_intent},
    shown=_shown,
    unfit=unfit,
    reconsider=reconsider,
    compensation=Compensation("nothing: what was held is free again; the customer authorizes the payment anew"),
    afterwards={
        VoidState.VOIDED: Afterwards("nothing: the authorization is canceled, and holds no money"),
        VoidState.REFUSED: Afterwards(
            "nothing here: nothing was given back; money that a capture took is refunded, and its reason names that one"
        ),
        VoidState.EXPIRED: Afterwards("nothing: the authorization had lapsed, and holds no money"),
    },
)
