"""What is done with an invoice that has its number, on request: charge it, say that it was paid out of band, void it,
or give it up; or void a credit note of it. Each is a request with a record and a key of its own, and one call.

It waits until the invoice's own work is over, and an earlier action of the same invoice; then the invoice's row says
whether it is still possible. What it came to moves the invoice's row, or the note's, in the same transaction.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from billing import credit_note_steps, database, observing, row_io, statements
from billing.invoice_action_requests import too_late
from billing.invoice_action_steps import CALLS, action_of, moved
from billing.invoice_observing import moved_on
from billing.provider_ids import IdKind, NoSuchShape, is_id
from billing.registration import Afterwards, BusinessMetric, Compensation, Contract, Operation, Retry
from billing.states import INVOICE, CreditNoteState, InvoiceActionState, set_state
from billing.steps import Json, LoadedOperation, Step
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import Invoice
from billing.tables.facts import Fact
from billing.tables.invoice_actions import ACTIONS, InvoiceAction

SQL = statements.beside(__file__)


class InvoiceOfAction(NamedTuple):
    """The invoice of an action: a part of it. `disputed`: a call of it is open or in conflict. `earlier`: the newest
    earlier action of it that is not over. `note`: the state of the credit note that is to be voided."""

    id: str
    state: str
    disputed: bool
    earlier: str | None
    note: str | None = None


def invoices_of(session: Session, rows: Sequence[InvoiceAction]) -> Iterator[tuple[str, InvoiceOfAction]]:
    """As `Operation.parts`. Nothing is read for actions that are over."""
    waiting = [row.id for row in rows if row.state == InvoiceActionState.REQUESTED]
    for found in statements.run(session, SQL["invoices_of_actions"], ids=waiting) if waiting else ():
        yield found.owner, InvoiceOfAction(found.id, found.state, found.disputed, found.earlier, found.note)


def comes_after(loaded: LoadedOperation) -> str | None:
    """As `Operation.comes_after`: the invoice's own work is over first, and then what was asked for earlier."""
    for of in loaded.parts:
        if of.disputed or not INVOICE.is_final(of.state):
            return str(of.id)
        if of.earlier is not None:
            return str(of.earlier)
        if of.note == CreditNoteState.REQUESTED:
            # It was set back: whether it was issued is looked up.
            return action_of(loaded).credit_note_id
    return None


def rule_out(loaded: LoadedOperation) -> list[Fact]:
    """As `Operation.rule_out`: what the invoice's row shows to be impossible is not asked for at Stripe."""
    row = action_of(loaded)
    if row.state != InvoiceActionState.REQUESTED:
        return []
    late = [why for of in loaded.parts if (why := too_late(row.action, of.state) or _OF_A_NOTE.get(of.note))]
    return moved(row, InvoiceActionState.REFUSED, late[0]) if late else []


_OF_A_NOTE: dict[str | None, str] = {
    CreditNoteState.VOIDED: "already_voided",
    CreditNoteState.REFUSED: "credit_note_refused",
}
"""By a note's state, why it cannot be voided."""


def next_step(loaded: LoadedOperation) -> Step | None:
    row = action_of(loaded)
    return CALLS[row.action] if row.state == InvoiceActionState.REQUESTED else None


def carry_over(session: Session, loaded: LoadedOperation) -> None:
    """As `Operation.when_ended`: the invoice, or the note that was to be voided, moves as Stripe has shown it. Where it
    has not shown it, as after a decline, it is noticed, and looked at."""
    action, shown = action_of(loaded), loaded.shown or {}
    if action.credit_note_id is not None:
        _move_note(session, loaded, action.credit_note_id, shown)
        return
    for row in row_io.locked(session, Invoice, [action.invoice_id]):
        of = LoadedOperation(row, [], loaded.work_id, loaded.queue)
        facts = moved_on(of, shown) if shown.get("status") is not None else []
        if facts:
            row.state_since = database.now(session)
        elif shown.get("status") is None and observing.may_have_changed(row) and loaded.records:
            facts = [observing.notice(row, source=observing.ACTION)]
        row_io.save(session, [row], facts)


