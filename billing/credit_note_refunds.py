"""A credit note that gives money back comes after the refund that gives it.

    the refund                               the credit note
    is not made yet, in doubt or in conflict waits until that is over
    was accepted by Stripe, or has succeeded is issued, and names it
    gave nothing back                        is refused: there is nothing to credit

Both are requests with records of their own, written in one transaction. Nobody has to remember the note between them:
its work waits for the refund, and whoever claims it next goes on.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from billing import statements
from billing.states import FREES_ITS_AMOUNT, RefundState
from billing.steps import LoadedOperation
from billing.tables.credit_notes import CreditNote

SQL = statements.beside(__file__)

NOT_GIVEN_BACK = "not_given_back"
"""The reason of a note whose refund gave nothing back; the refund's own state follows."""


class Linked(NamedTuple):
    """The refund of a note: a part of it. `disputed`: a call of it that may have made it is open or in conflict."""

    id: str
    state: str
    stripe_refund: str | None
    disputed: bool


def linked(session: Session, rows: Sequence[CreditNote]) -> Iterator[tuple[str, Linked]]:
    """As `Operation.parts`. Nothing is read for notes without a refund."""
    ids = [row.id for row in rows if row.refund_id is not None]
    for found in statements.run(session, SQL["linked_refunds"], ids=ids) if ids else ():
        yield found.owner, Linked(found.id, found.state, found.stripe_refund, found.disputed)


def comes_after(loaded: LoadedOperation) -> str | None:
    """As `Operation.comes_after`: nothing is credited before it is proven that it was given back."""
    waits = (each.id for each in loaded.parts if each.state == RefundState.REQUESTED or each.disputed)
    return next(waits, None)


def not_given_back(loaded: LoadedOperation) -> str | None:
    """Why the note cannot be issued, if its refund gave nothing back."""
    return next((f"{NOT_GIVEN_BACK}: {each.state}" for each in loaded.parts if each.state in FREES_ITS_AMOUNT), None)
