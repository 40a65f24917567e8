"""What Postgres knows about everything that a name leads to: requests, work, calls with their keys, facts, advice."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import literal_column, select
from sqlalchemy.orm import Session

from billing import situations, stripes_side
from billing.errors import UnknownEntity
from billing.facts import OLD_TOPICS, PAYLOAD_TEXT, UnreadablePayload, read_payload
from billing.finding import find
from billing.next_action import Advice
from billing.operations import operation_of, topics
from billing.registration import Operation
from billing.situations import PulledSwitch
from billing.states import WorkState
from billing.status import Status, status_by
from billing.stripes_side import Differs, Heard, Money
from billing.tables.entities import Entity, Requested
from billing.tables.facts import RETENTION_CLASS, Fact
from billing.tables.idempotency_records import Record
from billing.tables.work import Work
from billing.tables.work_failures import WorkFailure
from billing.traceparent import trace_id

MOST = 20
"""So many operations are explained at once; of the others it is said how many there are."""
FAILURES_MOST = 20


@dataclass(frozen=True, slots=True)
class ExplainedWork:
    """One row of `work`."""

    id: str
    contract: str
    version: int
    queue: str
    state: str
    state_since: datetime
    planned_at: datetime
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
    last_prepared_at: datetime | None
    last_reported_at: datetime | None
    look_at: datetime | None
    answer_status: int | None
    request_ids: list[str]
    conclusion: str | None
    concluded_at: datetime | None


@dataclass(frozen=True, slots=True)
class ExplainedFact:
    """One fact, with what its topic means. `set_aside`: it could not be planned, and starts nothing.

    A payload that cannot be read is shown as `{"unreadable": why}`. `archived`: it was purged, and read from the
    archive, which has no words of people in it. `batch`: the number of its batch in its retention class, and `object`
    the key of the object in the bucket; None while it is in no batch.
    """

    at: datetime
    version: int
    topic: str
    meaning: str
    actor: str
    payload: dict[str, Any]
    set_aside: bool
    archived: bool = False
    retention_class: str = ""
    batch: int | None = None
    object: str | None = None


@dataclass(frozen=True, slots=True)
class ExplainedFailure:
    """One failure of its work. `billing quarantine show` has the places of its errors."""

    at: datetime
    work_id: str
    quarantined: bool
    reason: str | None
    errors: list[str]


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
    """The story with the facts that these rows of the archive tell, in order; what is in Postgres stays as it is. Each
    row has `retention_class`, `batch` and `object`, too."""
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
            retention_class=row["retention_class"],
            batch=row["batch"],
            object=row["object"],
        )
        for row in rows
        if row["entity_version"] not in known
    ]
    facts = sorted([*story.facts, *found], key=lambda fact: fact.version)
    return replace(story, facts=facts, purged=max(0, story.purged - len(found)))


def _explained(session: Session, entity_id: str) -> Explanation | None:
    operation = operation_of(entity_id)
    row = session.get(operation.table, entity_id)
    if row is None:
        return None
    works = session.scalars(select(Work).where(Work.entity_id == row.id).order_by(Work.id)).all()
    records = session.scalars(select(Record).where(Record.operation_id == row.id).order_by(Record.generation)).all()
    facts, unplanned = _facts(session, operation, row)
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
        work=[_work(work) for work in works],
        calls=[_call(record) for record in records],
        facts=facts,
        switches=switches,
        failures=_failures(session, works),
        events=stripes_side.events_of(session, row.id),
        money=stripes_side.money_of(session, operation, row),
        differences=differences,
        # Facts are numbered without a gap.
        purged=max(0, row.version - len(facts)),
    )


def _facts(session: Session, operation: Operation, row: Entity) -> tuple[list[ExplainedFact], bool]:
    """And whether one of them starts work that no relay has planned yet."""
    # With the entity's type, so that Postgres uses the unique index of entity versions.
    mine = (Fact.entity_type == row.life.of, Fact.entity_id == row.id)
    columns: tuple[Any, ...] = (
        Fact.happened_at,
        Fact.entity_version,
        Fact.topic,
        Fact.actor,
        Fact.planned_version,
        Fact.batch_no,
        literal_column(f"({RETENTION_CLASS})").label("retention_class"),
        PAYLOAD_TEXT,
    )
    meanings = topics() | OLD_TOPICS
    rows = session.execute(select(*columns).where(*mine).order_by(Fact.entity_version)).all()
    told = [
        ExplainedFact(
            at=fact.happened_at,
            version=fact.entity_version,
            topic=fact.topic,
            meaning=meanings.get(fact.topic, ""),
            actor=fact.actor,
            payload=_payload(fact.payload_text),
            set_aside=(fact.planned_version or 0) < 0,
            retention_class=fact.retention_class,
            batch=fact.batch_no,
        )
        for fact in rows
    ]
    starts = [(f"{operation.kind}.{contract.topic}", contract.wanted) for contract in operation.contracts]
    waiting = [fact for fact, row in zip(told, rows, strict=True) if row.planned_version is None]
    return told, any(fact.topic == topic and wanted(fact.payload) for fact in waiting for topic, wanted in starts)


def _payload(text: str | None) -> dict[str, Any]:
    try:
        return read_payload(text)
    except UnreadablePayload as error:
        return {"unreadable": str(error)}


def _failures(session: Session, works: Sequence[Work]) -> list[ExplainedFailure]:
    newest = select(WorkFailure).where(WorkFailure.work_id.in_([work.id for work in works]))
    found = session.scalars(newest.order_by(WorkFailure.id.desc()).limit(FAILURES_MOST)).all() if works else []
    return [
        ExplainedFailure(
            each.happened_at, each.work_id, each.quarantined, each.reason, [str(error["kind"]) for error in each.errors]
        )
        for each in reversed(found)
    ]


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


def _work(work: Work) -> ExplainedWork:
    return ExplainedWork(
        id=work.id,
        contract=work.contract,
        version=work.version,
        queue=work.queue,
        state=work.state,
        state_since=work.state_since,
        planned_at=work.created_at,
        attempts=work.attempts,
        due_at=work.due_at,
        reason=work.reason,
    )


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
        last_prepared_at=record.last_prepared_at,
        last_reported_at=record.last_reported_at,
        look_at=record.look_at,
        answer_status=record.answer_status,
        request_ids=record.request_ids,
        conclusion=record.conclusion,
        concluded_at=record.concluded_at,
    )
