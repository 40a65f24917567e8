"""What Postgres knows about everything that a name leads to: requests, work, calls with their keys, facts, advice."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import situations, stripes_side
from billing.errors import UnknownEntity
from billing.explained_facts import ExplainedFact, archived, facts_of
from billing.explained_work import (
    ExplainedCall,
    ExplainedFailure,
    ExplainedWork,
    failures_of,
    shown_call,
    shown_work,
)
from billing.finding import find
from billing.next_action import Advice
from billing.operations import operation_of
from billing.registration import Operation
from billing.situations import PulledSwitch
from billing.states import WorkState
from billing.status import Status, status_by
from billing.stripes_side import Differs, Heard, Money
from billing.tables.entities import Entity, Requested
from billing.tables.idempotency_records import Record
from billing.tables.work import Work
from billing.traceparent import trace_id

MOST = 20
"""So many operations are explained at once; of the others it is said how many there are."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that Postgres knows about one operation. `purged`: so many of its facts are not in Postgres any
    more."""

    kind: str
    status: Status
    advice: Advice
    request: dict[str, Any]
    work: list[ExplainedWork]
    calls: list[ExplainedCall]
    facts: list[ExplainedFact]
    switches: list[PulledSwitch]
    failures: list[ExplainedFailure]
    events: list[Heard]
    money: list[Money]
    differences: list[Differs]
    purged: int = 0


@dataclass(frozen=True, slots=True)
class Story:
    """What a name leads to, the newest operation first. `more`: so many older ones are not explained. `difference`:
    what the name is the id of; it may be about an object of Stripe's alone, and then there is no operation."""

    name: str
    operations: list[Explanation]
    more: int = 0
    difference: Differs | None = None


def explain(session: Session, name: str) -> Story:
    """Explain all operations that `name` leads to: see `billing.finding.find`. Raises UnknownEntity."""
    difference = stripes_side.difference(session, name) if name.startswith("dif_") and name.isprintable() else None
    try:
        found = find(session, name, Entity)
    except UnknownEntity:
        if difference is None:
            raise
        return Story(name, [], difference=difference)
    # Another program may have written work for an operation that does not exist, or its row was deleted.
    explained = [each for entity_id in found[:MOST] if (each := _explained(session, entity_id)) is not None]
    if not explained and difference is None:
        raise UnknownEntity(name)
    return Story(name, explained, max(0, len(found) - MOST), difference)


def explain_one(session: Session, entity_id: str) -> Explanation:
    """Explain the operation with this id. Raises UnknownEntity."""
    if (explained := _explained(session, entity_id)) is None:
        raise UnknownEntity(entity_id)
    return explained


def with_objects(story: Explanation, keys: Mapping[tuple[str, int], str]) -> Explanation:
    """The story with the key of the object of each fact, by its retention class and its batch's number."""
    facts = [replace(fact, object=keys.get((fact.retention_class, fact.batch or 0))) for fact in story.facts]
    return replace(story, facts=facts)


def with_archived(story: Explanation, rows: Iterable[Mapping[str, Any]]) -> Explanation:
    """The story with the facts that these rows of the archive tell, in order; what is in Postgres stays as it is. For
    the rows see `billing.explained_facts.archived`."""
    known = {fact.version for fact in story.facts}
    found = archived(row for row in rows if row["entity_version"] not in known)
    facts = sorted([*story.facts, *found], key=lambda fact: fact.version)
    return replace(story, facts=facts, purged=max(0, story.purged - len(found)))


def _explained(session: Session, entity_id: str) -> Explanation | None:
    operation = operation_of(entity_id)
    row = session.get(operation.table, entity_id)
    if row is None:
        return None
    works = session.scalars(select(Work).where(Work.entity_id == row.id).order_by(Work.id)).all()
    records = session.scalars(select(Record).where(Record.operation_id == row.id).order_by(Record.generation)).all()
    facts, unplanned = facts_of(session, operation, row)
    # Its own work is the oldest; what observes it later has more.
    current = status_by(row, records, works[0] if works else None)
    if not works and not current.final:
        if any(fact.set_aside for fact in facts):
            current = replace(current, next="nothing: its fact was set aside as unplannable; see the relay's log")
        elif not unplanned:
            current = replace(current, next="nothing is planned")
    differences = stripes_side.differences_of(session, row.id)
    about_calls = (f"{operation.kind}.attempted", f"{operation.kind}.looked")
    seen = situations.Seen(
        operation,
        row,
        records,
        next((work for work in works if work.state != WorkState.DONE), works[0] if works else None),
        next((fact.payload for fact in reversed(facts) if fact.topic in about_calls), {}),
        set_aside=any(fact.set_aside for fact in facts),
        unplanned=unplanned,
        reason=current.reason,
        difference=next((each for each in differences if each.is_open), None),
    )
    switches = situations.pulled(session, seen.work)
    return Explanation(
        kind=operation.kind,
        status=current,
        advice=situations.advice(session, seen, switches),
        request=_request(session, operation, row) | _trace(works),
        work=[shown_work(work) for work in works],
        calls=[shown_call(record) for record in records],
        facts=facts,
        switches=switches,
        failures=failures_of(session, works),
        events=stripes_side.events_of(session, row.id),
        money=stripes_side.money_of(session, operation, row),
        differences=differences,
        # Facts are numbered without a gap.
        purged=max(0, row.version - len(facts)),
    )


def _request(session: Session, operation: Operation, row: Entity) -> dict[str, Any]:
    asked = {"request_id": row.request_id, "requested_at": row.requested_at} if isinstance(row, Requested) else {}
    return {
        **asked,
        "account": row.account,
        "correlation_id": row.correlation_id,
        **operation.shown(session, row),
    }


def _trace(works: Iterable[Work]) -> dict[str, str]:
    """The id of the trace that the application named, if it named one."""
    ids = [each for work in works if (each := trace_id(work.traceparent)) is not None]
    return {"trace": ids[0]} if ids else {}
