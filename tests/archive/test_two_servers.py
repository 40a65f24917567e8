"""The archive on two S3 servers that have no code in common: SeaweedFS, which holds evidence, and moto."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dying import Died
from evidence import Archive
from service import Service
from test_bucket_rules import MOVING, YEARS, applied
from test_verification import verify, verify_copies
from test_writer import die_at

from archive import queries
from archive.errors import EvidenceDiffers
from archive.format import manifests
from archive.keeping import bucket_changes
from archive.policy.retention import Policy
from archive.s3 import configuration

BOTH = ("s3", "moto")
USD = {"minor": 1999, "currency": "USD", "payment_intent": "pi_1"}
AT = "'2026-11-02 10:00+00'"


@pytest.fixture(params=BOTH)
def archive(request: pytest.FixtureRequest, service: Service, tmp_path: Path) -> Iterator[Archive]:
    server = request.getfixturevalue(request.param)
    store = server.store("ready")
    archive = Archive(service, server, store, tmp_path / "caches")
    yield archive
    archive.close()
    store.close()


def on(archive: Archive) -> str:
    return str(archive.s3.name)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_changes, "PAUSES_S", ())


def test_facts_are_written_read_back_verified_and_asked_for(archive: Archive) -> None:
    archive.tell("capture.requested", "capture.captured", at=AT, **USD)
    archive.tell("invoice.requested", of="inv_1", at=AT)
    assert archive.archive_all() == 3
    assert {name: len(rows) for name, rows in archive.outside.facts().items() if rows} == {"capture": 2, "invoice": 1}
    for form in (verify, verify_copies):
        assert (form(archive).told, form(archive).counts.facts) == ([], 3)
    assert queries.ask(archive.cache(), "captures_by_day", {}).rows == [("2026-11-02", "unknown", "USD", 1, 1999)]


def test_a_batch_of_an_archiver_that_died_is_finished_once(archive: Archive) -> None:
    archive.tell("capture.requested", at=AT, **USD)
    with pytest.raises(Died):
        die_at(archive, "put.after:1")
    assert archive.archive_all() == 1
    assert len(archive.outside.versions()) == 2
    assert verify(archive).told == []


def test_what_lies_under_a_key_is_never_overwritten(archive: Archive) -> None:
    archive.tell("capture.requested", at=AT, **USD)
    batch = archive.claim()
    assert batch is not None
    archive.outside.s3.put_object(Bucket=archive.bucket, Key=manifests.object_key(batch), Body=b"another")
    with pytest.raises(EvidenceDiffers):
        archive.round()
    assert archive.outside.body(manifests.object_key(batch)) == b"another"


def test_objects_get_the_storage_class_of_their_policy_and_manifests_stay_in_standard(archive: Archive) -> None:
    cold = replace(YEARS.rules["capture"], storage="STANDARD_IA")
    archive.policy = Policy({**YEARS.rules, "capture": cold})
    archive.tell("capture.requested", at=AT, **USD)
    archive.tell("invoice.requested", of="inv_1", at=AT)
    assert archive.archive_all() == 2
    stored: dict[str, Any] = {}
    for version in archive.outside.versions():
        found = archive.outside.s3.head_object(Bucket=archive.bucket, Key=version["Key"])
        stored[version["Key"]] = found.get("StorageClass", "STANDARD")
    cold_ones = [key for key, storage in stored.items() if storage == "STANDARD_IA"]
    assert cold_ones == [key for key in stored if key.startswith("v1/class=capture/")]
    assert verify(archive).told == []


def test_a_policy_is_applied_and_what_the_server_does_not_do_is_said_by_the_comparison(archive: Archive) -> None:
    done = applied(archive, MOVING)
    rules = [each for each in bucket_changes.differences(archive.store, MOVING) if each.part.startswith("lifecycle")]
    if on(archive) == "moto":
        # It stores transitions, and moves nothing. It takes each condition of a statement for fulfilled.
        assert rules == []
        assert any("BillingOnlyNewKeys" in line and "it refuses every object then" in line for line in done.not_done)
    else:
        (refused,) = rules
        assert refused.refused == "move objects to GLACIER_IR after 90 days"
        assert any("BillingOnlyNewKeys is stored and not obeyed" in line for line in done.not_done)
    has = configuration.read(archive.store)
    assert (has.versioned, str(has.default_lock)) == (True, "GOVERNANCE for 3652 days")
    archive.policy = MOVING
    archive.tell("capture.requested", at=AT, **USD)
    assert archive.archive_all() == 1
