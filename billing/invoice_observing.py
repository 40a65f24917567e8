"""What an invoice becomes at Stripe once our own part is over: paid, in part at first; voided, or given up.

A payment in part and an attempt that failed are no end: they are kept in the row and told by a fact. The state changes
forward only, whatever Stripe shows and in whatever order it is noticed.
"""

from billing.differences import differences
from billing.facts import new_fact
from billing.idempotency import Rules
from billing.invoice_row import (
    ENDED,
    ended,
    invoice_of,
    money_of,
    paid,
    path_of,
    payments_of,
    read_invoice,
    see_payments,
)
from billing.learned import Learned
from billing.states import InvoiceState
from billing.steps import Ask, Gone, Json, LoadedOperation, LookResult, Reader, Step
from billing.tables.entities import Invoice
from billing.tables.facts import Fact


def observe(loaded: LoadedOperation) -> Step | None:
    """As `Operation.observe`: before our part is over it is carried on by its own work, which reads it anyway."""
    row = invoice_of(loaded)
    return OBSERVE if row.life.is_final(row.state) and row.life.may_change(row.state) else None


def _find(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
    try:
        return LookResult(Learned.SUCCEEDED, read_invoice(loaded, read, livemode))
    except Gone:
        return LookResult(Learned.SUCCEEDED, why="gone")


def _apply(loaded: LoadedOperation, _outcome: Learned, invoice: Json, _why: str) -> list[Fact]:
    return moved_on(loaded, invoice)


def moved_on(loaded: LoadedOperation, invoice: Json) -> list[Fact]:
    """The row as Stripe shows the invoice by now, and the facts about what is new. Forward only: what it has come to
    already, or cannot come to from its present state, changes nothing."""
    row, status = invoice_of(loaded), invoice.get("status")
    if differences(invoice, total=row.final_minor, currency=row.currency.lower()):
        return []  # no invoice of ours: Stripe changes no total once it is finalized
    found = InvoiceState.PAID if status == "paid" else ENDED.get(status)
    if not row.life.may_change(row.state) or (found is not None and (row.state, found) not in row.life.legal):
        return []
    told = [] if status == "paid" else _about_payments(row, invoice)
    match found:
        case None:
            return told
        case InvoiceState.PAID:
            return paid(loaded, invoice)
        case _:
            return [*told, *ended(loaded, invoice)]


def _about_payments(row: Invoice, invoice: Json) -> list[Fact]:
    """The facts about payments and attempts that are new, of an invoice that is not paid."""
    more_paid, more_attempts = see_payments(row, invoice)
    about = {"stripe_invoice": row.stripe_invoice, "number": row.number, **money_of(row), **payments_of(row)}
    told = [new_fact(row, "partly_paid", **about)] if more_paid else []
    return [*told, new_fact(row, "payment_failed", **about)] if more_attempts else told


OBSERVE = Step(
    # As all that only reads: the archive counts no doubt of it.
    name="read_invoice",
    ask=lambda loaded: Ask("GET", path_of(loaded)),
    find=_find,
    apply=_apply,
    # The next event, or reconciliation, has it looked at again.
    rules=Rules(replays=False, alarms=False),
)
