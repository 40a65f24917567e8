"""The places of captures on one authorization: which number is free, and which captures come before another.

A capture that keeps the rest leaves room for one more; each has the next number. The unique index of the table is the
last word: of two that are asked for at once it refuses one, which then gets the number after it.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, TextClause, func, select, text
from sqlalchemy.orm import Session

from billing import statements
from billing.states import FREES_THE_AUTHORIZATION, CaptureState
from billing.steps import LoadedOperation
from billing.tables.entities import MAX_CAPTURES, Capture
from billing.tables.schema import quoted

SQL = statements.beside(__file__)

_HELD = (
    "FROM billing.captures AS held WHERE held.{of_account} AND held.payment_intent = %(payment_intent)s"
    f" AND held.state NOT IN ({quoted(FREES_THE_AUTHORIZATION)})"
)
_LEAVES_NOTHING = f"(NOT keeps_remainder OR state = 'expired' OR capture_no >= {MAX_CAPTURES})"
NEXT_NUMBER = f"(SELECT coalesce(max(held.capture_no), 0) + 1 {_HELD})"
"""SQL for `billing.asking.write_once`: the number of a new capture."""
TAKEN = f"EXISTS (SELECT {_HELD} AND {_LEAVES_NOTHING})"
"""SQL for `billing.asking.write_once`: whether a capture holds the authorization and leaves nothing for another."""
LEAVES_NOTHING = text(_LEAVES_NOTHING)


class EarlierCapture(NamedTuple):
    """One of the same authorization with a lower number: a part of each capture that has one."""

    id: str
    amount_minor: int
    state: str


def earlier(session: Session, rows: Sequence[Capture]) -> Iterator[tuple[str, EarlierCapture]]:
    """As `Operation.parts`: those that did not free their place. Nothing is read for a first capture."""
    later = [row.id for row in rows if row.capture_no > 1]
    for found in statements.run(session, SQL["earlier_captures"], ids=later) if later else ():
        yield found.owner, EarlierCapture(found.id, found.amount_minor, found.state)


def comes_after(loaded: LoadedOperation) -> str | None:
    """As `Operation.comes_after`. Amounts at Stripe are sums, and the last capture releases the rest, so captures of
    one authorization are carried out in the order of their numbers."""
    return next((each.id for each in loaded.parts if each.state == CaptureState.REQUESTED), None)


def taken_before(loaded: LoadedOperation) -> int:
    """What our earlier captures took of this authorization: Stripe's `amount_received` is the sum of all."""
    return sum(each.amount_minor for each in loaded.parts if each.state == CaptureState.CAPTURED)


def holder_of(
    session: Session, account: str | None, payment_intent: str, *which: ColumnElement[bool] | TextClause
) -> str | None:
    """The id of the newest capture that occupies this authorization, of those that fit `which`; None if there is
    none."""
    newest = select(Capture.id).where(*_occupying(account, payment_intent), *which)
    return session.scalar(newest.order_by(Capture.capture_no.desc()).limit(1))


def next_place(session: Session, account: str | None, payment_intent: str) -> tuple[int, int]:
    """The next free number of this authorization, and what its captures have taken so far."""
    taken = func.sum(Capture.amount_minor).filter(Capture.state == CaptureState.CAPTURED)
    found = select(func.coalesce(func.max(Capture.capture_no), 0) + 1, func.coalesce(taken, 0))
    number, minor = session.execute(found.where(*_occupying(account, payment_intent))).one()
    return int(number), int(minor)


def _occupying(account: str | None, payment_intent: str) -> tuple[Any, ...]:
    # As the unique index has them: `IS NOT DISTINCT FROM` would not fit it.
    of_account = Capture.account.is_(None) if account is None else Capture.account == account
    return of_account, Capture.payment_intent == payment_intent, Capture.state.not_in(FREES_THE_AUTHORIZATION)
