"""The feed of changes: every new state of every request, in order, from a cursor of the application's.

A fact gets its id before its transaction commits, so a smaller id may become visible after a larger one. A reader that
continues after the largest id it has seen would miss it. Here a page ends at the newest committed fact, and it is read
only after every transaction has ended that was writing facts at that moment. A smaller id can only come from one of
those transactions, so by then it is either visible or rolled back.
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
from billing.shown_states import Doubt
from billing.status import status
from billing.tables.entities import Requested

SQL = statements.beside(__file__)

MOST = 1_000
"""Changes on one page."""
NEAR = 5_000
"""Facts that are read for one page, of calls included."""
_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.05
"""Between two checks whether the writers have ended. Workers and relays write for a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Change:
    """A capture, a refund or an invoice reached a state. `id` and `version` together identify this change.

    `version` grows with every fact about the operation. Facts about calls are no changes, so versions have gaps.
    `state` is a state as `billing.status` shows it. `in_progress` and `in_doubt` follow from calls and are no changes,
    with one exception: `in_progress` when an operator has a refused invoice made again. `reason` is only given while
    the operation is still in that state.
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
    """There are more changes now, even if this page is empty: ask again at once."""
    behind: bool
    """There is a new fact that cannot be returned yet: a transaction that writes facts has not ended. Ask later."""


def changes(session: Session, after: int = 0, *, limit: int = 100, wait_s: float = 1.0) -> Changes:
    """The changes after this cursor, the oldest first, at most `limit` (1 to 1,000). 0 is the beginning of what is
    kept: what was purged is in the archive only.

    It reads in the caller's own transaction, at READ COMMITTED; requests of that transaction are among the changes. It
    waits up to `wait_s` seconds for transactions that are writing facts now, those of the application included, so
    `wait_s` should be longer than they usually take. A longer one delays the feed (`behind`); no change is lost.

    Raises UnknownCursor if facts after the cursor were purged, which happens only to who is behind by more than
    BILLING_KEEP_FACTS_DAYS, or if the fact at the cursor was deleted in another way. Raises InvalidRequest for wrong
    types, for another isolation level, and on a standby.
    """
    session = callers_session(session)
    _whole("after", after, 0, math.inf)
    _whole("limit", limit, 1, MOST)
    wait_s = seconds("wait_s", wait_s, 60)
    found_now = statements.run(session, SQL["newest_and_writers"]).one()
    if not found_now.isolation.startswith("read "):
        # Its snapshot would be older than the list of writers: a writer that ended in between would be missed.
        raise InvalidRequest("session", f"must be in a transaction at READ COMMITTED, not at {found_now.isolation}")
    if found_now.standby:
        raise InvalidRequest(
            "session", "must be at the primary: a standby does not show the transactions that write there"
        )
    if found_now.newest < after or 0 < after < found_now.purged_upto:
        raise UnknownCursor(after)
    if found_now.newest == after:
        return Changes((), after, more=False, behind=False)
    if not _over(session, found_now.writers, wait_s):
        return Changes((), after, more=False, behind=True)
    # A new statement has a new snapshot, which is younger than the end of every writer.
    rows = statements.run(
        session,
        SQL["read"],
        after=after,
        newest=found_now.newest,
        purged_upto=found_now.purged_upto,
        topics=list(_states_by_topic()),
        near=NEAR,
        most=limit,
    ).all()
    if not rows[0].kept:
        raise UnknownCursor(after)
    found = [row for row in rows if row.id is not None]
    cursor = found[-1].id if len(found) == limit else rows[0].upto
    return Changes(_made(session, found), cursor, more=cursor < found_now.newest, behind=False)


def _whole(name: str, given: object, least: int, most: float) -> None:
    if not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most:
        bounds = f"{least:,} or more" if most == math.inf else f"from {least:,} to {most:,}"
        raise InvalidRequest(name, f"must be a whole number, {bounds}")


def _over(session: Session, writers: Sequence[str], wait_s: float) -> bool:
    """Whether the transactions of these writers end within `wait_s`. The pauses are made by the database, so that an
    asynchronous session does not block its event loop."""
    end, pause_s = time.monotonic() + wait_s, _PAUSE_S
    while writers and statements.run(session, SQL["still_writing"], writers=writers).scalar_one():
        if (left_s := end - time.monotonic()) <= 0:
            return False
        statements.run(session, "SELECT pg_sleep(%(pause)s)", pause=min(pause_s, left_s))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    return True


def _followed() -> dict[str, type[Requested]]:
    """The tables of operations that applications request, by kind."""
    tables = {kind: operation.table for kind, operation in OPERATIONS.items()}
    return {kind: table for kind, table in tables.items() if issubclass(table, Requested)}


def _states_by_topic() -> dict[str, str | None]:
    """Every topic that is a change, with its state. None: the state that the row has now."""
    states: dict[str, str | None] = {}
    for kind, table in _followed().items():
        states |= {f"{kind}.{state}": str(state) for state in table.life.states}
        states |= {f"{kind}.conflict": str(Doubt.CONFLICT), f"{kind}.upheld": None}
        states |= {f"{kind}.reopened": str(Doubt.IN_PROGRESS)} if "reopened" in table.life.topics else {}
    return states


def _made(session: Session, found: Sequence[Any]) -> tuple[Change, ...]:
    states, rows = _states_by_topic(), _rows(session, found)
    made = []
    for fact in found:
        # A fact without a row was not written by our functions.
        if (row := rows.get(fact.entity_id)) is None:
            continue
        state = states[fact.topic] or row.state
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
