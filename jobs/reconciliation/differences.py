"""What an operator sees of differences, and how a person closes one."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from billing import statements
from billing.errors import InvalidRequest, UnknownEntity
from billing.states import DifferenceState
from billing.texts import plain_text
from jobs.reconciliation.classes import BY_NAME

SQL = statements.beside(__file__)

ALL = ("open", "gone", "closed")


@dataclass(frozen=True, slots=True)
class Found:
    """One difference. `class_` decides `owner`, `meaning` and `next_step` (`jobs.reconciliation.classes`). `since`: it
    is open since then, or was until it ended; `seen_at`: the last pass that found it."""

    id: str
    class_: str
    owner: str
    subject: str
    stripe_id: str | None
    account: str
    amount_minor: int | None
    currency: str | None
    what: str
    meaning: str
    next_step: str
    state: str
    since: datetime
    age_s: float
    seen_at: datetime
    ended_at: datetime | None
    closed_by: str | None
    closed_because: str | None


def listed(session: Session, most: int, *, every: bool = False, class_: str | None = None) -> list[Found]:
    """The open ones, the oldest first; with `every`, also those that are over. Raises InvalidRequest for a class that
    does not exist."""
    if class_ is not None and class_ not in BY_NAME:
        raise InvalidRequest("class", f"is one of {', '.join(BY_NAME)}")
    states = list(ALL) if every else [DifferenceState.OPEN]
    rows = statements.run(session, SQL["listed"], states=states, kind=class_, most=most)
    return [_found(row) for row in rows]


def shown(session: Session, difference_id: str) -> Found:
    """One of them, whatever its state. Raises UnknownEntity."""
    row = statements.run(session, SQL["shown"], id=difference_id).one_or_none()
    if row is None:
        raise UnknownEntity(difference_id)
    return _found(row)


def close(session: Session, difference_id: str, *, actor: str, reason: str) -> bool:
    """Close an open one. It stays closed while both sides say what they say now. False: it was not open any more.

    Raises UnknownEntity and InvalidText. The caller records it as a command (`jobs.cli.acting`).
    """
    values = {"actor": actor, "reason": plain_text("reason", reason, 500)}
    if statements.run(session, SQL["close"], id=difference_id, **values).rowcount:
        return True
    shown(session, difference_id)
    return False


def _found(row: Row[Any]) -> Found:
    class_ = BY_NAME.get(row.kind)
    return Found(
        id=row.id,
        class_=row.kind,
        # A newer version may have written a class that is not known here.
        owner=class_.owner if class_ else "",
        subject=row.subject,
        stripe_id=row.stripe_id,
        account=row.account,
        amount_minor=row.amount_minor,
        currency=row.currency,
        what=row.what,
        meaning=class_.meaning if class_ else "",
        next_step=class_.next_step if class_ else "",
        state=row.state,
        since=row.first_seen_at,
        age_s=float(row.age_s),
        seen_at=row.last_seen_at,
        ended_at=None if row.state == DifferenceState.OPEN else row.state_since,
        closed_by=row.closed_by,
        closed_because=row.closed_because,
    )
