"""Each document is fetched in a process of its own: whatever one of them does, the others are stored."""

import sys
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from keeping import finalized, objects, row_of
from service import Service, eventually

from archive.s3 import connection
from archive.s3.store import Store
from billing import database
from billing.gateway import KEEP
from billing.tables.work_failures import WorkFailure
from jobs.local.seaweed import SeaweedFS
from jobs.process.apart import DOCUMENT, Apart

HEAVY = Path(__file__).with_name("heavy_document.py")
GOOD = 10


@pytest.fixture(autouse=True)
def environment(keeps: Service, s3: SeaweedFS, archive_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a worker of the queue: the process of a document reads its settings from there."""
    for name, value in {
        "DATABASE_URL": "postgresql://nobody:nothing@127.0.0.1:1/nowhere",  # it asks the database nothing
        "BILLING_ENVIRONMENT": "test",
        "BILLING_TIMING": "short",
        "BILLING_STRIPE_KEY": keeps.stripe_key,
        "STRIPE_API_BASE": keeps.stripe_api_base,
        "S3_ENDPOINT_URL": s3.url,
        "BILLING_S3_ACCESS_KEY": s3.access_key,
        "BILLING_S3_SECRET_KEY": s3.secret_key,
        "BILLING_ARCHIVE_BUCKET": archive_bucket,
        "BILLING_DOCUMENT_MOST_MB": "1",
    }.items():
        monkeypatch.setenv(name, value)


def apart(program: tuple[str, ...] = DOCUMENT) -> Apart:
    """One that does not give way, because a busy machine would let it wait."""
    return Apart(400, livemode=False, niceness=0, program=program, method=KEEP)


def path_of(service: Service, document: str) -> str:
    """A pattern of the files behind the link of this document alone."""
    token = urlsafe_b64encode(row_of(service, document).stripe_object.encode()).decode().rstrip("=")
    return f"^/files/test_{token}"


def test_a_document_is_stored_by_a_process_of_its_own(keeps: Service, store: Store) -> None:
    (document,) = finalized(keeps)
    assert keeps.settle(document, gateway=apart()) == ["stored"]
    assert objects(store) == [str(row_of(keeps, document).object_key)]


def test_each_bad_document_fails_alone_while_ten_good_ones_beside_it_are_stored(
    keeps: Service, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("huge", "html", "truncated", "elsewhere", "drips", "eats")
    every = finalized(keeps, GOOD + len(names))
    bad = dict(zip(names, every[:: (GOOD + len(names)) // len(names)], strict=False))
    good = [each for each in every if each not in bad.values()]
    for fault, name, more in (
        ("huge_body", "huge", {"megabytes": 200}),
        ("200_html", "html", {}),
        ("truncate_body", "truncated", {"times": 1}),
        ("redirect_307", "elsewhere", {"location": "http://127.0.0.1:9/elsewhere"}),
        ("drip_body", "drips", {"seconds": 3600, "times": 1}),
    ):
        keeps.standin.add_fault(fault, path=path_of(keeps, bad[name]), **more)
    monkeypatch.setenv("EATS", bad["eats"])
    gateway = apart((sys.executable, str(HEAVY)))

    def turn() -> bool:
        keeps.relay.round()
        keeps.work_off("documents", gateway, crew=3)
        others = [each for each in every if each != bad["eats"]]
        return all(keeps.status(each).final for each in others) and keeps.work(bad["eats"]).attempts > 0

    eventually(turn, "each has ended", 240)
    assert {keeps.status(each).state for each in good} == {"stored"}
    assert {name: keeps.status(bad[name]).reason for name in ("huge", "html", "elsewhere")} == {
        "huge": "too_large",
        "html": "not_a_pdf",
        "elsewhere": "redirected_elsewhere",
    }
    with database.transaction(keeps.engine) as session:
        failed = session.query(WorkFailure).all()
        assert {each.work_id for each in failed} == {keeps.work(bad["eats"]).id}
        assert {each["kind"] for each in failed[0].errors} == {"MemoryError"}
    assert "truncated" in whys(keeps, bad["truncated"])
    assert "too_slow" in whys(keeps, bad["drips"])
    assert len(objects(store)) == GOOD + 2


def whys(service: Service, document: str) -> set[str]:
    return {fact.payload.get("why") for fact in service.facts(document)}


def test_what_the_sdk_reads_about_s3_is_read_once_for_all_clients_of_a_process(s3: SeaweedFS) -> None:
    """Most of what a document would cost its process, which is forked after the first client was made."""
    s3.store("evidence-1").close()
    models = connection._models()
    before = dict(models._cache)
    s3.store("evidence-2").close()
    assert before
    assert models._cache == before
    assert len(models.search_paths) == len(set(models.search_paths))