def _move_note(session: Session, loaded: LoadedOperation, credit_note: str, shown: Json) -> None:
    for row in row_io.locked(session, CreditNote, [credit_note]):
        facts = []
        if shown.get("status") == "void" and row.state == CreditNoteState.ISSUED:
            facts = credit_note_steps.moved(row, CreditNoteState.VOIDED, "")
            row.state_since = database.now(session)
        elif shown.get("status") is None and observing.may_have_changed(row) and loaded.records:
            facts = [observing.notice(row, source=observing.ACTION)]
        row_io.save(session, [row], facts)


def unfit(loaded: LoadedOperation) -> str | None:
    """As `Operation.unfit`."""
    row = action_of(loaded)
    if row.credit_note_id is not None and not is_id(IdKind.CREDIT_NOTE, row.stripe_credit_note):
        return str(NoSuchShape(IdKind.CREDIT_NOTE))
    if not is_id(IdKind.INVOICE, row.stripe_invoice):
        return str(NoSuchShape(IdKind.INVOICE))
    if row.payment_method is not None and not is_id(IdKind.PAYMENT_METHOD, row.payment_method):
        return str(NoSuchShape(IdKind.PAYMENT_METHOD))
    return None if row.action in ACTIONS else "action is none of ours"


def reconsider(_session: Session, row: InvoiceAction) -> bool:
    """As `Operation.reconsider`: an action that ended without its effect is set back, so that a look at Stripe shows
    whether it was carried out after all."""
    if row.state in (InvoiceActionState.REQUESTED, InvoiceActionState.DONE):
        return False
    set_state(row, InvoiceActionState.REQUESTED)
    row.reason = None
    return True


def _shown(_session: Session, row: InvoiceAction) -> dict[str, Any]:
    return {
        "action": row.action,
        "invoice": row.invoice_id,
        "stripe_invoice": row.stripe_invoice,
        "minor": row.amount_minor,
        "currency": row.currency,
        "payment_method": row.payment_method,
        "credit_note": row.credit_note_id,
    }


OPERATION = Operation(
    table=InvoiceAction,
    prefix="iac",
    contracts=(
        Contract(
            name="act_on_invoice",
            topic="requested",
            queue="invoices",
            max_attempts=5,
            call_budget_s=30,
            retry=Retry.PROMPT,
            owner="billing",
            purpose="charge, mark paid, void or give up one invoice, or void a credit note of it, once",
            sheddable=True,
            payload={
                "action": "text",
                "invoice": "text",
                "stripe_invoice": "text",
                "minor": "integer",
                "currency": "text",
                "payment_method": "text or null",
                "account": "text or null",
                "request_digest": "optional text",
                "credit_note": "optional text",
                "stripe_credit_note": "optional text",
            },
        ),
        # No step of its own: an open call is looked at at once, and what was done stays so.
        observing.contract("invoice_action", queue="invoices", owner="billing", sheddable=True),
    ),
    next_step=next_step,
    steps={step.name: step for step in CALLS.values()}.__getitem__,
    belongs_to=((InvoiceAction.stripe_invoice, Invoice.stripe_invoice),),
    scope="invoices",
    amount="amount_minor",
    business=(
        BusinessMetric("invoice_actions_declined", InvoiceActionState.DECLINED, "charges of invoices that failed"),
    ),
    parts=invoices_of,
    found_by={"in": InvoiceAction.stripe_invoice, "cn": InvoiceAction.stripe_credit_note},
    shown=_shown,
    unfit=unfit,
    comes_after=comes_after,
    rule_out=rule_out,
    reconsider=reconsider,
    when_ended=carry_over,
    compensation=Compensation("nothing: money that it took is refunded, and what is voided is issued anew"),
    afterwards={
        InvoiceActionState.DONE: Afterwards("nothing: the invoice says how it stands; a charge may still be under way"),
        InvoiceActionState.DECLINED: Afterwards(
            "nothing here: to charge again, or another payment method, is a request under another request id"
        ),
        InvoiceActionState.REFUSED: Afterwards(
            "nothing here: nothing was done for it; its reason says what the invoice was by then"
        ),
    },
)
