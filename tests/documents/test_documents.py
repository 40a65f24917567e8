"""The document of a finalized invoice: asked for in the same commit, fetched, stored once under a lock, and known."""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from keeping import document_of, finalized, keeping, objects, row_of
from service import Service
from sqlalchemy import func, select, text

import billing
from archive.documents import stored
from archive.errors import EvidenceDiffers
from archive.policy import retention, retention_file
from archive.s3.store import Store
from billing import database, documents, statements
from billing.document_steps import TRIED_FOR
from billing.tables.credit_notes import CreditNote
from billing.tables.documents import Document
from billing.tables.entities import Invoice
from billing.tables.idempotency_records import Record
from jobs.metrics.instruments import instruments
from jobs.metrics.reading import SQL
from jobs.metrics.sources import FromLog
from jobs.road import quarantine, work_log

POLICY = retention_file.load(retention_file.SHIPPED)


def test_a_finalized_invoice_gets_a_document_in_the_same_commit_and_it_is_stored(keeps: Service, store: Store) -> None:
    (document,) = finalized(keeps)
    assert keeps.topics(document) == ["requested"]
    assert keeps.settle(document, gateway=keeping(keeps, store)) == ["stored"]
    row = row_of(keeps, document)
    there = store.get(str(row.object_key))
    assert there.body.startswith(b"%PDF-")
    assert (there.sha256, len(there.body), there.version) == (row.sha256, row.size_bytes, row.object_version)
    assert there.lock is not None
    assert (there.lock.mode, there.lock.until) == (row.lock_mode, row.locked_until)
    assert there.lock.until >= datetime.now(UTC) + timedelta(days=90)
    assert objects(store) == [f"documents/invoice_pdf/{document}.pdf"]
    told = keeps.facts(document)[-1]
    assert told.topic == "document.stored"
    assert told.payload["sha256"] == row.sha256
    assert told.payload["invoice"] == row.invoice_id


def test_an_installation_without_a_bucket_keeps_none(service: Service) -> None:
    invoice = service.ask_for_invoice()
    assert service.settle(invoice) == ["sent"]
    with database.transaction(service.engine) as session:
        assert session.scalar(select(func.count()).select_from(Document)) == 0


def test_an_invoice_that_is_paid_at_once_has_a_document_and_a_refused_one_has_none(
    keeps: Service, store: Store
) -> None:
    nothing_left = [
        billing.Line("1 seat", billing.Money(100, "EUR")),
        billing.Line("credit", billing.Money(100, "EUR"), credit=True),
    ]
    invoice = keeps.ask_for_invoice(lines=nothing_left)
    assert keeps.settle(invoice) == ["paid"]
    assert keeps.settle(document_of(keeps, invoice), gateway=keeping(keeps, store)) == ["stored"]
    refused = keeps.ask_for_invoice("cus_unknown1")
    assert keeps.settle(refused) == ["refused"]
    with database.transaction(keeps.engine) as session:
        assert session.scalars(select(Document.invoice_id)).all() == [invoice]


def test_what_an_older_worker_finalized_is_found_later_and_asked_for_once(service: Service, store: Store) -> None:
    invoices = [service.ask_for_invoice() for _ in range(3)]
    assert service.settle(*invoices) == ["sent"] * 3
    refused = service.ask_for_invoice("cus_unknown1")
    assert service.settle(refused) == ["refused"]
    with database.transaction(service.engines["worker"]) as session:
        assert documents.request_missing(session, most=2) == (2, sorted(invoices)[1])
    with database.transaction(service.engines["worker"]) as session:
        assert documents.request_missing(session, after=sorted(invoices)[1], most=2) == (1, "")
        assert documents.request_missing(session) == (0, "")
    found = [document_of(service, invoice) for invoice in invoices]
    assert service.settle(*found, gateway=keeping(service, store)) == ["stored"] * 3


def test_two_who_ask_for_the_same_document_at_once_ask_for_one(keeps: Service) -> None:
    (document,) = finalized(keeps)
    row = row_of(keeps, document)
    with database.transaction(keeps.engines["operator"]) as session:
        of = documents._Of(row.invoice_id, row.kind, row.invoice_id, row.stripe_object, None, None)
        again = documents._document(of)
        assert documents.insert(session, [again]) == 0
    assert keeps.topics(again[0].id) == []


