"""What comes next for a refund, and its registration. Asking for one is `billing.refund_requests`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from billing import compensations, observing, receipts, refund_turns, refundable
from billing.errors import InvalidRequest
from billing.money import money_problem
from billing.provider_ids import IdKind, NoSuchShape, is_id
from billing.refund_requests import COMPENSATES, OF_AN_INVOICE
from billing.refund_steps import OBSERVE, READ_PAYMENT, REFUND
from billing.registration import Afterwards, BusinessMetric, Compensation, Contract, Operation, Retry
from billing.states import RefundState, set_state
from billing.steps import LoadedOperation, Step
from billing.tables.entities import Capture, Invoice, Refund


def next_step(loaded: LoadedOperation) -> Step | None:
    match loaded.row.state:
        case RefundState.REQUESTED:
            return READ_PAYMENT if getattr(loaded.row, "payment_intent", None) is None else REFUND
        case RefundState.PENDING | RefundState.REQUIRES_ACTION:
            return OBSERVE
    return None


def observe(loaded: LoadedOperation) -> Step | None:
    """As `Operation.observe`: one that has not ended is observed by its own work."""
    row = loaded.row
    return OBSERVE if row.life.is_final(row.state) and row.life.may_change(row.state) else None


def _parts(session: Session, rows: Sequence[Refund]) -> Iterator[tuple[str, Any]]:
    """As `Operation.parts`: the capture that it compensates, who chooses a payment of its invoice before it, and whose
    money it is."""
    yield from compensations.compensated(session, rows)
    yield from refund_turns.ahead(session, rows)
    yield from receipts.payers(session, rows)


def _comes_after(loaded: LoadedOperation) -> str | None:
    return compensations.comes_after(loaded) or refund_turns.comes_after(loaded)


def unfit(loaded: LoadedOperation) -> str | None:
    """As `Operation.unfit`. The money is checked before the first call only: a call that was made is finished."""
    row = loaded.row
    assert isinstance(row, Refund), "the operation's own table"
    if row.capture_id is None and not is_id(IdKind.INVOICE, row.stripe_invoice):
        return str(NoSuchShape(IdKind.INVOICE))
    if not is_id(IdKind.PAYMENT_INTENT, row.payment_intent) and not (
        row.capture_id is None and row.payment_intent is None
    ):
        return str(NoSuchShape(IdKind.PAYMENT_INTENT))
    if row.stripe_refund is not None and not is_id(IdKind.REFUND, row.stripe_refund):
        return str(NoSuchShape(IdKind.REFUND))
    return None if loaded.records else money_problem(row.amount_minor, row.currency)


def reconsider(session: Session, row: Refund) -> bool:
    """As `Operation.reconsider`: a refund that was refused is set back, so that a look at Stripe shows whether the
    money was given back after all. Refused if other refunds have taken the amount since."""
    if row.state != RefundState.REFUSED:
        return False
    left = refundable.left_of(session, row.capture_id, row.invoice_id)
    if left is None or left < row.amount_minor:
        raise InvalidRequest(
            str(row.capture_id or row.invoice_id),
            "has too little left by now; settle its refunds at Stripe, in its dashboard",
        )
    set_state(row, RefundState.REQUESTED)
    row.reason = None
    return True


def _shown(session: Session, row: Refund) -> dict[str, Any]:
    return {
        "capture": row.capture_id,
        "invoice": row.invoice_id,
        "payment_intent": row.payment_intent,
        "minor": row.amount_minor,
        "currency": row.currency,
        "refund_reason": row.refund_reason,
        "stripe_refund": row.stripe_refund,
        "compensates": row.capture_id if row.compensates else None,
        **receipts.shown(session, row),
    }


_MAKE = Contract(
    name="make_refund",
    topic="requested",
    queue="refunds",
    max_attempts=5,
    call_budget_s=30,
    retry=Retry.PROMPT,
    owner="payments",
    purpose="give money of one capture back, once",
    # No authorization of it lapses, and a bank takes days for it.
    sheddable=True,
    payload={
        "minor": "integer",
        "currency": "text",
        "capture": "text",
        "payment_intent": "text",
        "account": "text or null",
        "request_digest": "optional text",
        "all_left": "optional true or false",
        "refund_reason": "text or null",
    },
)
_COMPENSATE = replace(
    _MAKE,
    version=COMPENSATES,
    fact_versions=(COMPENSATES,),
    purpose="undo one capture: give back what it took, once that is proven",
    payload={**_MAKE.payload, "compensates": "true or false"},
)
_REFUND_INVOICE = replace(
    _MAKE,
    version=OF_AN_INVOICE,
    fact_versions=(OF_AN_INVOICE,),
    purpose="give back what was paid for one invoice, once",
    payload={
        **{name: kind for name, kind in _MAKE.payload.items() if name not in ("capture", "payment_intent")},
        "invoice": "text",
    },
)

OPERATION = Operation(
    table=Refund,
    prefix="ref",
    contracts=(
        _MAKE,
        _COMPENSATE,
        _REFUND_INVOICE,
        observing.contract("refund", queue="refunds", owner="payments", sheddable=True),
    ),
    next_step=next_step,
    observe=observe,
    steps={step.name: step for step in (READ_PAYMENT, REFUND, OBSERVE)}.__getitem__,
    belongs_to=((Refund.capture_id, Capture.id), (Refund.invoice_id, Invoice.id)),
    scope="refunds",
    amount="amount_minor",
    business=(
        BusinessMetric("refunded_money_minor", RefundState.SUCCEEDED, "money that was given back", money=True),
        BusinessMetric("refunds_failed", RefundState.FAILED, "refunds whose money came back to our balance"),
    ),
    found_by={"re": Refund.stripe_refund, "pyr": Refund.stripe_refund, "pi": Refund.payment_intent},
    shown=_shown,
    unfit=unfit,
    parts=_parts,
    comes_after=_comes_after,
    rule_out=compensations.rule_out,
    reconsider=reconsider,
    begins=receipts.begins("refund.succeeded", "refund_made", receipts.payer),
    compensation=Compensation("nothing: money that was given back is not taken again; the customer pays anew"),
    afterwards={
        RefundState.SUCCEEDED: Afterwards(
            "nothing: the money is given back; the customer's bank may show it days later"
        ),
        RefundState.FAILED: Afterwards(
            "nothing here: the money is in your balance at Stripe again, and counts as not given back; give it back in "
            "another way, or ask for it under another request id"
        ),
        RefundState.CANCELED: Afterwards(
            "nothing here: nothing was given back; somebody canceled it at Stripe, who knows why"
        ),
        RefundState.REFUSED: Afterwards(
            "nothing here: nothing was given back; correct what the reason names, and ask under another request id"
        ),
    },
)
