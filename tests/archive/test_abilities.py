"""Before a fact is written it is tried what a bucket does, and what it does not do is named.

A server that leaves something out is a real one whose client leaves that header out, before it signs the request.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from evidence import Archive

from archive.errors import StoreRefused
from archive.s3 import abilities
from archive.s3.store import PROBES, Encryption, Store

CONDITION, DIGEST = "If-None-Match", "x-amz-checksum-sha256"
LOCK = ("x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date")
BYPASS = {"x-amz-bypass-governance-retention": "true"}
SSE = "x-amz-server-side-encryption"


@contextmanager
def a_server(
    store: Store, operation: str, without: tuple[str, ...] = (), more: Mapping[str, str] = {}
) -> Iterator[None]:
    """It ignores these headers of this operation, or behaves as if it had got others, too."""

    def change(params: dict[str, Any], **_: Any) -> None:
        for name in without:
            params["headers"].pop(name, None)
        params["headers"].update(more or {})

    events, event = store.client.meta.events, f"before-call.s3.{operation}"
    events.register(event, change)
    try:
        yield
    finally:
        events.unregister(event, change)


def lacking(store: Store, tried: Callable[[Store], list[abilities.Lack]] = abilities.all_of_them) -> dict[str, str]:
    return {lack.ability.name: lack.found for lack in tried(store)}


def test_a_server_that_holds_evidence_lacks_nothing_however_often_it_is_tried(archive: Archive) -> None:
    for tried in (abilities.when_writing, abilities.all_of_them) * 2:
        assert lacking(archive.store, tried) == {}


def test_an_archiver_leaves_one_object_however_often_it_starts(archive: Archive) -> None:
    for _ in range(3):
        assert abilities.when_writing(archive.store) == []
    assert [version["Key"] for version in archive.outside.versions()] == [abilities.TAKEN]


def test_what_moto_leaves_out_is_found(moto) -> None:
    """It is for tests: anybody may shorten its locks, and it compares no digest."""
    store = moto.store(f"test-{uuid4().hex}")
    store.set_up("test")
    found = lacking(store)
    assert found.keys() == {"lasting lock", "checksum"}
    assert found["lasting lock"] == "a COMPLIANCE lock was shortened"
    assert lacking(store, abilities.when_writing).keys() == {"checksum"}
    store.close()


@pytest.mark.parametrize(
    ("operation", "without", "more", "lacks"),
    [
        ("PutObject", (CONDITION,), {}, {"conditional put": "an object was put twice under one key"}),
        ("PutObject", LOCK, {}, {"lock": "an object that was put with a lock has none"}),
        (
            "PutObject",
            (DIGEST,),
            {},
            {"checksum": "an object was taken whose SHA-256 is not the one that it came with"},
        ),
        ("PutObjectRetention", (), BYPASS, {"lasting lock": "a GOVERNANCE lock was shortened"}),
        ("DeleteObject", (), BYPASS, {"locked versions": "a version with a GOVERNANCE lock was deleted"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_server_that_leaves_one_thing_out_lacks_that_ability(archive, operation, without, more, lacks) -> None:
    with a_server(archive.store, operation, without, more):
        assert lacking(archive.store) == lacks


def test_a_server_that_was_mended_lacks_nothing_any_more(archive: Archive) -> None:
    with a_server(archive.store, "PutObject", LOCK):
        assert lacking(archive.store, abilities.when_writing).keys() == {"lock"}
    for tried in (abilities.when_writing, abilities.all_of_them):
        assert lacking(archive.store, tried) == {}


def test_a_bucket_without_versions_and_locks_is_found(archive: Archive) -> None:
    archive.store.bucket = f"plain-{uuid4().hex}"
    archive.outside.s3.create_bucket(Bucket=archive.store.bucket)
    with a_server(archive.store, "PutObject", LOCK):
        assert lacking(archive.store).keys() == {"versions", "lock"}


def test_a_version_that_is_not_listed_is_found(archive: Archive) -> None:
    def hide(parsed: dict[str, Any], **_: Any) -> None:
        parsed.pop("Versions", None)

    events = archive.store.client.meta.events
    events.register("after-call.s3.ListObjectVersions", hide)
    assert lacking(archive.store).keys() == {"list of versions"}
    events.unregister("after-call.s3.ListObjectVersions", hide)


def test_encryption_that_was_asked_for_and_not_done_is_found(archive: Archive) -> None:
    abilities.when_writing(archive.store)  # an object without it is there
    archive.store.encryption = Encryption()
    with a_server(archive.store, "PutObject", (SSE,)):
        assert lacking(archive.store, abilities.when_writing) == {
            "encryption": "AES256 was asked for, and an object has none"
        }


def test_encryption_that_this_server_cannot_do_is_not_taken_for_an_outage(archive: Archive) -> None:
    archive.store.encryption = Encryption("a-key")
    told = lacking(archive.store)["encryption"]
    assert told.startswith(f"no object is taken with it (S3_ENDPOINT_URL: {abilities.TAKEN}: S3 answers ")


def test_objects_are_encrypted_with_the_key_that_the_setting_names(moto) -> None:
    """SeaweedFS has no KMS; moto says back what was asked for."""
    store = moto.store(f"test-{uuid4().hex}")
    store.set_up("test")
    for encryption, shown in (
        (Encryption(), {"ServerSideEncryption": "AES256"}),
        (
            Encryption("1234abcd"),
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "1234abcd", "BucketKeyEnabled": True},
        ),
    ):
        store.encryption = encryption
        key = abilities.fresh_key()
        store.put_once(key, b"evidence", abilities.soon())
        found = store.client.get_object(Bucket=store.bucket, Key=key)
        assert {name: found.get(name) for name in shown} == shown
        assert found["Body"].read() == b"evidence"
        assert lacking(store, abilities.when_writing).keys() == {"checksum"}
    store.close()


def test_a_login_that_may_not_write_is_no_lack_of_the_bucket(archive: Archive) -> None:
    stranger = Store(archive.bucket, endpoint=archive.s3.url, region="us-east-1", access_key="AKNO", secret_key="x")
    for tried in (abilities.when_writing, abilities.all_of_them):
        with pytest.raises(StoreRefused, match="BILLING_S3_ACCESS_KEY and BILLING_S3_SECRET_KEY"):
            tried(stranger)
    stranger.close()


def test_what_was_tried_is_never_taken_for_evidence() -> None:
    assert all(key.startswith(PROBES) for key in (abilities.TAKEN, abilities.MISFIT, abilities.fresh_key()))
