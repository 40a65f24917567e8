"""An invoice of what was captured: it waits for its capture, and is marked as paid once it is final.

    the capture                     its invoice
    is not over                     waits
    took the money                  is drafted, finalized and marked as paid
    ended without the money         is refused: there is nothing to invoice
    is given back as a whole        is refused, if no draft was made by then

An invoice of a period needs to wait for nothing: it was asked for when all its captures were over.

Stripe applies a customer's balance to every invoice that is finalized, and no parameter prevents it: a credit would pay
what was paid already, a debt would be asked for. And one that is smaller than a charge may be is added to that balance,
so it would be asked for a second time, with the next invoice. So neither is finalized. Sources:
docs.stripe.com/billing/customer/balance, docs.stripe.com/api/invoices.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from billing import statements
from billing.currencies import LEAST_CHARGE
from billing.invoice_row import refuse
from billing.invoice_terms import is_paid_already
from billing.states import CAPTURE, CaptureState, InvoiceState
from billing.steps import Json, LoadedOperation
from billing.tables.entities import Invoice
from billing.tables.facts import Fact
from billing.tables.invoiced_captures import GIVEN_BACK, NOTHING_TAKEN

SQL = statements.beside(__file__)

HAS_A_BALANCE = "customer_has_a_balance"
BELOW_THE_LEAST = "below_the_least_charge"
"""Why an invoice that is paid already is refused before it is finalized."""


class Invoiced(NamedTuple):
    """The capture of an invoice that was asked for with it: a part of that invoice until it is drafted. `left_minor`:
    what it takes, less what was given back."""

    id: str
    state: str
    left_minor: int


def invoiced(session: Session, rows: Sequence[Invoice]) -> Iterator[tuple[str, Invoiced]]:
    """As `Operation.parts`. Nothing is read for an invoice that is drafted, or is to be paid."""
    waiting = [row.id for row in rows if row.state == InvoiceState.REQUESTED and is_paid_already(row)]
    for found in statements.run(session, SQL["captures_of_invoices"], ids=waiting) if waiting else ():
        yield found.invoice_id, Invoiced(found.id, found.state, found.left_minor)


def comes_after(loaded: LoadedOperation) -> str | None:
    """As `Operation.comes_after`: nothing is invoiced before it is captured."""
    return next((each.id for each in _captures(loaded) if not CAPTURE.is_final(each.state)), None)


def rule_out(loaded: LoadedOperation) -> list[Fact]:
    """As `Operation.rule_out`: what was not taken, or is given back, is not invoiced."""
    for each in _captures(loaded):
        if each.state != CaptureState.CAPTURED:
            return refuse(loaded, NOTHING_TAKEN)
        if not each.left_minor:
            return refuse(loaded, GIVEN_BACK)
    return []


def would_move_a_balance(row: Invoice, draft: Json) -> str | None:
    """Why this draft must not be finalized: that would move the customer's balance. None of an invoice that is to be
    paid, where that is as it must be."""
    if not is_paid_already(row):
        return None
    balance, total, least = draft.get("starting_balance"), draft.get("total"), LEAST_CHARGE.get(row.currency, 0)
    if type(balance) is int and balance != 0:
        return f"{HAS_A_BALANCE}: {'a credit' if balance < 0 else 'a debt'} of {abs(balance)} {row.currency}"
    if type(total) is int and 0 < total < least:
        return f"{BELOW_THE_LEAST}: {total} {row.currency}, and the least is {least}"
    return None


def _captures(loaded: LoadedOperation) -> list[Invoiced]:
    if loaded.row.state != InvoiceState.REQUESTED:
        return []
    return [part for part in loaded.parts if isinstance(part, Invoiced)]
