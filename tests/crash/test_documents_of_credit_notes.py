"""A process killed at any boundary around the issuing of a credit note: one note, and one document that is stored."""

from dataclasses import replace

from deaths import Move, every_death
from keeping import archive_bucket, keeping, keeps, objects, store
from service import Service
from sqlalchemy import select

from archive.s3.store import Store
from billing import database
from billing.tables.credit_notes import CreditNote
from billing.tables.documents import Document

__all__ = ["archive_bucket", "keeps", "store"]


def test_a_process_killed_at_any_boundary_of_a_note_leaves_one_note_with_one_stored_document(
    service: Service, store: Store
) -> None:
    without = service.call_settings
    kept = 0

    def ask(service: Service) -> str:
        # Of the note alone: the invoice was sent before documents were kept.
        service.call_settings = without
        note = service.credit(service.sent_invoice(), 500)
        service.call_settings = replace(without, keeps_documents=True)
        return note

    def holds(service: Service, note: str) -> None:
        nonlocal kept
        assert service.credited(note) == [500]
        of = service.row(CreditNote, note).stripe_credit_note
        with database.transaction(service.engine) as session:
            (document,) = session.scalars(select(Document.id).where(Document.stripe_object == of))
        assert service.settle(document, gateway=keeping(service, store)) == ["stored"]
        kept += 1
        assert len(objects(store)) == kept

    move = Move("credit note with its document", "invoices", ask, "issued", holds, ("/v1/credit_notes",))
    died = list(every_death(service, move))
    print(f"{move.name}: {len(died)} deaths")
    assert len(died) >= 10
