"""Refunds of one invoice take turns: each takes a payment by what Stripe shows to be left of it, so while one has
chosen and is not made yet, the next one waits. Else two would choose the same payment, and Stripe would refuse the
second although another payment has enough.

Who may choose is decided under the invoice's lock. It is not waited for: an application that asks for something about
the invoice holds it until its transaction ends.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from billing import row_io, statements
from billing.states import RefundState
from billing.steps import LoadedOperation
from billing.tables.entities import Invoice, Refund

SQL = statements.beside(__file__)


class Ahead(NamedTuple):
    """What a refund of an invoice waits for: another refund of it that has chosen its payment, or is about to; or the
    invoice, while another transaction has it locked. A part of the refund that waits."""

    id: str


def ahead(session: Session, rows: Sequence[Refund]) -> Iterator[tuple[str, Ahead]]:
    """As `Operation.parts`. Nothing is read for refunds of captures, or for those that have chosen."""
    choosing = {
        row.id: row.invoice_id
        for row in rows
        if row.invoice_id is not None and row.payment_intent is None and row.state == RefundState.REQUESTED
    }
    if not choosing:
        return
    free = {row.id for row in row_io.locked_where_free(session, Invoice, set(choosing.values()), ("id",))}
    yield from ((own, Ahead(invoice)) for own, invoice in choosing.items() if invoice not in free)
    # After the lock, in a statement of its own: it sees what the transaction has committed that had it before.
    for found in statements.run(session, SQL["ahead"], ids=list(choosing)):
        yield found.owner, Ahead(found.id)


def comes_after(loaded: LoadedOperation) -> str | None:
    """As `Operation.comes_after`: until another one has been made."""
    return next((each.id for each in loaded.parts if isinstance(each, Ahead)), None)
