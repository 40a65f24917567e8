"""Heads leave the archive every day: to another bucket and a directory, and verification expects them in the chain."""

import resource
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import botocore.exceptions
import pytest
from evidence import Archive, Lines
from test_signing import a_signer
from test_verification import Attacker, ask_of, m, verify

from archive.errors import BadHeads, EvidenceDiffers, StoreAway
from archive.format import heads
from archive.format.manifests import Source
from archive.s3.store import Store
from archive.signing import keyring
from archive.verifying import published, verification
from archive.verifying.agreement import Counts
from archive.verifying.findings import Heads
from archive.writing import publishing
from archive.writing.publishing import Directory, OtherBucket, Publisher
from billing import database

US = Source("test", "ins_test")
USD = {"minor": 1999, "currency": "USD"}


class Outside:
    """The two places of a test, and a publisher that brings heads there."""

    def __init__(self, archive: Archive, directory: Path, lines: list[dict[str, Any]]) -> None:
        self.archive, self.directory, self.lines = archive, directory, lines
        directory.mkdir()
        self.second = copy(archive.store)
        self.second.bucket = f"second-{uuid4().hex}"
        self.second.set_up("test")

    def publish(self, *places: Any) -> None:
        both = (OtherBucket(self.second, self.archive.policy), Directory(self.directory))
        Publisher(self.archive.engine, US, self.archive.signer, places or both).publish()

    def lacks(self, place: str, date: str) -> None:
        """A place that could not be reached on an earlier day, either."""
        (newest,) = self.documents()
        assert self.archive.signer is not None
        earlier = replace(newest, date=date).signed(self.archive.signer)
        self.archive.service.execute(
            "INSERT INTO billing.archive_heads (date, document) VALUES (CAST(:date AS date), :document)",
            date=date,
            document=earlier.body().decode(),
        )
        self.archive.service.execute(
            "INSERT INTO billing.archive_head_copies (date, place) VALUES (CAST(:date AS date), :place)",
            date=date,
            place=place,
        )

    def standing(self) -> dict[str, tuple[bool, int, str | None]]:
        """By place: whether it has any, how many days it lacks, and why."""
        with database.transaction(self.archive.engine) as session:
            found = publishing.standing(session)
        return {each.place: (each.newest is not None, each.behind, each.problem) for each in found}

    def documents(self) -> list[heads.HeadsOfDay]:
        with database.transaction(self.archive.engine) as session:
            return [heads.read(where, body) for where, body in publishing.documents(session)]


