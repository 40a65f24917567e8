"""Which operations a name leads to: an id of ours or of Stripe's, a key, a request id, or a correlation id."""

import re
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, literal, select, true
from sqlalchemy.orm import Session, aliased

from billing import request_ids
from billing.errors import UnknownEntity
from billing.operations import OPERATIONS, by_id
from billing.registration import Operation
from billing.tables.differences import MoneyDifference
from billing.tables.entities import Entity, Requested
from billing.tables.facts import Fact
from billing.tables.idempotency_records import Record
from billing.tables.received_events import ReceivedEvent
from billing.tables.stripe_records import StripeRecord
from billing.tables.work import Work

MOST = 100
"""A correlation id may name a whole bulk, and a customer may have any number of invoices: the newest are found."""
SEARCHED = 5_000_000
"""Of the newest facts, as many are read for the id of an answer: a million takes 0.6 s. The archive has all."""
LENGTH = 300
"""The longest name there is: a key."""
_KEY_OF = re.compile(r":([a-z]{2,8}_[0-9a-f]{32}):[^:]+(?::[^:]+)?:g[0-9]+$")
"""A key ends with the operation, the step and the generation (`billing.idempotency.key_for`)."""


def find(session: Session, name: str, kinds: type[Entity] = Requested) -> list[str]:
    """The operations that a name leads to, the newest first, at most `MOST` of each kind. What was asked for with a
    request id stands before what only has it as its correlation id, such as the document of an invoice.

    A name is our own id (`cap_`, `void_`, `ref_`, `inv_`, `iac_`, `run_`, `swi_`, `wrk_`, `rec_`, `dif_`), an id of
    Stripe's (`Operation.found_by`, an event in the inbox: `evt_`, or a record in the mirror: `txn_`), an idempotency
    key, the id of one of Stripe's answers (`req_`), the request id with which something was asked for, or a correlation
    id.
    `kinds`: only operations of these; by default what applications ask for. Raises UnknownEntity when there is none.
    """
    if not name.isprintable() or len(name) > LENGTH:
        raise UnknownEntity(name)
    for ways in ((_by_id,), (_by_request_id, _by_correlation_id), (_by_answer,)):
        found: dict[str, None] = {}
        for way in ways:
            each_of = {each for query in way(name) for each in session.scalars(query) if _is_of(each, kinds)}
            # After its kind an id begins with its time, so the greatest is the newest.
            found |= dict.fromkeys(sorted(each_of, key=lambda each: each.partition("_")[2], reverse=True))
        if found:
            return list(found)
    raise UnknownEntity(name)


def _by_id(name: str) -> list[Select[Any]]:
    if (key := _KEY_OF.search(name)) is not None:
        # The record with this key may be gone: what is over long ago has only facts.
        return [select(literal(key[1]))]
    prefix = name.partition("_")[0]
    match prefix:
        case "wrk":
            return [select(Work.entity_id).where(Work.id == name)]
        case "rec":
            return [select(Record.operation_id).where(Record.id == name)]
        case "dif":
            return [select(MoneyDifference.subject).where(MoneyDifference.id == name)]
        case "evt":
            return [select(ReceivedEvent.matched_with).where(ReceivedEvent.id == name)]
    # An entry of the ledger, a payout's or a refund's: what it names, or what its source names.
    entry = aliased(StripeRecord)
    of_source = select(StripeRecord.operation_id).join(entry, entry.source == StripeRecord.id).where(entry.id == name)
    queries = [select(StripeRecord.operation_id).where(StripeRecord.id == name), of_source]
    for operation in OPERATIONS.values():
        table = operation.table
        if operation.prefix == prefix:
            queries.append(select(table.id).where(table.id == name))
        if (column := operation.found_by.get(prefix)) is not None:
            queries += [_newest(table, column == name, each) for each in _indexes(operation)]
    return queries


def _by_request_id(name: str) -> list[Select[Any]]:
    """It may look like anything, and the same one may name operations of several kinds and accounts."""
    ids = [name, request_ids.recovered(request_ids.digest_of(name) or "")]
    return [select(table.id).where(table.request_id.in_(ids)) for table in _requested()]


def _by_correlation_id(name: str) -> list[Select[Any]]:
    """One that is the request id is found as such, and not indexed again."""
    return [
        _newest(table, table.correlation_id == name, table.correlation_id != table.request_id) for table in _requested()
    ]


def _requested() -> list[type[Requested]]:
    return [operation.table for operation in OPERATIONS.values() if issubclass(operation.table, Requested)]


def _by_answer(name: str) -> list[Select[Any]]:
    """The id of one of Stripe's answers, which stands in the fact of its attempt. No index has it, because that would
    cost each call of each capture, and only a person asks for one now and then."""
    if not name.startswith("req_"):
        return []
    newest = select(func.max(Fact.id)).scalar_subquery()
    return [select(Fact.entity_id).where(Fact.id > newest - SEARCHED, Fact.payload["request_id"].astext == name)]


def _indexes(operation: Operation) -> list[ColumnElement[bool]]:
    """A condition for each index that has a part of its rows; with the states as literals, as in the indexes."""
    if not operation.sought_in:
        return [true()]
    others = [state for state in operation.table.life.states if state not in operation.sought_in]
    literals = [[str(state) for state in states] for states in (operation.sought_in, others)]
    return [operation.table.state.in_(bindparam(None, each, expanding=True, literal_execute=True)) for each in literals]


def _newest(table: type[Entity], *conditions: ColumnElement[bool]) -> Select[Any]:
    # The offset keeps Postgres from reading all rows, the newest first, in the hope to find enough of them soon.
    found = select(table.id).where(*conditions).offset(0).subquery()
    return select(found.c.id).order_by(found.c.id.desc()).limit(MOST)


def _is_of(entity_id: str | None, kinds: type[Entity]) -> bool:
    operation = by_id(entity_id) if entity_id else None
    return operation is not None and issubclass(operation.table, kinds)
