"""What a sent invoice becomes at Stripe by itself: the customer pays it.

A state that is only ever found, such as one that an operator gives it in Stripe's dashboard, is a row of `_FOUND` and a
transition of `billing.states` that is `observed`.
"""

from collections.abc import Mapping

from billing.differences import differences
from billing.idempotency import Rules
from billing.invoice_row import invoice_of, money_of, move, path_of, read_invoice
from billing.learned import Learned
from billing.states import InvoiceState
from billing.steps import Ask, Gone, Json, LoadedOperation, LookResult, Reader, Step
from billing.tables.facts import Fact

_FOUND: Mapping[object, InvoiceState] = {"paid": InvoiceState.PAID}
"""By Stripe's status of the invoice, the state of ours."""


def observe(loaded: LoadedOperation) -> Step | None:
    """As `Operation.observe`: an invoice that is not sent yet is carried on by its own work, which reads it anyway."""
    row = invoice_of(loaded)
    return OBSERVE if row.life.is_final(row.state) and row.life.may_change(row.state) else None


def _find(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
    try:
        return LookResult(Learned.SUCCEEDED, read_invoice(loaded, read, livemode))
    except Gone:
        return LookResult(Learned.SUCCEEDED, why="gone")


def _apply(loaded: LoadedOperation, _outcome: Learned, invoice: Json, _why: str) -> list[Fact]:
    """Forward only: what it has come to already, or cannot come to from its present state, changes nothing."""
    row = invoice_of(loaded)
    found = _FOUND.get(invoice.get("status"))
    if found is None or (row.state, found) not in row.life.legal:
        return []
    if differences(invoice, total=row.final_minor, currency=row.currency.lower()):
        return []  # no invoice of ours: Stripe changes no total once it is finalized
    return move(loaded, found, found, number=row.number, **money_of(row))


OBSERVE = Step(
    # As all that only reads: the archive counts no doubt of it.
    name="read_invoice",
    ask=lambda loaded: Ask("GET", path_of(loaded)),
    find=_find,
    apply=_apply,
    # The next event, or reconciliation, has it looked at again.
    rules=Rules(replays=False, alarms=False),
)
