"""What comes next for a capture, and its registration. Asking for one is `billing.capture_requests`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import capture_terms, observing, receipts
from billing.capture_places import comes_after, earlier, holder_of
from billing.capture_requests import WITH_TERMS
from billing.capture_steps import CAPTURE, READ_AUTHORIZATION
from billing.compensations import withdrawn
from billing.errors import InvalidRequest
from billing.holders import VOIDED_BY, void_holding
from billing.money import money_problem
from billing.provider_ids import IdKind, NoSuchShape, is_id
from billing.registration import Afterwards, BusinessMetric, Compensation, Contract, Operation, Retry
from billing.states import FREES_THE_AUTHORIZATION, CaptureState, set_state
from billing.steps import LoadedOperation, Step
from billing.tables.entities import Capture, Refund
from billing.tables.invoiced_captures import InvoicedCapture
from billing.timing import may_be_real


def _row(loaded: LoadedOperation) -> Capture:
    assert isinstance(loaded.row, Capture), "the operation's own table"
    return loaded.row


def next_step(loaded: LoadedOperation) -> Step | None:
    row = _row(loaded)
    if row.state != CaptureState.REQUESTED:
        return None
    return READ_AUTHORIZATION if row.authorized_minor is None else CAPTURE


def unfit(loaded: LoadedOperation) -> str | None:
    """As `Operation.unfit`. Money and deadline are checked before the first call only: a call that was made is
    finished."""
    row = _row(loaded)
    if not is_id(IdKind.PAYMENT_INTENT, row.payment_intent):
        return str(NoSuchShape(IdKind.PAYMENT_INTENT))
    if loaded.records:
        return None
    if row.capture_before is not None and not may_be_real(row.capture_before):
        return "capture_before is no time that Stripe can have named"
    return capture_terms.unfit(row) or money_problem(row.amount_minor, row.currency)


def reconsider(session: Session, row: Capture) -> bool:
    """As `Operation.reconsider`: a capture that ended without the money is set back, so that a look at Stripe shows
    whether the money moved after all. Refused if another capture has the authorization by now."""
    if row.state in (CaptureState.REQUESTED, CaptureState.CAPTURED):
        return False
    holder = holder_of(session, row.account, row.payment_intent, Capture.capture_no == row.capture_no)
    if holder not in (None, row.id):
        raise InvalidRequest(
            str(holder),
            f"has taken the authorization {row.payment_intent} since; settle the two at Stripe, in its dashboard",
        )
    set_state(row, CaptureState.REQUESTED)
    row.reason = None
    return True


def _name_winner(session: Session, loaded: LoadedOperation) -> None:
    """As `Operation.when_ended`: a capture that found its authorization canceled names the void that canceled it."""
    row = _row(loaded)
    if row.state != CaptureState.CANCELED:
        return
    winner = void_holding(session, row.account, row.payment_intent)
    if winner is None:
        return
    row.reason = f"{VOIDED_BY}: {winner}"
    for fact in loaded.facts:
        if fact.topic == "capture.canceled":
            fact.payload = {**fact.payload, "why": VOIDED_BY, "differs": winner, "winner": winner}


def _shown(session: Session, row: Capture) -> dict[str, Any]:
    undone_by = select(Refund.id).where(Refund.capture_id == row.id, Refund.compensates)
    return {
        "payment_intent": row.payment_intent,
        "minor": row.amount_minor,
        "currency": row.currency,
        "authorized_minor": row.authorized_minor,
        "capture_before": row.capture_before,
        "charge": row.charge,
        "customer": row.customer,
        # Without the texts that were asked for: people paste this output into tickets.
        "capture_no": row.capture_no,
        "remainder": "keep" if row.keeps_remainder else "release",
        "application_fee_minor": row.application_fee_minor,
        "transfer_minor": row.transfer_minor,
        "compensated_by": session.scalar(undone_by),
        "invoice": session.scalar(select(InvoicedCapture.invoice_id).where(InvoicedCapture.capture_id == row.id)),
        **receipts.shown(session, row),
    }


def _is_unread(requested: Mapping[str, Any]) -> bool:
    """Whether its authorization is still to be read. Facts from before migration 0010 have the other spelling."""
    return not (requested.get("authorized") or requested.get("authorised"))


_TAKE = Contract(
    name="take_capture",
    topic="requested",
    queue="captures",
    max_attempts=5,
    call_budget_s=30,
    retry=Retry.PROMPT,
    owner="payments",
    purpose="take the money of one authorization, once",
    payload={
        "minor": "integer",
        "currency": "text",
        "payment_intent": "text",
        "account": "text or null",
        "request_digest": "optional text",
        "authorized": "true or false",
        "capture_before": "time or null",
    },
    comes_first=_is_unread,
)
_TAKE_WITH_TERMS = replace(
    _TAKE,
    version=WITH_TERMS,
    fact_versions=(WITH_TERMS,),
    payload={
        **_TAKE.payload,
        "capture_no": "integer",
        "keeps_remainder": "optional true or false",
        "application_fee_minor": "optional integer",
        "transfer_minor": "optional integer",
    },
)

OPERATION = Operation(
    table=Capture,
    prefix="cap",
    contracts=(
        _TAKE,
        _TAKE_WITH_TERMS,
        # No step of its own: what ends a capture has its call looked at, and what was captured stays so.
        observing.contract("capture", queue="captures", owner="payments"),
    ),
    next_step=next_step,
    steps={step.name: step for step in (READ_AUTHORIZATION, CAPTURE)}.__getitem__,
    belongs_to=((Capture.customer, None),),
    scope="captures",
    deadline="capture_before",
    amount="amount_minor",
    business=(BusinessMetric("captured_money_minor", CaptureState.CAPTURED, "money that was captured", money=True),),
    found_by={"pi": Capture.payment_intent, "ch": Capture.charge},
    sought_in=tuple(state for state in CaptureState if state not in FREES_THE_AUTHORIZATION),
    shown=_shown,
    unfit=unfit,
    parts=earlier,
    comes_after=comes_after,
    rule_out=withdrawn,
    reconsider=reconsider,
    begins=receipts.begins("capture.captured", "capture_receipt", lambda loaded: _row(loaded).customer),
    compensation=Compensation(
        "a refund of all that is left, once it is proven that the money was taken: `billing compensate`", by="refund"
    ),
    afterwards={
        CaptureState.CAPTURED: Afterwards("nothing: the money is taken"),
        CaptureState.DECLINED: Afterwards("nothing here: no money was taken; the customer pays in another way"),
        CaptureState.REFUSED: Afterwards(
            "nothing here: no money was taken; correct what the reason names, and ask under another request id"
        ),
        CaptureState.EXPIRED: Afterwards(
            "nothing here: no money was taken, and none is reserved any more; the customer has to authorize it anew"
        ),
        CaptureState.CANCELED: Afterwards(
            "nothing here: no money was taken; somebody canceled the authorization at Stripe, who knows why"
        ),
    },
    when_ended=_name_winner,
)
