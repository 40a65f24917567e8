"""One capture or invoice, explained: what was asked, every provider call with its key, every fact, and what is next."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from billing import request_ids
from billing.errors import UnknownEntity
from billing.facts import OLD_TOPICS, PAYLOAD_TEXT, UnreadablePayload, read_payload
from billing.operations import OPERATIONS, by_id, operation_of, topics
from billing.registration import Operation
from billing.status import Status, status
from billing.tables.entities import Requested
from billing.tables.facts import Fact
from billing.tables.idempotency_records import Record
from billing.tables.work import Work
from billing.traceparent import trace_id


@dataclass(frozen=True, slots=True)
class ExplainedWork:
    """One row of `work`."""

    id: str
    contract: str
    queue: str
    state: str
    attempts: int
    due_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class ExplainedCall:
    """One generation of one step. `request_ids` are Stripe's: what its support asks for."""

    id: str
    step: str
    generation: int
    key: str
    method: str
    path: str
    state: str
    learned: str
    sends: int
    looks: int
    first_sent_at: datetime | None
    last_reported_at: datetime | None
    look_at: datetime | None
    answer_status: int | None
    request_ids: list[str]
    conclusion: str | None


@dataclass(frozen=True, slots=True)
class ExplainedFact:
    """One fact, with what its topic means. `set_aside`: it could not be planned, and starts nothing.

    A payload that cannot be read is shown as `{"unreadable": why}`. `archived`: it was purged, and read from the
    archive, which has no words of people in it.
    """

    at: datetime
    version: int
    topic: str
    meaning: str
    actor: str
    payload: dict[str, Any]
    set_aside: bool
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that Postgres knows about one operation. `also`: the ids of older operations that the name leads to.
    `purged`: so many of its facts are not in Postgres any more."""

    status: Status
    request: dict[str, Any]
    work: list[ExplainedWork]
    calls: list[ExplainedCall]
    facts: list[ExplainedFact]
    also: list[str]
    purged: int = 0


def explain(session: Session, name: str) -> Explanation:
    """Explain the newest operation that `name` leads to: see `find`. Raises UnknownEntity."""
    newest, *others = find(session, name)
    operation = operation_of(newest)
    row = session.get(operation.table, newest)
    if not isinstance(row, Requested):
        # Another program wrote work for an operation that does not exist, or its row was deleted.
        raise UnknownEntity(name)
    works = session.scalars(select(Work).where(Work.entity_id == newest).order_by(Work.id)).all()
    records = session.scalars(
        select(Record).where(Record.operation_id == newest).order_by(Record.created_at, Record.generation)
    )
    facts = _facts(session, row)
    current = status(session, newest)
    if current.work is None and any(fact.set_aside for fact in facts):
        current = replace(current, next="nothing: its fact was set aside as unplannable; see the relay's log")
    return Explanation(
        status=current,
        request=_request(session, operation, row) | _trace(works),
        work=[ExplainedWork(w.id, w.contract, w.queue, w.state, w.attempts, w.due_at, w.reason) for w in works],
        calls=[_call(record) for record in records],
        facts=facts,
        also=others,
        # Facts are numbered without a gap.
        purged=max(0, row.version - len(facts)),
    )


def with_archived(story: Explanation, rows: Iterable[Mapping[str, Any]]) -> Explanation:
    """The story with the facts that these rows of the archive tell, in order; what is in Postgres stays as it is."""
    known = {fact.version for fact in story.facts}
    meanings = topics() | OLD_TOPICS
    found = [
        ExplainedFact(
            at=row["happened_at"],
            version=row["entity_version"],
            topic=row["topic"],
            meaning=meanings.get(row["topic"], ""),
            actor=row["actor"] or "",
            payload=_payload(row["payload"]),
            set_aside=False,
            archived=True,
        )
        for row in rows
        if row["entity_version"] not in known
    ]
    facts = sorted([*story.facts, *found], key=lambda fact: fact.version)
    return replace(story, facts=facts, purged=max(0, story.purged - len(found)))


def find(session: Session, name: str) -> list[str]:
    """The captures and invoices that a name leads to, the newest first. Raises UnknownEntity when there is none.

    A name is our own id (`cap_`, `inv_`, `wrk_`, `rec_`), an id of Stripe's (`Operation.found_by`), or the request id
    with which it was asked for.
    """
    prefix = name.partition("_")[0]
    queries: list[Select[Any]]
    match prefix:
        case "wrk":
            queries = [select(Work.entity_id).where(Work.id == name)]
        case "rec":
            queries = [select(Record.operation_id).where(Record.id == name)]
        case _:
            queries = [
                select(operation.table.id).where(column == name)
                for operation in OPERATIONS.values()
                for its_prefix, column in {operation.prefix: operation.table.id, **operation.found_by}.items()
                if its_prefix == prefix
            ]
    # A request id may look like anything; the same one may name operations of several kinds.
    ids = [name, request_ids.recovered(request_ids.digest_of(name) or "")]
    by_request = [select(table.id).where(table.request_id.in_(ids)) for table in _requested()]
    found = _all(session, queries) or [each for query in by_request for each in _all(session, [query])]
    if not found:
        raise UnknownEntity(name)
    return found


def _requested() -> list[type[Requested]]:
    """The tables of what applications ask for."""
    return [operation.table for operation in OPERATIONS.values() if issubclass(operation.table, Requested)]


def _all(session: Session, queries: Iterable[Select[Any]]) -> list[str]:
    """Ids begin with their time, so the greatest is the newest. A switch is left out, to which a probe's work leads: no
    application requested it."""
    found = [each for query in queries for each in session.scalars(query)]
    requested = [each for each in found if (operation := by_id(each)) and issubclass(operation.table, Requested)]
    return sorted(requested, reverse=True)


def _facts(session: Session, row: Requested) -> list[ExplainedFact]:
    # With the entity's type, so that Postgres uses the unique index of entity versions.
    mine = (Fact.entity_type == row.life.of, Fact.entity_id == row.id)
    columns = (Fact.happened_at, Fact.entity_version, Fact.topic, Fact.actor, Fact.planned_version, PAYLOAD_TEXT)
    meanings = topics() | OLD_TOPICS
    rows = session.execute(select(*columns).where(*mine).order_by(Fact.entity_version))
    return [
        ExplainedFact(
            at, version, topic, meanings.get(topic, ""), actor, _payload(payload), set_aside=(planned_version or 0) < 0
        )
        for at, version, topic, actor, planned_version, payload in rows
    ]


def _payload(text: str | None) -> dict[str, Any]:
    try:
        return read_payload(text)
    except UnreadablePayload as error:
        return {"unreadable": str(error)}


def _request(session: Session, operation: Operation, row: Requested) -> dict[str, Any]:
    return {
        "request_id": row.request_id,
        "requested_at": row.requested_at,
        "account": row.account,
        "correlation_id": row.correlation_id,
        **operation.shown(session, row),
    }


def _trace(works: Iterable[Work]) -> dict[str, str]:
    """The id of the trace that the application named, if it named one."""
    ids = [each for work in works if (each := trace_id(work.traceparent)) is not None]
    return {"trace": ids[0]} if ids else {}


def _call(record: Record) -> ExplainedCall:
    return ExplainedCall(
        id=record.id,
        step=record.step,
        generation=record.generation,
        key=record.key,
        method=record.method,
        path=record.path,
        state=record.state,
        learned=record.learned,
        sends=record.sends,
        looks=record.looks,
        first_sent_at=record.first_sent_at,
        last_reported_at=record.last_reported_at,
        look_at=record.look_at,
        answer_status=record.answer_status,
        request_ids=record.request_ids,
        conclusion=record.conclusion,
    )
