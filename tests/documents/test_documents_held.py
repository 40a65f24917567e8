"""A legal hold and a raised lock cover the documents of the invoices that they cover."""

from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from command import Run
from keeping import finalized, keeping, row_of
from service import Service
from sqlalchemy import text
from test_documents_verified import archived, remove, where

from archive.keeping import holds
from archive.s3 import configuration
from archive.s3.store import Store
from billing.tables.entities import Invoice

__all__ = ["archived"]

REASON = ("--reason", "LEGAL-7")


def customer_of(service: Service, document: str) -> str:
    return str(service.row(Invoice, row_of(service, document).invoice_id).customer)


def place(run: Run, name: str, *more: str) -> dict[str, int]:
    told: dict[str, int] = run("archive", "hold", "place", "--name", name, *REASON, *more, "--json").json
    return told


def release(run: Run, name: str) -> str:
    return run("archive", "hold", "release", "--name", name, *REASON).out


def held(service: Service, store: Store, document: str) -> bool:
    there = where(service, document)
    return store.get(there["key"], there["version"]).held


@pytest.fixture
def other(archived: str, keeps: Service, store: Store, run: Run) -> str:
    """A second document, of another customer, whose facts are archived in other objects."""
    (document,) = finalized(keeps)
    assert keeps.settle(document, gateway=keeping(keeps, store)) == ["stored"]
    keeps.plan()
    run("archive", "run", "--once")
    return document


def test_a_hold_for_a_customer_holds_the_documents_of_this_customer_and_no_others(
    archived: str, other: str, keeps: Service, store: Store, run: Run
) -> None:
    told = place(run, "CASE-7", "--where", f"customer={customer_of(keeps, archived)}")
    assert told["documents"] == 1
    assert (held(keeps, store, archived), held(keeps, store, other)) == (True, False)
    (hold,) = run("archive", "hold", "list", "--json").json
    assert (hold["documents"], hold["objects"]) == (1, told["objects"])
    # Not even who may go around a lock removes it.
    with pytest.raises(ClientError, match="AccessDenied"):
        remove(store, **where(keeps, archived))
    remove(store, **where(keeps, other))
    assert run("archive", "verify").status == 1


def test_a_hold_for_a_class_holds_every_document_that_it_tells_of(
    archived: str, other: str, keeps: Service, store: Store, run: Run
) -> None:
    assert place(run, "TAX-26", "--class", "invoice")["documents"] == 2
    assert held(keeps, store, archived)
    assert held(keeps, store, other)
    assert place(run, "CASE-8", "--class", "attempt")["documents"] == 0


def test_a_hold_that_somebody_lifted_from_a_document_is_named(
    archived: str, keeps: Service, store: Store, run: Run
) -> None:
    place(run, "CASE-7", "--class", "invoice")
    assert run("archive", "verify").status == 0
    there = where(keeps, archived)
    configuration.set_hold(store, there["key"], there["version"], on=False)
    ran = run("archive", "verify")
    assert ran.status == 1
    assert f"DIFFERS {there['key']} (version {there['version']}): expected a legal hold; found none" in ran.out


def test_a_release_frees_the_documents_that_no_other_hold_needs(
    archived: str, other: str, keeps: Service, store: Store, run: Run
) -> None:
    place(run, "TAX-26", "--class", "invoice")
    place(run, "CASE-7", "--where", f"customer={customer_of(keeps, archived)}")
    release(run, "TAX-26")
    assert (held(keeps, store, archived), held(keeps, store, other)) == (True, False)
    release(run, "CASE-7")
    assert not held(keeps, store, archived)
    assert run("archive", "verify").status == 0


def test_a_hold_that_died_before_its_documents_is_placed_again(
    archived: str, keeps: Service, store: Store, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = configuration.set_hold

    def dying(store: Store, key: str, version: str, *, on: bool) -> None:
        if key.startswith("documents/"):
            raise RuntimeError("it died")
        real(store, key, version, on=on)

    with monkeypatch.context() as here:
        here.setattr(holds, "set_hold", dying)
        assert run("archive", "hold", "place", "--name", "CASE-7", *REASON, "--class", "invoice").status != 0
    assert run("archive", "verify").status == 1
    place(run, "CASE-7", "--class", "invoice")
    assert held(keeps, store, archived)
    assert run("archive", "verify").status == 0


def test_a_document_that_postgres_does_not_know_as_stored_is_not_held_in_silence(
    archived: str, keeps: Service, run: Run
) -> None:
    keeps.execute("UPDATE billing.documents SET state = 'refused'")
    ran = run("archive", "hold", "place", "--name", "CASE-7", *REASON, "--class", "invoice")
    assert ran.status == 2
    assert f"{archived} is archived as stored, and is not so in Postgres" in ran.err
    assert run("archive", "hold", "list", "--json").json == []


def test_a_raise_of_the_class_of_invoices_raises_their_documents(
    archived: str, keeps: Service, store: Store, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy = (
        'compliance_cannot_be_undone = true\nmode = "GOVERNANCE"\nkeep = "10 years"\n'
        '[class.capture]\nmode = "COMPLIANCE"\n[class.invoice]\nmode = "COMPLIANCE"\n'
    )
    (tmp_path / "retention.toml").write_text(policy)
    monkeypatch.setenv("BILLING_ARCHIVE_RETENTION", str(tmp_path / "retention.toml"))
    there = where(keeps, archived)
    before = store.lock(**there)
    assert before is not None
    assert before.mode == "GOVERNANCE"
    with keeps.engine.connect() as connection:
        facts = connection.scalar(text("SELECT count(*) FROM billing.archive_batches WHERE class = 'invoice'"))
    assert facts
    asked = ("archive", "policy", "raise", *REASON, "--class", "invoice")
    assert " and 1 document in " in run(*asked, "--dry-run").out
    told = run(*asked, "--confirm", store.bucket, "--json").json
    assert told["extent"]["documents"] == 1
    after = store.lock(**there)
    assert after is not None
    assert (after.mode, after.until) == ("COMPLIANCE", before.until)
    with pytest.raises(ClientError, match="AccessDenied"):
        remove(store, **there)
    again = run(*asked, "--confirm", store.bucket, "--json").json
    assert again["locks"] == {"raised": 0, "was_compliance": told["locks"]["raised"], "ended": 0}
    assert run("archive", "verify").status == 0
