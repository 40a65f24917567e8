"""What is done with an invoice that has its number, on request: charge it, say that it was paid out of band, void it,
or give it up. Each is a request with a record and a key of its own, and one call.

It waits until the invoice's own work is over, and an earlier action of the same invoice; then the invoice's row says
whether it is still possible. What it came to moves the invoice's row in the same transaction.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import database, ids, observing, request_ids, row_io, statements
from billing.asking import callers_session, common_arguments, write_once, written_before
from billing.errors import NoLongerOpen, NotFinalized, UnknownEntity
from billing.facts import new_fact
from billing.invoice_action_steps import CALLS, action_of, moved
from billing.invoice_observing import moved_on
from billing.provider_ids import IdKind, NoSuchShape, is_id, provider_id
from billing.registration import Afterwards, BusinessMetric, Compensation, Contract, Operation, Retry
from billing.states import INVOICE, InvoiceActionState, InvoiceState, set_state
from billing.steps import LoadedOperation, Step
from billing.tables.entities import Invoice
from billing.tables.facts import Fact
from billing.tables.invoice_actions import ACTIONS, MARK_PAID, MARK_UNCOLLECTIBLE, PAY, VOID, InvoiceAction
from billing.texts import opaque_id

SQL = statements.beside(__file__)

TOO_LATE: dict[str, str] = {
    InvoiceState.PAID: "already_paid",
    InvoiceState.VOIDED: "already_voided",
    InvoiceState.UNCOLLECTIBLE: "already_uncollectible",
    InvoiceState.REFUSED: "invoice_refused",
}
"""By the invoice's state, why an action is impossible; but what was given up may still be paid, or voided."""


@dataclass(frozen=True, slots=True)
class InvoiceActionReceipt:
    """What was requested, true once the caller's transaction commits. `new` is False if it was requested before."""

    action_id: ids.InvoiceActionId
    invoice_id: ids.InvoiceId
    request_id: str
    new: bool


def pay_invoice(
    session: Session,
    *,
    invoice: str,
    payment_method: str | None = None,
    request_id: str,
    correlation_id: str | None = None,
    actor: str = "application",
) -> InvoiceActionReceipt:
    """Ask, inside the caller's own transaction, for an invoice to be charged once: `payment_method` (pm_...), or
    without it the invoice's own, or the customer's default one. It ends as `done`, or as `declined` with the issuer's
    code.

    `invoice` (inv_...) has its number, and is not paid, voided or refused; it may be given up. The same `request_id`
    again returns the same receipt, and never charges again; to charge again is another request id.

    Raises RequestReused (same request id, another action, invoice or method), UnknownEntity, NotFinalized,
    NoLongerOpen, and InvalidRequest; nothing is written then, and the caller's transaction stays usable.
    """
    method = None if payment_method is None else provider_id("payment_method", payment_method)
    return _ask(session, PAY, invoice, request_id, correlation_id, actor, method)


def mark_invoice_paid(
    session: Session, *, invoice: str, request_id: str, correlation_id: str | None = None, actor: str = "application"
) -> InvoiceActionReceipt:
    """Ask for an invoice to be marked as paid out of band: the money came in another way, and nothing is charged. As
    `pay_invoice` otherwise."""
    return _ask(session, MARK_PAID, invoice, request_id, correlation_id, actor)


def void_invoice(
    session: Session, *, invoice: str, request_id: str, correlation_id: str | None = None, actor: str = "application"
) -> InvoiceActionReceipt:
    """Ask for an invoice to be voided: it keeps its number, and cannot be paid any more. As `pay_invoice` otherwise.

    Of a payment and a void at the same time Stripe carries out one; the other ends as `refused`, and says why."""
    return _ask(session, VOID, invoice, request_id, correlation_id, actor)


def mark_invoice_uncollectible(
    session: Session, *, invoice: str, request_id: str, correlation_id: str | None = None, actor: str = "application"
) -> InvoiceActionReceipt:
    """Ask for an invoice to be given up: it counts as bad debt at Stripe, and may still be paid or voided. As
    `pay_invoice` otherwise."""
    return _ask(session, MARK_UNCOLLECTIBLE, invoice, request_id, correlation_id, actor)