def test_what_is_stored_is_found_and_not_stored_again_even_if_stripe_draws_it_anew(
    keeps: Service, store: Store
) -> None:
    """A worker died between the two: the object is there, and Stripe's next download has other bytes."""
    (document,) = finalized(keeps)
    day = datetime.now(UTC).date()
    earlier = b"%PDF-1.4 drawn before\n%%EOF\n"
    first = stored.keep(store, POLICY, "invoice_pdf", document, earlier, day=day, today=day)
    assert keeps.settle(document, gateway=keeping(keeps, store)) == ["stored"]
    assert row_of(keeps, document).sha256 == first.sha256
    assert objects(store) == [first.key]


def test_a_lock_of_before_a_longer_policy_is_made_longer(store: Store) -> None:
    longer = retention.Policy(
        {"invoice": retention.Rule(retention.Mode.GOVERNANCE, retention.Period(10, retention.Unit.YEAR))}
    )
    body, day = b"%PDF-1.4\n%%EOF\n", datetime.now(UTC).date()
    first = stored.keep(store, POLICY, "invoice_pdf", "doc_1", body, day=day, today=day)
    again = stored.keep(store, longer, "invoice_pdf", "doc_1", body, day=day, today=day)
    assert (again.new, again.version) == (False, first.version)
    assert again.lock.until > first.lock.until + timedelta(days=3000)


def test_something_else_at_its_place_is_refused_and_not_taken_for_the_document(keeps: Service, store: Store) -> None:
    (document,) = finalized(keeps)
    lock = retention.Lock("GOVERNANCE", datetime.now(UTC) + timedelta(minutes=5))
    store.put_once(stored.key("invoice_pdf", document), b"not a document", lock)
    assert keeps.settle(document, gateway=keeping(keeps, store)) == ["refused"]
    assert row_of(keeps, document).reason == "stored_differs"
    day = datetime.now(UTC).date()
    with pytest.raises(EvidenceDiffers):
        stored.keep(store, POLICY, "invoice_pdf", document, b"%PDF-1.4\n%%EOF\n", day=day, today=day)


def test_what_may_pass_is_tried_again_with_pauses_and_for_a_day_only(keeps: Service, store: Store) -> None:
    (document,) = finalized(keeps)
    keeps.standin.add_fault("truncate_body", path="^/files/")
    keeps.plan()
    keeps.work_off("documents", keeping(keeps, store))
    work = keeps.work(document)
    assert (work.state, work.reason, work.attempts) == ("waiting", "truncated", 0)
    assert keeps.record(document).unanswered == 0
    keeps.execute("UPDATE billing.idempotency_records SET body = regexp_replace(body, 'until=[0-9]+', 'until=1')")
    assert keeps.settle(document, gateway=keeping(keeps, store)) == ["refused"]
    assert row_of(keeps, document).reason == "not_available_for_a_day: truncated"
    assert objects(store) == []


def test_it_is_tried_for_a_day_from_the_request(keeps: Service) -> None:
    (document,) = finalized(keeps)
    keeps.plan()
    call = keeps.prepared("documents")[document]
    row = row_of(keeps, document)
    until = int((row.state_since + TRIED_FOR).timestamp())
    assert f"until={until}" in call.request.body
    assert f"of={row.stripe_object}" in call.request.body


def test_a_refused_document_is_fetched_again_when_an_operator_says_so(keeps: Service, store: Store) -> None:
    (document,) = finalized(keeps)
    keeps.standin.add_fault("200_html", path="^/files/", times=1)
    assert keeps.settle(document, gateway=keeping(keeps, store)) == ["refused"]
    assert row_of(keeps, document).reason == "not_a_pdf"
    with database.transaction(keeps.engines["operator"]) as session:
        quarantine.reopen(session, document, actor="anna", reason="Stripe is well again")
    assert keeps.settle(document, gateway=keeping(keeps, store)) == ["stored"]
    assert "reopened" in keeps.topics(document)
    assert len({each.key for each in _records(keeps, document)}) == 2


def _records(service: Service, document: str) -> list[Record]:
    return service.records(document)


def test_an_application_is_told_how_its_document_stands(keeps: Service, store: Store) -> None:
    (document,) = finalized(keeps)
    invoice = row_of(keeps, document).invoice_id
    keeps.settle(document, gateway=keeping(keeps, store))
    with database.transaction(keeps.engines["application"]) as session:
        by_invoice, by_id = billing.document(session, invoice), billing.document(session, document)
        assert by_invoice == by_id
        assert (by_id.state, by_id.document_id, by_id.kind) == ("stored", document, "invoice_pdf")
        with pytest.raises(billing.UnknownEntity):
            billing.document(session, "inv_0123456789abcdef0123456789abcdef")


