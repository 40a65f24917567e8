"""The inbox of Stripe's events, and of what mail servers tell: each is put in once, and matched later with the
operations that it is about.

    put      whoever receives an event writes its row, and nothing else
    match    a relay finds its operations, and writes `noticed` about those that may have changed (`billing.observing`)

An event may come before the commit that it is about, so one that matches nothing is looked at again, less and less
often, for an hour. Then it is `unknown`: somebody else's object, such as a capture in the dashboard.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import literal_column, select, true
from sqlalchemy.orm import Session

from billing import database, observing, row_io, statements
from billing.events import ids_of
from billing.operations import OPERATIONS, by_id
from billing.registration import Operation
from billing.states import EventState, set_state
from billing.tables.received_events import ReceivedEvent

SQL = statements.beside(__file__)

MATCHED_FOR = timedelta(hours=1)
FIRST_PAUSE = timedelta(seconds=2)
LOCKED_PAUSE = timedelta(seconds=1)
ACCOUNTS_MOST = 20
"""Each account is searched by itself; the events of others wait for the next round."""

_WRITTEN = (
    *("id", "type", "thin", "account", "livemode", "api_version", "created_at", "object_id", "payment_intent"),
    *("charge", "invoice", "operation_id", "caused_by", "source"),
)


def put(session: Session, events: Sequence[ReceivedEvent]) -> int:
    """Write those that are not there yet. Returns how many are new."""
    rows = json.dumps([{name: getattr(each, name) for name in _WRITTEN} for each in events], default=datetime.isoformat)
    return statements.run(session, SQL["put"], events=rows).rowcount


class _Found(NamedTuple):
    operation: Operation
    id: str


def match(session: Session, most: int) -> int:
    """Match up to `most` events, those that are due for longest first. Returns how many."""
    due = row_io.load(session, ReceivedEvent, SQL["to_match"], most=most)
    accounts = list(dict.fromkeys(event.account for event in due))[:ACCOUNTS_MOST]
    events = [event for event in due if event.account in accounts]
    if not events:
        return 0
    now = database.now(session)
    found = _operations_of(session, events)
    busy = _notice(session, events, found)
    for event in events:
        _settle(event, found[event.id], busy, now)
    row_io.save(session, events)
    return len(events)


def _settle(event: ReceivedEvent, found: Sequence[_Found], busy: Collection[str], now: datetime) -> None:
    if any(each.id in busy for each in found):
        event.match_at = now + LOCKED_PAUSE
        return
    waited = now - event.received_at
    if found:
        set_state(event, EventState.MATCHED)
        event.matched_with = found[0].id
    elif not _names_ours(event):
        set_state(event, EventState.IGNORED)
    elif waited >= MATCHED_FOR:
        set_state(event, EventState.UNKNOWN)
    else:
        event.match_at = now + min(max(2 * waited, FIRST_PAUSE), MATCHED_FOR)
        return
    event.match_at = None


def _names_ours(event: ReceivedEvent) -> bool:
    """Whether it is about a kind of object that operations of ours have."""
    prefixes = {prefix for operation in OPERATIONS.values() for prefix in operation.found_by}
    named = {each.partition("_")[0] for each in ids_of(event)}
    return bool(prefixes & named) or event.operation_id is not None or event.caused_by is not None


def _operations_of(session: Session, events: Sequence[ReceivedEvent]) -> Mapping[str, list[_Found]]:
    """By event, its operations: the one that it names itself first, then those that have one of its objects."""
    found: dict[str, list[_Found]] = defaultdict(list)
    by_account: dict[str | None, list[ReceivedEvent]] = defaultdict(list)
    for event in events:
        by_account[event.account].append(event)
    for account, mine in by_account.items():
        known = _named(session, account, {own for event in mine for own in _own_ids(event)})
        have = _having(session, account, {name for event in mine for name in ids_of(event)})
        for event in mine:
            named = [known[own] for own in _own_ids(event) if own in known]
            having = [each for name in ids_of(event) for each in have.get(name, ())]
            found[event.id] = list(dict.fromkeys([*named, *having]))
    return found


def _own_ids(event: ReceivedEvent) -> list[str]:
    return [each for each in (event.operation_id, event.caused_by) if each is not None]


def _of_account(operation: Operation, account: str | None) -> Any:
    column = operation.table.account
    if operation.of_any_account:
        return true()
    return column.is_(None) if account is None else column == account


def _named(session: Session, account: str | None, own_ids: Collection[str]) -> dict[str, _Found]:
    """Those of these ids that exist in this account: anybody can write anything into metadata."""
    found: dict[str, _Found] = {}
    for operation in OPERATIONS.values():
        mine = [each for each in own_ids if by_id(each) is operation]
        if mine and operation.found_by:
            table = operation.table
            rows = session.scalars(select(table.id).where(table.id.in_(mine), _of_account(operation, account)))
            found |= {each: _Found(operation, each) for each in rows}
    return found


def _having(session: Session, account: str | None, names: Collection[str]) -> dict[str, list[_Found]]:
    """By id of Stripe's, the operations that have this object."""
    found: dict[str, list[_Found]] = defaultdict(list)
    for operation, prefix, column in _columns():
        mine = [name for name in names if name.partition("_")[0] == prefix]
        if not mine:
            continue
        where = [_of_account(operation, account), column.in_(mine)]
        if operation.sought_in:
            # Literals, so that the partial index fits.
            where.append(operation.table.state.in_([literal_column(f"'{state}'") for state in operation.sought_in]))
        for row in session.execute(select(operation.table.id, column.label("name")).where(*where)):
            found[row.name].append(_Found(operation, row.id))
    return found


def _columns() -> Iterator[tuple[Operation, str, Any]]:
    for operation in OPERATIONS.values():
        for prefix, column in operation.found_by.items():
            yield operation, prefix, column


def _notice(
    session: Session, events: Sequence[ReceivedEvent], found: Mapping[str, Sequence[_Found]]
) -> Collection[str]:
    """Write `noticed` about each operation that may have changed, once, naming the newest event. Returns those that
    another transaction has locked: they are noticed later."""
    newest: dict[_Found, ReceivedEvent] = {}
    foreign: set[str] = set()
    for event in sorted(events, key=lambda each: each.created_at):
        for each in found[event.id]:
            newest[each] = event
            if event.caused_by != each.id:
                foreign.add(each.id)
    ours_alone = [each.id for each in newest if each.id not in foreign]
    # What our own call caused, its answer tells. Only while that is still missing, the event says more.
    calling = set(statements.run(session, SQL["open_calls"], ids=ours_alone).scalars()) if ours_alone else set()
    wanted = [each for each in newest if each.id in foreign or each.id in calling]
    busy: set[str] = set()
    for operation in dict.fromkeys(each.operation for each in wanted):
        if not any(contract.observes for contract in operation.contracts):
            continue
        mine = {each.id: newest[each] for each in wanted if each.operation is operation}
        rows = row_io.locked_where_free(session, operation.table, list(mine), _NOTICED)
        busy |= mine.keys() - {row.id for row in rows}
        changing = [row for row in rows if observing.may_have_changed(row)]
        facts = [
            observing.notice(row, source=mine[row.id].source, event=mine[row.id].id, event_type=mine[row.id].type)
            for row in changing
        ]
        row_io.save(session, changing, facts)
    return busy


_NOTICED = ("id", "account", "state", "correlation_id", "version")
"""What a relay may read of an operation to notice it."""
