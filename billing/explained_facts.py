"""The facts of one operation, as `billing.explain` shows them, and those that were purged, from the archive."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import literal_column, select
from sqlalchemy.orm import Session

from billing.facts import OLD_TOPICS, PAYLOAD_TEXT, UnreadablePayload, read_payload
from billing.operations import topics
from billing.registration import Operation
from billing.tables.entities import Entity
from billing.tables.facts import RETENTION_CLASS, Fact


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


def facts_of(session: Session, operation: Operation, row: Entity) -> tuple[list[ExplainedFact], bool]:
    """Those in Postgres, and whether one of them starts work that no relay has planned yet."""
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


def archived(rows: Iterable[Mapping[str, Any]]) -> list[ExplainedFact]:
    """The facts that these rows of the archive tell. Each row has `retention_class`, `batch` and `object`, too."""
    meanings = topics() | OLD_TOPICS
    return [
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
    ]


def _payload(text: str | None) -> dict[str, Any]:
    try:
        return read_payload(text)
    except UnreadablePayload as error:
        return {"unreadable": str(error)}
