"""A stored document that was changed, removed, hidden, unlocked or forged is found, by us and by an auditor."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from command import Run
from keeping import finalized, keeping, row_of
from service import Service, patient_engine
from sqlalchemy import text

import billing
from archive.policy.retention import Lock
from archive.s3.store import Store
from archive.verifying import verify
from billing import database
from jobs.local.seaweed import SeaweedFS


@pytest.fixture
def archived(
    keeps: Service, store: Store, s3: SeaweedFS, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> str:
    """A stored document whose facts are archived; the command's settings lead to its bucket."""
    for name, value in {
        "S3_ENDPOINT_URL": s3.url,
        "BILLING_S3_ACCESS_KEY": s3.access_key,
        "BILLING_S3_SECRET_KEY": s3.secret_key,
        "BILLING_ARCHIVE_BUCKET": store.bucket,
        "BILLING_ARCHIVE_WAIT_S": "0",
        "BILLING_CACHE_DIRECTORY": str(tmp_path / "cache"),
        # What an auditor's program reads.
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    (document,) = finalized(keeps)
    assert keeps.settle(document, gateway=keeping(keeps, store)) == ["stored"]
    keeps.plan()
    run("archive", "run", "--once")
    return document


def ours(run: Run, code: int = 0) -> str:
    ran = run("archive", "verify")
    assert ran.status == code, ran.out + ran.err
    return ran.out


def auditors(store: Store, s3: SeaweedFS, code: int = 0) -> str:
    ran = subprocess.run(
        [sys.executable, verify.__file__, store.bucket, "--endpoint-url", s3.url],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran.stdout


def remove(store: Store, key: str, version: str) -> None:
    store.client.delete_object(Bucket=store.bucket, Key=key, VersionId=version, BypassGovernanceRetention=True)


def where(service: Service, document: str) -> dict[str, str]:
    row = row_of(service, document)
    return {"key": str(row.object_key), "version": str(row.object_version)}


def test_a_document_that_is_as_its_fact_says_is_verified(archived: str, run: Run, store: Store, s3: SeaweedFS) -> None:
    assert "1 document of invoices, as their facts say" in ours(run)
    assert run("archive", "verify", "--json").json["documents"] == 1
    assert '"documents": 1' in auditors(store, s3)


def test_the_document_of_a_credit_note_is_verified_as_an_invoices_is(
    archived: str, keeps: Service, run: Run, store: Store, s3: SeaweedFS
) -> None:
    note = keeps.credit(row_of(keeps, archived).invoice_id, 500)
    assert keeps.settle(note) == ["issued"]
    with database.transaction(keeps.engines["application"]) as session:
        document = billing.document(session, note).document_id
    assert keeps.settle(document, gateway=keeping(keeps, store)) == ["stored"]
    keeps.plan()
    run("archive", "run", "--once")
    assert "2 documents of invoices, as their facts say" in ours(run)
    assert '"documents": 2' in auditors(store, s3)
    remove(store, **where(keeps, document))
    assert f"documents/credit_note_pdf/{document}.pdf" in ours(run, 1)
    assert f"documents/credit_note_pdf/{document}.pdf" in auditors(store, s3, 1)


def test_one_that_was_removed_is_missed(archived: str, keeps: Service, run: Run, store: Store, s3: SeaweedFS) -> None:
    remove(store, **where(keeps, archived))
    assert "no such version" in ours(run, 1)
    assert "gone" in auditors(store, s3, 1)


def test_one_that_was_exchanged_is_found(archived: str, keeps: Service, run: Run, store: Store, s3: SeaweedFS) -> None:
    there = where(keeps, archived)
    remove(store, **there)
    store.put_once(
        there["key"], b"%PDF-1.4 forged\n%%EOF\n", Lock("GOVERNANCE", datetime.now(UTC) + timedelta(days=99))
    )
    assert "no such version" in ours(run, 1)
    assert "DIFFERS documents/" in auditors(store, s3, 1)


def test_one_that_is_hidden_or_overlaid_is_found(
    archived: str, keeps: Service, run: Run, store: Store, s3: SeaweedFS
) -> None:
    key = where(keeps, archived)["key"]
    store.client.delete_object(Bucket=store.bucket, Key=key)
    assert "no delete marker" in ours(run, 1)
    assert "delete marker" in auditors(store, s3, 1)


def test_an_object_that_nobody_asked_for_is_found_and_one_that_is_not_told_yet_is_not(
    archived: str, keeps: Service, run: Run, store: Store
) -> None:
    lock = Lock("GOVERNANCE", datetime.now(UTC) + timedelta(days=99))
    (waiting,) = finalized(keeps)
    store.put_once(f"documents/invoice_pdf/{waiting}.pdf", b"%PDF-1.4\n%%EOF\n", lock)
    ours(run)
    store.put_once("documents/invoice_pdf/doc_00000000000000000000000000000001.pdf", b"%PDF-1.4\n%%EOF\n", lock)
    assert "that no batch, no manifest and no document names" in ours(run, 1)


def test_a_row_that_says_something_else_than_its_fact_is_found(archived: str, keeps: Service, run: Run) -> None:
    engine: Any = patient_engine(keeps.url, keeps.timing, name="attacker")
    with engine.begin() as connection:
        connection.execute(text("UPDATE billing.documents SET sha256 = repeat('0', 64)"))
    engine.dispose()
    told = ours(run, 1)
    assert "as its fact says sha256" in told
    assert f"SHA-256 {'0' * 64}" in told
