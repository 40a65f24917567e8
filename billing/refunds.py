"""Giving money of a capture or of a paid invoice back, once, and never more of it than was taken."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from billing import compensations, ids, observing, receipts, refund_turns, refundable, request_ids, row_io
from billing.asking import CommonArguments, Differing, callers_session, common_arguments, write_once, written_before
from billing.database import violated
from billing.errors import (
    InvalidAmount,
    InvalidRequest,
    InvalidText,
    MoreThanCaptured,
    MoreThanInvoiced,
    NotCaptured,
    NotPaid,
)
from billing.facts import new_fact
from billing.money import Money, money_problem
from billing.provider_ids import IdKind, NoSuchShape, is_id
from billing.refund_steps import OBSERVE, READ_PAYMENT, REFUND
from billing.refundable import Refundable
from billing.registration import Afterwards, BusinessMetric, Compensation, Contract, Operation, Retry
from billing.states import CAPTURE, CaptureState, InvoiceState, RefundState, set_state
from billing.steps import LoadedOperation, Step
from billing.tables.entities import REFUND_REASONS, Capture, Refund

MOST_TRIES = 10
"""So often is what is left read again, if other refunds take it while all of it is asked for."""
COMPENSATION = "compensation:"
"""How the request id of a refund begins that compensates a capture; the capture's id follows."""


@dataclass(frozen=True, slots=True)
class RefundReceipt:
    """What was requested, true once the caller's transaction commits. `new` is False if it was requested before."""

    refund_id: ids.RefundId
    request_id: str
    amount: Money
    """What is to be given back: all that was left, if no amount was named."""
    new: bool


def request_refund(
    session: Session,
    *,
    capture: str | None = None,
    payment_intent: str | None = None,
    charge: str | None = None,
    invoice: str | None = None,
    amount: Money | None = None,
    reason: str | None = None,
    request_id: str,
    correlation_id: str | None = None,
    account: str | None = None,
    actor: str = "application",
) -> RefundReceipt:
    """Ask, inside the caller's own transaction, for money of one capture, or of what was paid for one invoice, to be
    given back to where it came from.

    Exactly one of `capture` (cap_...), `payment_intent`, `charge` and `invoice` (inv_...) says of which. Without
    `amount`, all that is left of it. `reason` is one of Stripe's: duplicate, fraudulent, requested_by_customer. The
    same `request_id` again returns the same receipt. The capture's or the invoice's account is used; a payment of
    another account than our own needs `account`.

    A refund takes its amount from what is left at once, and gives it back if it is refused, fails or is canceled. A
    constraint in Postgres refuses a sum above what was captured or invoiced, however many ask at the same time. Which
    payment an invoice was paid by, a worker reads from Stripe: one that was paid outside of Stripe, or whose payments
    are each smaller than the amount, ends as `refused`.

    Raises RequestReused (same request id, other parameters), NotCaptured, MoreThanCaptured, NotPaid, MoreThanInvoiced,
    NotOurPayment, UnknownEntity, and InvalidRequest; nothing is written then, and the caller's transaction stays
    usable. (Above READ COMMITTED, Postgres itself may ask for the transaction to be repeated, as for any other.)
    """
    session = callers_session(session)
    if amount is not None and not isinstance(amount, Money):
        raise InvalidAmount("amount", f"must be billing.Money or None, not {type(amount).__name__}")
    common = common_arguments(request_id, correlation_id, account, actor)
    of = refundable.named(
        session, common.account, capture=capture, payment_intent=payment_intent, charge=charge, invoice=invoice
    )
    if invoice is not None and (of.state != InvoiceState.PAID or of.stripe_invoice is None):
        raise NotPaid(of.id, of.state)
    if invoice is None and of.state != CaptureState.CAPTURED:
        raise NotCaptured(of.id, of.state)
    if amount is not None and amount.currency != of.currency:
        kind = of.table.life.of
        raise InvalidAmount(
            "amount", f"{amount} cannot be given back of {'an' * (kind[0] == 'i') or 'a'} {kind} in {of.currency}"
        )
    return _ask(session, common, of, amount, reason)


def compensate(
    session: Session, capture: str, *, reason: str | None = None, actor: str = "compensation"
) -> RefundReceipt:
    """Ask, inside the caller's own transaction, for a capture that nobody wants any more to be undone: by a refund of
    all that is left of it. Its request id is made of the capture's id, so asking twice asks once.

    The capture need not be over. Of one for which nothing was sent yet, nothing is taken: it ends as `refused`, with
    the reason `withdrawn`. Of any other the refund waits for the end, also of doubt or a conflict; then it is made if
    the money was taken, and else refused (`billing.compensations`). It has the capture's correlation id.

    Commit soon: until then no worker goes on with this capture. Raises NotCaptured if it ended without the money,
    MoreThanCaptured if all of it is given back already, UnknownEntity, and InvalidRequest; nothing is written then, and
    the caller's transaction stays usable.
    """
    session = callers_session(session)
    of = refundable.named(session, None, capture=capture)
    if of.state != CaptureState.CAPTURED and CAPTURE.is_final(of.state):
        raise NotCaptured(of.id, of.state)
    common = common_arguments(f"{COMPENSATION}{of.id}", of.correlation_id, of.account, actor)
    return _ask(session, common, of, None, reason, compensates=True)