def _ask(
    session: Session,
    action: str,
    invoice: str,
    request_id: str,
    correlation_id: str | None,
    actor: str,
    payment_method: str | None = None,
) -> InvoiceActionReceipt:
    session = callers_session(session)
    invoice_id = opaque_id("invoice", invoice, 40)
    of = session.execute(_OF_AN_INVOICE.where(Invoice.id == invoice_id)).one_or_none()
    if of is None:
        raise UnknownEntity(invoice_id)
    common = common_arguments(request_id, correlation_id, of.account, actor)
    parameters = {"invoice_id": invoice_id, "action": action, "payment_method": payment_method}
    # Asked for again, it is the same request, whatever became of the invoice since.
    if (before := written_before(session, InvoiceAction, common, parameters, lambda _first: {})) is not None:
        return _receipt(before, new=False)
    if of.number is None and not INVOICE.is_final(of.state):
        raise NotFinalized(invoice_id, of.state)
    if (of.stripe_invoice is None or of.number is None) or too_late(action, of.state) is not None:
        raise NoLongerOpen(invoice_id, of.state, action)
    row = InvoiceAction(id=ids.new("iac"), correlation_id=common.correlation_id)
    total = of.total_minor if of.reckoned_minor is None else of.reckoned_minor
    as_it_has_them = {"stripe_invoice": of.stripe_invoice, "amount_minor": total, "currency": of.currency}
    written = write_once(session, row, common, parameters, further=as_it_has_them)
    assert written is not None, "nothing but its request id makes an action unique"
    if written is not row:
        return _receipt(written, new=False)
    requested = new_fact(
        row,
        "requested",
        actor=common.actor,
        traceparent=common.traceparent,
        action=action,
        invoice=invoice_id,
        stripe_invoice=of.stripe_invoice,
        minor=total,
        currency=of.currency,
        payment_method=payment_method,
        account=common.account,
        request_digest=request_ids.digest_of(common.request_id),
    )
    row_io.save(session, (), [requested])
    return InvoiceActionReceipt(ids.InvoiceActionId(row.id), ids.InvoiceId(invoice_id), common.request_id, new=True)


_OF_AN_INVOICE = select(
    Invoice.account,
    Invoice.state,
    Invoice.stripe_invoice,
    Invoice.number,
    Invoice.total_minor,
    Invoice.reckoned_minor,
    Invoice.currency,
)


def _receipt(row: InvoiceAction, *, new: bool) -> InvoiceActionReceipt:
    return InvoiceActionReceipt(ids.InvoiceActionId(row.id), ids.InvoiceId(row.invoice_id), row.request_id, new)


def too_late(action: str, state: str) -> str | None:
    """Why this action is impossible for an invoice in this state; None if it is possible, as far as is known here."""
    if state == InvoiceState.UNCOLLECTIBLE and action != MARK_UNCOLLECTIBLE:
        return None
    return TOO_LATE.get(state)


class InvoiceOfAction(NamedTuple):
    """The invoice of an action: a part of it. `disputed`: a call of it is open or in conflict. `earlier`: the newest
    earlier action of it that is not over."""

    id: str
    state: str
    disputed: bool
    earlier: str | None


def invoices_of(session: Session, rows: Sequence[InvoiceAction]) -> Iterator[tuple[str, InvoiceOfAction]]:
    """As `Operation.parts`. Nothing is read for actions that are over."""
    waiting = [row.id for row in rows if row.state == InvoiceActionState.REQUESTED]
    for found in statements.run(session, SQL["invoices_of_actions"], ids=waiting) if waiting else ():
        yield found.owner, InvoiceOfAction(found.id, found.state, found.disputed, found.earlier)


def comes_after(loaded: LoadedOperation) -> str | None:
    """As `Operation.comes_after`: the invoice's own work is over first, and then what was asked for earlier."""
    for of in loaded.parts:
        if of.disputed or not INVOICE.is_final(of.state):
            return str(of.id)
        if of.earlier is not None:
            return str(of.earlier)
    return None


def rule_out(loaded: LoadedOperation) -> list[Fact]:
    """As `Operation.rule_out`: what the invoice's row shows to be impossible is not asked for at Stripe."""
    row = action_of(loaded)
    if row.state != InvoiceActionState.REQUESTED:
        return []
    late = [why for of in loaded.parts if (why := too_late(row.action, of.state)) is not None]
    return moved(row, InvoiceActionState.REFUSED, late[0]) if late else []


def next_step(loaded: LoadedOperation) -> Step | None:
    row = action_of(loaded)
    return CALLS[row.action] if row.state == InvoiceActionState.REQUESTED else None


def carry_over(session: Session, loaded: LoadedOperation) -> None:
    """As `Operation.when_ended`: the invoice moves as Stripe has shown it. Where it has not shown it, as after a
    decline, it is noticed, and looked at."""
    action, shown = action_of(loaded), loaded.shown or {}
    for row in row_io.locked(session, Invoice, [action.invoice_id]):
        of = LoadedOperation(row, [], loaded.work_id, loaded.queue)
        facts = moved_on(of, shown) if shown.get("status") is not None else []
        if facts:
            row.state_since = database.now(session)
        elif shown.get("status") is None and observing.may_have_changed(row) and loaded.records:
            facts = [observing.notice(row, source=observing.ACTION)]
        row_io.save(session, [row], facts)


def unfit(loaded: LoadedOperation) -> str | None:
    """As `Operation.unfit`."""
    row = action_of(loaded)
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
            purpose="charge, mark paid, void or give up one invoice, once",
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
            },
        ),
        # No step of its own: an open call is looked at at once, and what was done stays so.
        observing.contract("invoice_action", queue="invoices", owner="billing", sheddable=True),
    ),
    next_step=next_step,
    steps={step.name: step for step in CALLS.values()}.__getitem__,
    scope="invoices",
    amount="amount_minor",
    business=(
        BusinessMetric("invoice_actions_declined", InvoiceActionState.DECLINED, "charges of invoices that failed"),
    ),
    parts=invoices_of,
    found_by={"in": InvoiceAction.stripe_invoice},
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
