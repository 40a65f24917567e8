"""A credit note takes one call, after the refund that it may name: which call comes next, and its registration."""

from typing import Any

from sqlalchemy.orm import Session

from billing import documents, observing, refundable
from billing.credit_note_refunds import comes_after, linked, not_given_back
from billing.credit_note_requests import UNKNOWN_LINES
from billing.credit_note_steps import ISSUE, OBSERVE, READ_LINES, moved, note_of
from billing.errors import InvalidRequest
from billing.money import money_problem
from billing.provider_ids import IdKind, NoSuchShape, is_id
from billing.registration import Afterwards, BusinessMetric, Compensation, Contract, Operation, Retry
from billing.states import CreditNoteState, set_state
from billing.steps import LoadedOperation, Step
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import Invoice
from billing.tables.facts import Fact

LINES_UNKNOWN = "lines_unknown"
"""The reason of a note that was made again after a restore, and whose lines or memo nobody knows."""


def next_step(loaded: LoadedOperation) -> Step | None:
    row = note_of(loaded)
    if row.state != CreditNoteState.REQUESTED:
        return None
    return READ_LINES if row.lines is not None and row.stripe_lines is None else ISSUE


def observe(loaded: LoadedOperation) -> Step | None:
    """As `Operation.observe`."""
    return OBSERVE if loaded.row.state == CreditNoteState.ISSUED else None


def rule_out(loaded: LoadedOperation) -> list[Fact]:
    """As `Operation.rule_out`: nothing is credited that was not given back, or whose lines are not known any more."""
    row = note_of(loaded)
    if row.state != CreditNoteState.REQUESTED:
        return []
    why = LINES_UNKNOWN if row.lines == UNKNOWN_LINES else not_given_back(loaded)
    return moved(row, CreditNoteState.REFUSED, why) if why else []


def unfit(loaded: LoadedOperation) -> str | None:
    """As `Operation.unfit`. The money is checked before the first call only: a call that was made is finished."""
    row = note_of(loaded)
    if not is_id(IdKind.INVOICE, row.stripe_invoice):
        return str(NoSuchShape(IdKind.INVOICE))
    if row.stripe_credit_note is not None and not is_id(IdKind.CREDIT_NOTE, row.stripe_credit_note):
        return str(NoSuchShape(IdKind.CREDIT_NOTE))
    if row.lines is not None and row.lines != UNKNOWN_LINES and not _lines_fit(row):
        return "lines are not as billing.issue_credit_note writes them"
    return None if loaded.records else money_problem(row.amount_minor, row.currency)


def _lines_fit(row: CreditNote) -> bool:
    """An application may write the row without our functions."""
    lines = row.lines or {}
    parts = [each for position, each in lines.items() if position.isdigit() and isinstance(each, dict)]
    amounts = [each.get("minor") for each in parts]
    quantities = [each.get("quantity", 1) for each in parts]
    # What they come to with taxes and discounts, Stripe reckons before anything is issued.
    whole = all(type(number) is int and number > 0 for number in (*amounts, *quantities))
    return bool(lines) and len(parts) == len(lines) and whole


def reconsider(session: Session, row: CreditNote) -> bool:
    """As `Operation.reconsider`: a note that was refused is set back, so that a look at Stripe shows whether it was
    issued after all. Refused if others have taken the amount since."""
    if row.state != CreditNoteState.REFUSED:
        return False
    # What its refund gives back counts by itself.
    if refundable.creditable(session, row.invoice_id, returns=row.refund_id is None) < row.amount_minor:
        raise InvalidRequest(
            row.invoice_id, "has too little left by now; settle its credit notes in Stripe's dashboard"
        )
    set_state(row, CreditNoteState.REQUESTED)
    row.reason = None
    return True


def _shown(_session: Session, row: CreditNote) -> dict[str, Any]:
    return {
        "invoice": row.invoice_id,
        "stripe_invoice": row.stripe_invoice,
        "minor": row.amount_minor,
        "currency": row.currency,
        "settle": row.settle,
        "credit_reason": row.credit_reason,
        "refund": row.refund_id,
        "stripe_credit_note": row.stripe_credit_note,
        "number": row.number,
        "lines": None if row.lines is None else sorted(row.lines),
    }


OPERATION = Operation(
    table=CreditNote,
    prefix="crn",
    contracts=(
        Contract(
            name="issue_credit_note",
            topic="requested",
            queue="invoices",
            max_attempts=5,
            call_budget_s=30,
            retry=Retry.PATIENT,
            owner="billing",
            purpose="take an amount off one invoice, once, after the refund that gives it back",
            sheddable=True,
            payload={
                "minor": "integer",
                "currency": "text",
                "invoice": "text",
                "account": "text or null",
                "request_digest": "optional text",
                "settle": "text",
                "credit_reason": "text or null",
                "lines": "integer or null",
                "refund": "text or null",
                "memo": "optional true or false",
            },
        ),
        observing.contract("credit_note", queue="invoices", owner="billing", sheddable=True),
    ),
    next_step=next_step,
    steps={step.name: step for step in (READ_LINES, ISSUE, OBSERVE)}.__getitem__,
    belongs_to=((CreditNote.invoice_id, Invoice.id),),
    observe=observe,
    begins=documents.begin_with,
    scope="invoices",
    amount="amount_minor",
    business=(
        BusinessMetric("credited_money_minor", CreditNoteState.ISSUED, "money that was taken off invoices", money=True),
    ),
    parts=linked,
    found_by={"cn": CreditNote.stripe_credit_note},
    shown=_shown,
    comes_after=comes_after,
    rule_out=rule_out,
    unfit=unfit,
    reconsider=reconsider,
    compensation=Compensation(
        "nothing by itself: billing.void_credit_note while its invoice is open; what was given back is not taken again"
    ),
    afterwards={
        CreditNoteState.ISSUED: Afterwards("nothing: it is issued, and the invoice counts as less"),
        CreditNoteState.VOIDED: Afterwards(
            "nothing: it was voided on request or at Stripe, and its amount counts again"
        ),
        CreditNoteState.REFUSED: Afterwards(
            "nothing here: nothing was credited; a refund that was made with it stays made. Correct what the reason "
            "names, and ask under another request id",
        ),
    },
)
