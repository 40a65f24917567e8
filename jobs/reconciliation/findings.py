"""How what a comparison finds becomes rows: a difference is written once, and ends when it is not found any more."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from billing import ids, statements

SQL = statements.beside(__file__)


def write(session: Session, account: str, class_: str, row: Row[Any]) -> bool:
    """Write what a statement of a class has found: `subject`, `stripe_id`, `minor`, `currency` and `what`. True if it
    was not open before."""
    opened = statements.run(
        session,
        SQL["found"],
        id=ids.new("dif"),
        kind=class_,
        subject=row.subject,
        stripe_id=row.stripe_id,
        account=account,
        minor=None if row.minor is None else int(row.minor),
        currency=row.currency,
        what=row.what,
    )
    return bool(opened.scalar_one())


def end(session: Session, classes: Sequence[str], subjects: Sequence[str], found: Sequence[tuple[str, str]]) -> int:
    """End those of these classes that were open about these subjects, and are not among those found now, (class,
    subject). Returns how many."""
    over = statements.run(
        session,
        SQL["gone"],
        subjects=list(subjects),
        compared=list(classes),
        classes=[class_ for class_, _ in found],
        found=[subject for _, subject in found],
    )
    return over.rowcount
