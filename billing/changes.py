"""The feed of changes: every new state of every capture and invoice, in order, from a cursor of the application's.

A fact's id is drawn before its transaction commits, so a smaller id may appear after a larger one, and whoever goes
on from the largest id that it has seen loses it. Here a page ends at the newest committed fact, and is read only once
every transaction is over that wrote facts at that moment: whatever has a smaller id was written by one of them, and is
visible now or never.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import statements
from billing.asking import callers_session, seconds
from billing.errors import InvalidRequest, UnknownCursor
from billing.operations import OPERATIONS
from billing.states import Doubt
from billing.status import status
from billing.tables.entities import Requested

SQL = statements.beside(__file__)

MOST = 1_000
"""Changes on one page."""
NEAR = 5_000
"""Facts that are read for one page, of calls included."""
_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.05
"""Between two looks whether the writers are through. Workers and relays write for some milliseconds."""


@dataclass(frozen=True, slots=True)
class Change:
    """A capture or an invoice came to a state. `id` and `version` together name this change, for ever.

    `version` grows with everything that is told of it, so there are gaps: calls are no changes. `state` is a state as
    `billing.status` shows it; of `in_progress` and `in_doubt`, which follow from calls, only one is told: `in_progress`
    when an operator has a refused invoice made again. `reason` is given while the operation is still in that state.
    """

    id: str
    kind: str
    state: str
    version: int
    at: datetime
    request_id: str
    correlation_id: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Changes:
    """One page. Store `cursor` in the transaction that applies `changes`, and pass it as `after` next time."""

    changes: tuple[Change, ...]
    cursor: int
    more: bool
    """There is more already, even where this page is empty: ask again at once."""
    behind: bool
    """Something new is there, and cannot be told yet: a transaction that writes facts has not ended. Ask later."""


def changes(session: Session, after: int = 0, *, limit: int = 100, wait_s: float = 1.0) -> Changes:
    """The changes after this cursor, oldest first and at most `limit` (1 to 1,000); 0 is the beginning.

    It is asked in the caller's own transaction, at READ COMMITTED. What that transaction asked for itself is among the
    changes. It waits up to `wait_s` for transactions that write facts at this moment, the application's own included:
    let that be longer than these usually take. One that takes longer delays the feed (`behind`), and loses nothing.

    Raises UnknownCursor where the fact at which the cursor stands is no longer kept, and InvalidRequest for wrong
    types, for a transaction of another isolation level, and at a standby.
    """
    session = callers_session(session)
    _whole("after", after, 0, math.inf)
    _whole("limit", limit, 1, MOST)
    wait_s = seconds("wait_s", wait_s, 60)
    looked = statements.run(session, SQL["look"]).one()
    if not looked.isolation.startswith("read "):
        # Its snapshot is older than the look at who writes: who has just ended would be neither seen nor waited for.
        raise InvalidRequest("session", f"must be in a transaction at READ COMMITTED, not at {looked.isolation}")
    if looked.standby:
        raise InvalidRequest("session", "must be at the primary: a standby does not know who writes there")
    if looked.newest < after:
        raise UnknownCursor(after)
    if looked.newest == after:
        return Changes((), after, more=False, behind=False)
    if not _over(session, looked.writers, wait_s):
        return Changes((), after, more=False, behind=True)
    # A statement of its own, and so a snapshot of its own, younger than the end of all of them.
    rows = statements.run(
        session, SQL["read"], after=after, newest=looked.newest, topics=list(_told()), near=NEAR, most=limit
    ).all()
    if not rows[0].kept:
        raise UnknownCursor(after)
    found = [row for row in rows if row.id is not None]
    cursor = found[-1].id if len(found) == limit else rows[0].upto
    return Changes(_made(session, found), cursor, more=cursor < looked.newest, behind=False)


def _whole(name: str, given: object, least: int, most: float) -> None:
    if not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most:
        bounds = f"{least:,} or more" if most == math.inf else f"from {least:,} to {most:,}"
        raise InvalidRequest(name, f"must be a whole number, {bounds}")


def _over(session: Session, writers: Sequence[str], wait_s: float) -> bool:
    """Whether the transactions of these writers are over, or are so in time. The database makes the pauses: where the
    session is an asynchronous one, the event loop goes on."""
    end, pause_s = time.monotonic() + wait_s, _PAUSE_S
    while writers and statements.run(session, SQL["still_writing"], writers=writers).scalar_one():
        if (left_s := end - time.monotonic()) <= 0:
            return False
        statements.run(session, "SELECT pg_sleep(%(pause)s)", pause=min(pause_s, left_s))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    return True


def _followed() -> dict[str, type[Requested]]:
    """The tables of what applications ask for, by kind."""
    tables = {kind: operation.table for kind, operation in OPERATIONS.items()}
    return {kind: table for kind, table in tables.items() if issubclass(table, Requested)}


def _told() -> dict[str, str | None]:
    """Every topic that tells of a change, with the state that it tells of; None: the one in which the row is."""
    told: dict[str, str | None] = {}
    for kind, table in _followed().items():
        told |= {f"{kind}.{state}": str(state) for state in table.life.states}
        told |= {f"{kind}.conflict": str(Doubt.CONFLICT), f"{kind}.upheld": None}
        told |= {f"{kind}.reopened": str(Doubt.IN_PROGRESS)} if "reopened" in table.life.topics else {}
    return told


def _made(session: Session, found: Sequence[Any]) -> tuple[Change, ...]:
    told, rows = _told(), _rows(session, found)
    made = []
    for fact in found:
        # A fact without a row was written past our functions, and tells of nothing.
        if (row := rows.get(fact.entity_id)) is None:
            continue
        state = told[fact.topic] or row.state
        made.append(
            Change(
                id=fact.entity_id,
                kind=fact.entity_type,
                state=state,
                version=fact.entity_version,
                at=fact.happened_at,
                request_id=row.request_id,
                correlation_id=fact.correlation_id,
                reason=_reason(session, fact.entity_id, state, row),
            )
        )
    return tuple(made)


def _rows(session: Session, found: Sequence[Any]) -> Mapping[str, Any]:
    rows: dict[str, Any] = {}
    for kind, table in _followed().items():
        if ids := {fact.entity_id for fact in found if fact.entity_type == kind}:
            columns = select(table.id, table.request_id, table.state, table.reason).where(table.id.in_(ids))
            rows |= {row.id: row for row in session.execute(columns)}
    return rows


def _reason(session: Session, entity_id: str, state: str, row: Any) -> str | None:
    if state == Doubt.CONFLICT:
        now = status(session, entity_id)
        return now.reason if now.state == state else None
    return row.reason if row.state == state else None
