"""`billing document ...` and the doctor: what a person is told, and given."""

from pathlib import Path

import pytest
import urllib3
from command import Run
from keeping import finalized, keeping, row_of
from service import Service

from archive.documents import links
from archive.s3.store import Store
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import Invoice
from jobs.local.seaweed import SeaweedFS


@pytest.fixture(autouse=True)
def environment(s3: SeaweedFS, archive_bucket: str, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", s3.url)
    monkeypatch.setenv("BILLING_S3_ACCESS_KEY", s3.access_key)
    monkeypatch.setenv("BILLING_S3_SECRET_KEY", s3.secret_key)
    monkeypatch.setenv("BILLING_ARCHIVE_BUCKET", archive_bucket)


@pytest.fixture
def stored(keeps: Service, store: Store) -> str:
    (document,) = finalized(keeps)
    assert keeps.settle(document, gateway=keeping(keeps, store)) == ["stored"]
    return document


def test_a_link_gives_the_document_under_a_safe_name_to_whoever_has_it(
    run: Run, keeps: Service, store: Store, stored: str
) -> None:
    row = row_of(keeps, stored)
    link = run("document", "link", row.invoice_id, "--minutes", "5").out.strip()
    answer = urllib3.PoolManager().request("GET", link)
    assert answer.status == 200
    assert answer.data == store.get(str(row.object_key)).body
    assert answer.headers["Content-Type"] == "application/pdf"
    number = keeps.row(Invoice, row.invoice_id).number
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{number}.pdf"'
    told = run("document", "link", stored, "--json").json
    assert told["document_id"] == stored
    assert "X-Amz-Expires=300" in told["link"]
    for changed in (link.replace(stored, "doc_other"), link.replace("X-Amz-Expires=300", "X-Amz-Expires=3600")):
        assert urllib3.PoolManager().request("GET", changed).status == 403
    assert run("document", "link", stored, "--minutes", "61").status == 2


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("A1B2-0001", "A1B2-0001.pdf"),
        ('../../etc/"passwd"\r\nX: y', "etc-passwd-X-y.pdf"),
        ("Müller & Söhne", "M-ller-S-hne.pdf"),
        ("...", "document.pdf"),
        ("x" * 500, f"{'x' * 80}.pdf"),
    ],
)
def test_the_name_of_a_file_is_letters_and_digits(name: str, safe: str) -> None:
    assert links.safe(name) == safe


def test_a_link_lasts_an_hour_at_most(store: Store) -> None:
    for lasts in (0, -60, 3601):
        with pytest.raises(ValueError, match="an hour"):
            links.link(store, "documents/a", "1", name="a", lasts=links.timedelta(seconds=lasts))


def test_a_document_is_written_into_a_file_once_it_is_known_to_be_the_one(
    run: Run, keeps: Service, store: Store, stored: str, tmp_path: Path
) -> None:
    file = tmp_path / "invoice.pdf"
    assert row_of(keeps, stored).sha256 in run("document", "get", stored, "--to-file", str(file)).out
    assert file.read_bytes() == store.get(str(row_of(keeps, stored).object_key)).body
    again = run("document", "get", stored, "--to-file", str(file))
    assert (again.status, "exists, and stays" in again.err) == (2, True)
    keeps.execute("UPDATE billing.documents SET sha256 = repeat('0', 64)")
    other = tmp_path / "other.pdf"
    differs = run("document", "get", stored, "--to-file", str(other))
    assert (differs.status, other.exists()) == (2, False)
    assert "its bytes have SHA-256" in differs.err


def test_those_that_are_not_kept_are_listed_and_fetched_again(run: Run, keeps: Service, store: Store) -> None:
    assert run("document", "list", "--refused").out == "no document is refused\n"
    (document,) = finalized(keeps)
    assert "kept; 1 wait" in run("doctor").out
    keeps.standin.add_fault("200_html", path="^/files/", times=1)
    keeps.settle(document, gateway=keeping(keeps, store))
    assert f"{document}  invoice_pdf of {row_of(keeps, document).invoice_id}: refused" in run("document", "list").out
    assert "(not_a_pdf)" in run("document", "list", "--refused").out
    assert "1 refused, and so not kept" in run("doctor").out
    explained = run("explain", document).out
    assert f"billing document request {document} --reason" in explained
    assert run("document", "get", document, "--to-file", "x.pdf").status == 2
    assert "it is fetched again" in run("document", "request", document, "--reason", "mended").out
    assert keeps.settle(document, gateway=keeping(keeps, store)) == ["stored"]
    assert "nothing to do: it is stored" in run("document", "request", document, "--reason", "again").out
    assert run("document", "list", "--state", "stored", "--json").json[0]["document_id"] == document
    assert run("document", "list", "--state", "lost").status == 2
    assert "kept; none waits" in run("doctor").out


def test_the_document_of_an_invoice_of_before_is_asked_for(
    run: Run, service: Service, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice, unfinished = service.ask_for_invoice(), service.ask_for_invoice()
    assert service.settle(invoice) == ["sent"]
    told = run("document", "request", invoice, "--reason", "for the auditor", "--json").json
    assert service.settle(told["document_id"], gateway=keeping(service, store)) == ["stored"]
    service.execute("UPDATE billing.invoices SET number = NULL WHERE id = :id", id=unfinished)
    assert run("document", "request", unfinished, "--reason", "too early").status == 2
    assert run("document", "request", "inv_00000000000000000000000000000000", "--reason", "who").status == 2
    assert run("document", "request", "doc_00000000000000000000000000000000", "--reason", "who").status == 2
    monkeypatch.setenv("BILLING_DOCUMENTS", "off")
    off = run("document", "request", invoice, "--reason", "again")
    assert (off.status, "documents are not kept" in off.err) == (2, True)
    assert "not kept: BILLING_DOCUMENTS=off" in run("doctor").out
    monkeypatch.delenv("BILLING_ARCHIVE_BUCKET")
    assert "there is no bucket for them" in run("doctor").out


def test_the_document_of_a_credit_note_is_found_by_the_note_and_named_by_its_number(
    run: Run, keeps: Service, store: Store, stored: str, tmp_path: Path
) -> None:
    note = keeps.credit(row_of(keeps, stored).invoice_id, 500)
    assert run("document", "request", note, "--reason", "too early").status == 2
    assert keeps.settle(note) == ["issued"]
    asked = run("document", "request", note, "--reason", "at once", "--json").json
    assert asked["done"] == "nothing to do: it is requested"
    assert keeps.settle(asked["document_id"], gateway=keeping(keeps, store)) == ["stored"]
    assert "credit_note_pdf of" in run("document", "list", "--state", "stored").out
    file = tmp_path / "note.pdf"
    assert run("document", "get", note, "--to-file", str(file)).status == 0
    number = str(keeps.row(CreditNote, note).number)
    assert number.encode() in file.read_bytes()
    answer = urllib3.PoolManager().request("GET", run("document", "link", note).out.strip())
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{number}.pdf"'