def _ask(
    session: Session,
    common: CommonArguments,
    of: Refundable,
    amount: Money | None,
    reason: str | None,
    *,
    compensates: bool = False,
) -> RefundReceipt:
    if reason is not None and reason not in REFUND_REASONS:
        raise InvalidText("reason", f"must be one of {', '.join(REFUND_REASONS)}, or None")
    common = replace(common, account=of.account)
    row, minor, written = Refund(id=ids.new("ref"), correlation_id=common.correlation_id), 0, None
    further: dict[str, Any] = {"payment_intent": of.payment_intent, "stripe_invoice": of.stripe_invoice}
    further |= {"all_left": amount is None, "refund_reason": reason} | ({"compensates": True} if compensates else {})
    for _ in range(MOST_TRIES):
        minor = amount.minor if amount is not None else refundable.left(session, of)
        try:
            written = _write(session, row, common, of, minor, further)
        except _NothingLeft:
            if amount is not None or not refundable.left(session, of):
                break
        else:
            break
    if written is None:
        asked, left = amount.minor if amount else None, refundable.left(session, of)
        too_much = MoreThanCaptured if of.table is Capture else MoreThanInvoiced
        raise too_much(of.id, of.currency, asked=asked, left=left)
    if written is not row:
        kept = Money(written.amount_minor, written.currency)
        return RefundReceipt(ids.RefundId(written.id), common.request_id, kept, new=False)
    requested = new_fact(
        row,
        "requested",
        actor=common.actor,
        traceparent=common.traceparent,
        minor=minor,
        currency=of.currency,
        **_source(of),
        account=of.account,
        request_digest=request_ids.digest_of(common.request_id),
        all_left=amount is None,
        refund_reason=reason,
    )
    if of.table is not Capture:
        requested.version = OF_AN_INVOICE
    if compensates:
        requested.version = _COMPENSATES
        requested.payload |= {"compensates": True}
    # Not by the ORM, which would write and read back columns that an application's login has no rights to.
    row_io.save(session, (), [requested])
    return RefundReceipt(ids.RefundId(row.id), common.request_id, Money(minor, of.currency), new=True)


def _source(of: Refundable) -> dict[str, Any]:
    """What the fact says of where the money is taken from."""
    return {"capture": of.id, "payment_intent": of.payment_intent} if of.table is Capture else {"invoice": of.id}


class _NothingLeft(Exception):
    """The constraint has refused the sum."""


def _write(
    session: Session, row: Refund, common: CommonArguments, of: Refundable, minor: int, further: dict[str, Any]
) -> Refund | None:
    """As `write_once`. Raises _NothingLeft, and the transaction is as it was before."""
    named = not further["all_left"]
    parameters: dict[str, Any] = {of.column: of.id, "currency": of.currency}
    parameters |= {"amount_minor": minor} if named else {}

    def differing(first: Refund) -> Differing:
        if first.all_left is None:  # made again after a restore: neither of the two is known
            return {}
        asked = {True: "all that was left", False: "an amount"}
        found: Differing = {}
        if first.all_left is named:
            found["amount"] = asked[first.all_left], asked[not named]
        if first.refund_reason != further["refund_reason"]:
            found["reason"] = first.refund_reason, further["refund_reason"]
        return found

    if not minor:
        before = written_before(session, Refund, common, parameters, differing)
        if before is None:
            raise _NothingLeft
        return before
    further = further if named else {**further, "amount_minor": minor}
    try:
        # By the connection: a session's own savepoint would first write what the caller has pending there.
        with session.connection().begin_nested():
            return write_once(session, row, common, parameters, further=further, differing=differing)
    except IntegrityError as error:
        if violated(error) != of.bound:
            raise
    raise _NothingLeft


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
_COMPENSATES = 2
"""The version of the fact, and of the contract, of a refund that undoes a capture: a worker from before it would not
wait for the end of that."""
_COMPENSATE = replace(
    _MAKE,
    version=_COMPENSATES,
    fact_versions=(_COMPENSATES,),
    purpose="undo one capture: give back what it took, once that is proven",
    payload={**_MAKE.payload, "compensates": "true or false"},
)
OF_AN_INVOICE = 3
"""The version of the fact, and of the contract, of a refund of an invoice: a worker from before it would look for its
capture."""
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