@pytest.fixture
def outside(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outside:
    lines = Lines()
    monkeypatch.setattr(publishing, "log", lines)
    archive.signer = a_signer()
    archive.writer().publish_key()
    return Outside(archive, tmp_path / "heads", lines)


def batch(archive: Archive, entity: str = "cap_1") -> None:
    archive.tell("capture.requested", of=entity, at="'2026-11-02 10:00+00'", **USD)
    assert archive.archive_all() == 1


def test_heads_are_published_once_a_day_with_the_same_bytes_everywhere(outside: Outside) -> None:
    outside.publish()
    assert (outside.documents(), outside.standing()) == ([], {})  # nothing is archived yet
    batch(outside.archive)
    outside.publish()
    batch(outside.archive, "cap_2")
    outside.publish()
    (document,) = outside.documents()
    (known, _) = outside.archive.known()
    assert document.heads == {"capture": [1, known.manifest_sha256]}
    assert (document.environment, document.installation) == ("test", "ins_test")
    assert outside.archive.signer is not None
    keys = keyring.Keyring(keyring.read(outside.archive.store))
    assert keys.trouble(outside.archive.signer.key_id, document.signature, document.line()) is None
    (file,) = outside.directory.iterdir()
    assert file.name == f"billing-heads-test-ins_test-{document.date}.json"
    stored = outside.second.get(f"heads/test/ins_test/{document.date}.json")
    assert file.read_bytes() == stored.body == document.body()
    assert stored.lock is not None
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        outside.archive.outside.s3.delete_object(
            Bucket=outside.second.bucket, Key=heads.key(document), VersionId=stored.version
        )
    assert outside.standing() == dict.fromkeys(("postgres", "bucket", "directory"), (True, 0, None))
    assert len([line for line in outside.lines if line["event"] == "heads.published"]) == 2


def test_a_place_that_fails_is_tried_again_for_every_day_and_holds_up_nothing_else(outside: Outside) -> None:
    batch(outside.archive)
    away = Store("x", endpoint="http://127.0.0.1:1", region="us-east-1", access_key="AK1", secret_key="x")
    places = (OtherBucket(away, outside.archive.policy), Directory(outside.directory))
    outside.publish(*places)
    outside.publish(*places)
    has, behind, problem = outside.standing()["bucket"]
    assert (has, behind) == (False, 1)
    assert "S3 cannot be reached" in (problem or "")
    assert outside.standing()["directory"] == (True, 0, None)
    # The same problem is said once.
    assert [line["event"] for line in outside.lines].count("heads.not_published") == 1
    outside.lacks("bucket", "2026-11-20")
    outside.publish(*places)
    assert outside.standing()["bucket"][1] == 2
    outside.publish()
    assert outside.standing()["bucket"] == (True, 0, None)
    documents = outside.documents()
    assert outside.second.keys("heads/") == [heads.key(document) for document in documents]
    assert documents[0].date == "2026-11-20"
    away.close()


def test_an_archiver_that_dies_between_two_places_is_followed_by_one_that_brings_the_rest(outside: Outside) -> None:
    batch(outside.archive)

    class Dies:
        name = "directory"

        def put(self, _: heads.HeadsOfDay) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outside.publish(OtherBucket(outside.second, outside.archive.policy), Dies())
    assert outside.standing()["directory"] == (False, 1, None)
    outside.publish()
    assert outside.standing()["directory"] == (True, 0, None)


def test_another_document_in_its_place_is_never_overwritten(outside: Outside) -> None:
    batch(outside.archive)
    outside.publish()
    (document,) = outside.documents()
    other = replace(document, heads={"capture": [1, "0" * 64]})
    for place in (OtherBucket(outside.second, outside.archive.policy), Directory(outside.directory)):
        with pytest.raises(EvidenceDiffers, match="another document is there"):
            place.put(other)


def findings(
    archive: Archive, documents: published.Documents, *expected_keys: str, elsewhere: bool = True
) -> list[str]:
    kept, keys = Heads(), keyring.Keyring(keyring.read(archive.store), expected_keys)
    found = list(published.expect(kept, documents, US, keys, elsewhere=elsewhere))
    return [
        *map(str, found),
        *map(str, verification.from_bucket(archive.store, ask_of(archive), Counts(), kept, pauses_s=(0.0,))),
    ]


def test_where_the_disk_is_full_no_part_of_a_document_is_left(tmp_path: Path) -> None:
    document = heads.HeadsOfDay("2026-10-01", US.environment, US.installation, {"capture": [1, "0" * 64]})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # as a full disk: a part is written
    try:
        with pytest.raises(OSError, match="File too large"):
            Directory(tmp_path).put(document)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    Directory(tmp_path).put(document)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [document.body()]


def test_a_chain_written_anew_with_our_own_key_is_found_by_heads_that_were_published(outside: Outside) -> None:
    """In the bucket and in Postgres, with the stolen key: nothing else can show it."""
    archive = outside.archive
    for n in range(3):
        batch(archive, f"cap_{n}")
    outside.publish()
    attacker = Attacker(archive)
    old = attacker.manifest(3)
    assert archive.signer is not None
    forged = replace(old, captured={"USD": 1}, signature=None).signed(archive.signer)
    attacker.replace(m(3), forged.body())
    attacker.sql(f"manifest_sha256 = '{publishing.heads.sealed.digest(forged.body())}'", 3)
    assert verify(archive).told == []
    from_files = published.from_files([outside.directory], US)
    from_second = publishing.in_bucket(outside.second, US)
    with database.transaction(archive.engine) as session:
        from_table = publishing.documents(session)
    for documents in (from_files, from_second, from_table):
        (told,) = findings(archive, documents)
        assert "the head of 20" in told
        assert documents[0][0] in told


def test_heads_that_the_chain_contains_prove_it_if_they_come_from_elsewhere(outside: Outside) -> None:
    archive = outside.archive
    batch(archive)
    outside.publish()
    batch(archive, "cap_2")
    documents = published.from_files([outside.directory], US)
    assert findings(archive, documents) == []
    for elsewhere, told in ((True, "after the stored heads (capture 1)"), (False, "only a head that was stored")):
        kept = Heads()
        list(published.expect(kept, documents, US, keyring.Keyring(keyring.read(archive.store)), elsewhere=elsewhere))
        list(verification.from_bucket(archive.store, ask_of(archive), Counts(), kept, pauses_s=(0.0,)))
        assert told in kept.cannot_see()


def test_a_document_that_was_changed_or_signed_by_another_key_is_named(outside: Outside) -> None:
    archive = outside.archive
    batch(archive)
    outside.publish()
    (document,) = outside.documents()
    changed = replace(document, date="2026-11-01")
    assert "did not make" in findings(archive, [("a file", changed.body())])[0]
    assert "not one of the expected keys" in findings(archive, [("a file", document.body())], "0" * 16)[0]
    removed = replace(document, signature=None)
    assert "no signature" in findings(archive, [("a file", removed.body())])[0]
    assert (
        "heads of this installation" in findings(archive, [("a file", replace(document, installation="x").body())])[0]
    )
    assert "not a document of heads" in findings(archive, [("a file", b"[]")])[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"date": "20261129"},
        {"heads": {"capture": [1]}},
        {"heads": {"capture": ["1", "0" * 64]}},
        {"heads": {"capture": [1, "0" * 63]}},
        {"heads": {"x": [1, "0" * 64]}},
        {"heads": []},
        {"installation": 7},
        {"key_id": 7},
    ],
)
def test_what_is_no_document_of_heads_is_refused(changed: dict[str, Any]) -> None:
    document = heads.HeadsOfDay("2026-11-29", "test", "ins_test", {"capture": [1, "0" * 64]})
    assert heads.read("x", document.body()) == document
    with pytest.raises(EvidenceDiffers, match="not a document of heads"):
        heads.read("x", replace(document, **changed).body())


def test_files_that_are_none_or_of_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadHeads, match="No such file"):
        published.from_files([tmp_path / "nothing"], US)
    with pytest.raises(BadHeads, match="no heads of test"):
        published.from_files([tmp_path], US)
    other = heads.HeadsOfDay("2026-11-29", "test", "ins_other", {})
    (tmp_path / "other.json").write_bytes(other.body())
    with pytest.raises(BadHeads, match="installation ins_test"):
        published.from_files([tmp_path], US)
    (tmp_path / "broken.json").write_bytes(b"{}")
    with pytest.raises(BadHeads, match="not a document of heads"):
        published.from_files([tmp_path], US)


def test_a_signer_that_is_away_leaves_no_document_without_a_signature(outside: Outside) -> None:
    batch(outside.archive)

    class Away:
        key_id, pem = "0" * 16, b""

        def sign(self, _: bytes) -> Any:
            raise StoreAway("KMS cannot be reached")

    with pytest.raises(StoreAway):
        Publisher(outside.archive.engine, US, Away(), ()).publish()
    assert outside.documents() == []
