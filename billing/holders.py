"""Who has an authorization: the captures that take its money, or the void that gives it back; never both.

Whoever asks second is refused at once, and is told who was first. Two that ask at the same instant, in transactions
that do not see each other, are both written. Then the one whose call is prepared first wins at Stripe: an open record
of either holds the payment intent, so the calls come one after the other, and the second one finds what the first has
done. It ends, and its reason names the first.
"""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing.states import FREES_FROM_THE_VOID, FREES_THE_AUTHORIZATION
from billing.tables.entities import Capture, Void
from billing.tables.schema import quoted

VOIDED_BY = "voided_by"
"""The reason of a capture that lost; the id of the void comes after a colon."""
CAPTURED_BY = "captured_by"
"""The reason of a void that lost; the id of the capture comes after a colon."""


def _is_held(table: type[Capture] | type[Void], frees: Sequence[str]) -> str:
    """SQL for `billing.asking.write_once`, written as the condition of the table's index, so that Postgres uses
    that."""
    held = "held.{of_account} AND held.payment_intent = %(payment_intent)s"
    return f"EXISTS (SELECT FROM {table.__table__} AS held WHERE {held} AND held.state NOT IN ({quoted(frees)}))"


IS_CAPTURED, IS_VOIDED = _is_held(Capture, FREES_THE_AUTHORIZATION), _is_held(Void, FREES_FROM_THE_VOID)


def capture_holding(session: Session, account: str | None, payment_intent: str) -> str | None:
    """The id of the newest capture that has this authorization; None where none has."""
    return _newest(session, Capture, FREES_THE_AUTHORIZATION, account, payment_intent)


def void_holding(session: Session, account: str | None, payment_intent: str) -> str | None:
    """The id of the void that has this authorization; None where none has."""
    return _newest(session, Void, FREES_FROM_THE_VOID, account, payment_intent)


def _newest(
    session: Session,
    table: type[Capture] | type[Void],
    frees: Sequence[str],
    account: str | None,
    payment_intent: str,
) -> str | None:
    of_account = table.account.is_(None) if account is None else table.account == account
    mine = (of_account, table.payment_intent == payment_intent, table.state.not_in(frees))
    return session.scalar(select(table.id).where(*mine).order_by(table.id.desc()).limit(1))
