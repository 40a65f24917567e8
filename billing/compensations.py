"""Undoing a capture that nobody wants any more: by a refund that is asked for at once, and made once it is proven that
the capture took the money.

    the capture                              the refund that compensates it
    took the money                           is made
    is not over, and nothing was sent        the capture is refused as `withdrawn`, and nothing is taken
    is under way, in doubt or in conflict    waits until that is over
    ended without the money                  is refused: there is nothing to give back

It is an operation with a record of its own. Nobody has to remember it between the end of the capture and the refund:
its work waits for the capture, and whoever claims it next goes on.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from billing import statements
from billing.capture_steps import CAPTURE as CAPTURE_CALL
from billing.facts import OWN, new_fact
from billing.refund_steps import moved
from billing.states import CAPTURE, CaptureState, RefundState, set_state
from billing.steps import LoadedOperation
from billing.tables.entities import Capture, Refund
from billing.tables.facts import Fact

SQL = statements.beside(__file__)

WITHDRAWN = "withdrawn"
"""The reason of a capture that was compensated before anything was sent."""
NOTHING_TAKEN = "nothing_was_taken"
"""The reason of a refund that found nothing to compensate."""


class Compensated(NamedTuple):
    """The capture that a refund compensates: a part of that refund. `disputed`: a call of it is open or in conflict."""

    id: str
    state: str
    disputed: bool


def compensated(session: Session, rows: Sequence[Refund]) -> Iterator[tuple[str, Compensated]]:
    """As `Operation.parts`. Nothing is read for refunds that compensate nothing, or were made already."""
    waiting = [row.id for row in rows if row.compensates and row.state == RefundState.REQUESTED]
    for found in statements.run(session, SQL["compensated_captures"], ids=waiting) if waiting else ():
        yield found.owner, Compensated(found.id, found.state, found.disputed)


def comes_after(loaded: LoadedOperation) -> str | None:
    """As `Operation.comes_after`: no effect is undone before it is proven."""
    captures = (each for each in loaded.parts if isinstance(each, Compensated))
    return next((each.id for each in captures if each.disputed or not CAPTURE.is_final(each.state)), None)


def rule_out(loaded: LoadedOperation) -> list[Fact]:
    """As `Operation.rule_out`: a capture that took nothing is not given back."""
    row = loaded.row
    assert isinstance(row, Refund), "the operation's own table"
    if all(each.state == CaptureState.CAPTURED for each in loaded.parts if isinstance(each, Compensated)):
        return []
    return moved(row, RefundState.REFUSED, NOTHING_TAKEN)


def withdrawn(loaded: LoadedOperation) -> list[Fact]:
    """As `Operation.rule_out`, of a capture: while nothing was sent, it is refused if all of it is to be given back.
    Only a refund that compensates it asks for that so early."""
    row = loaded.row
    assert isinstance(row, Capture), "the operation's own table"
    if not row.refunds_minor or row.refunds_minor < row.amount_minor or row.state != CaptureState.REQUESTED:
        return []
    if any(record.step == CAPTURE_CALL.name for record in loaded.records):
        return []
    set_state(row, CaptureState.REFUSED)
    row.reason = WITHDRAWN
    money: dict[str, Any] = {"minor": row.amount_minor, "currency": row.currency, "account": row.account or OWN}
    return [new_fact(row, CaptureState.REFUSED, **money, why=WITHDRAWN)]