def test_a_key_that_stripe_refuses_stops_the_account_and_refuses_no_document(keeps: Service, store: Store) -> None:
    (document,) = finalized(keeps)
    keeps.standin.add_fault("401", method="GET", path="^/v1/invoices/", times=1)
    keeps.plan()
    keeps.work_off("documents", keeping(keeps, store))
    assert keeps.work(document).state == "held"


def test_a_credit_note_gets_a_document_in_the_same_commit_and_an_application_is_told(
    keeps: Service, store: Store
) -> None:
    (of_the_invoice,) = finalized(keeps)
    invoice = row_of(keeps, of_the_invoice).invoice_id
    note = keeps.credit(invoice, 500)
    assert keeps.settle(note) == ["issued"]
    with database.transaction(keeps.engines["application"]) as session:
        told = billing.document(session, note)
        assert billing.document(session, invoice).document_id == of_the_invoice
    assert (told.kind, told.invoice_id, told.state) == ("credit_note_pdf", invoice, "requested")
    assert keeps.settle(of_the_invoice, told.document_id, gateway=keeping(keeps, store)) == ["stored"] * 2
    row = row_of(keeps, told.document_id)
    assert row.stripe_object == keeps.row(CreditNote, note).stripe_credit_note
    there = store.get(f"documents/credit_note_pdf/{row.id}.pdf")
    assert str(keeps.row(CreditNote, note).number).encode() in there.body
    assert there.lock is not None
    assert (there.sha256, there.lock.until) == (row.sha256, row.locked_until)
    assert there.lock.until == row_of(keeps, of_the_invoice).locked_until
    assert keeps.facts(row.id)[-1].payload["kind"] == "credit_note_pdf"


def test_a_note_that_was_refused_has_no_document_and_one_of_before_is_asked_for_later(
    service: Service, store: Store
) -> None:
    invoice = service.sent_invoice()
    # Any two of ours fit into what somebody has left of it at Stripe.
    service.by_hand("/v1/credit_notes", f"invoice={service.row(Invoice, invoice).stripe_invoice}&amount=3000")
    notes = [service.credit(invoice, amount) for amount in (500, 600, 700)]
    assert sorted(service.settle(*notes)) == ["issued", "issued", "refused"]
    issued = sorted(each for each in notes if service.status(each).state == "issued")
    with database.transaction(service.engines["worker"]) as session:
        # A page may end with a note; the next one has the invoices, too.
        assert documents.request_missing(session, most=2) == (2, issued[1])
        assert documents.request_missing(session, after=issued[1], most=2) == (1, "")
        assert documents.request_missing(session) == (0, "")
        found = [documents.document(session, each).document_id for each in (*issued, invoice)]
    assert service.settle(*found, gateway=keeping(service, store)) == ["stored"] * 3


def path_of(service: Service, document: str) -> str:
    """A pattern of the files behind the link of this document alone."""
    token = urlsafe_b64encode(row_of(service, document).stripe_object.encode()).decode().rstrip("=")
    return f"^/files/test_{token}"


def test_what_is_not_stored_is_counted_by_state_and_what_is_stored_by_its_bytes(
    keeps: Service, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, refused, later = finalized(keeps, 3)
    lines: list[dict[str, Any]] = []

    def record(event: str, **fields: Any) -> None:
        lines.append({"event": event, **fields})

    monkeypatch.setattr(work_log, "log", SimpleNamespace(debug=record, info=record, error=record))
    keeps.standin.add_fault("200_html", path=path_of(keeps, refused))
    assert keeps.settle(stored, refused, gateway=keeping(keeps, store)) == ["stored", "refused"]
    keeps.execute("UPDATE billing.documents SET state = 'requested' WHERE id = :id", id=later)
    added = {each.name: each.source.adds for each in instruments() if isinstance(each.source, FromLog)}
    counted = {
        name: sum(adds(line) or 0 for line in lines if line["event"] == "operation.settled" and adds)
        for name, adds in added.items()
        if "documents" in name
    }
    sizes = [row_of(keeps, each).size_bytes or 0 for each in (stored, later)]
    assert counted == {
        "billing_documents_stored_total": 2,
        "billing_documents_stored_bytes_total": sum(sizes),
        "billing_documents_refused_total": 1,
    }
    with database.transaction(keeps.engine) as session:
        rows = [tuple(row) for row in statements.run(session, SQL["documents"], most=20)]
        session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(session.scalars(text(f"EXPLAIN {SQL['documents'].replace('%(most)s', '20')}")))
    assert rows == [("requested", 1), ("refused", 1)]
    assert plan.count("documents_not_stored") == 2
