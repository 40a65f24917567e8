"""After a restore, the archive tells again where each document is; one that was stored is not stored twice."""

from datetime import UTC, datetime
from typing import Any

from keeping import finalized, row_of
from service import Service
from sqlalchemy.orm import Session

from billing import database
from billing.tables.documents import Document
from jobs.recovery import retold
from jobs.recovery.repeats import Repeats

STORED = {
    "sha256": "0" * 64,
    "size_bytes": 1000,
    "object_key": "documents/invoice_pdf/doc_1.pdf",
    "object_version": "1",
    "lock_mode": "GOVERNANCE",
    "locked_until": "2036-01-01T00:00:00+00:00",
}


def story(row: Document, *told: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """These facts about it, as the archive has them."""
    common = {"entity_id": row.id, "correlation_id": row.correlation_id, "happened_at": datetime.now(UTC)}
    return [
        {**common, "topic": f"document.{topic}", "entity_version": number, "payload": payload}
        for number, (topic, payload) in enumerate(told, start=1)
    ]


def told_again(service: Service, known: str | None, facts: list[dict[str, Any]]) -> bool:
    with database.transaction(service.engine) as session:
        row = session.get(Document, known) if known else None
        return tell(session, row, facts)


def tell(session: Session, row: Document | None, facts: list[dict[str, Any]]) -> bool:
    return retold.tell(session, row, "document", facts, len(facts), Repeats({}, "anna"))


def test_a_document_that_is_missing_is_made_again_as_its_facts_tell(service: Service) -> None:
    (document,) = finalized(service)
    row = row_of(service, document)
    of = {"invoice": row.invoice_id, "kind": row.kind, "stripe_object": row.stripe_object}
    service.execute("DELETE FROM billing.documents")
    assert told_again(service, None, story(row, ("requested", of), ("stored", {**of, **STORED})))
    again = row_of(service, document)
    assert (again.state, again.sha256, again.object_version) == ("stored", "0" * 64, "1")
    assert again.locked_until == datetime(2036, 1, 1, tzinfo=UTC)


def test_one_that_was_asked_for_again_meanwhile_stays_as_it_is(service: Service) -> None:
    (document,) = finalized(service)
    row = row_of(service, document)
    of = {"invoice": row.invoice_id, "kind": row.kind, "stripe_object": row.stripe_object}
    other = story(row, ("requested", of))
    for fact in other:
        fact["entity_id"] = "doc_00000000000000000000000000000001"
    assert not told_again(service, None, other)
    assert row_of(service, document).state == "requested"


def test_a_restored_row_moves_forward_and_a_refusal_that_was_taken_back_is_told(service: Service) -> None:
    (document,) = finalized(service)
    row = row_of(service, document)
    of = {"invoice": row.invoice_id, "kind": row.kind}
    back = story(row, ("refused", {**of, "why": "not_a_pdf"}), ("reopened", of), ("stored", {**of, **STORED}))
    assert told_again(service, document, back)
    assert row_of(service, document).state == "stored"
