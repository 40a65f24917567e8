"""Verified copies, and what finance asks of them."""

import hashlib
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from evidence import Archive

from archive import queries
from archive.copies import cache as cache_room
from archive.copies.cache import EVERY_CLASS, Cache
from archive.errors import BadQuestion, EvidenceDiffers, ExposedCache
from archive.format import manifests
from archive.s3.store import Store

USD, JPY = {"currency": "USD"}, {"currency": "JPY"}


def a_small_history(archive: Archive) -> None:
    """Three captures on two days, one of them sent again, and one decline."""

    def captured(of: str, minor: int, currency: dict[str, str], at: str) -> None:
        archive.tell("capture.requested", of=of, at=at, minor=minor, **currency, payment_intent=f"pi_{of}")
        archive.tell("capture.attempted", of=of, at=at, step="capture", learned="succeeded", replayed=False)
        archive.tell("capture.captured", of=of, at=at, minor=minor, **currency, payment_intent=f"pi_{of}")

    captured("cap_1", 1999, USD, "'2026-11-01 00:00:00+00'")
    captured("cap_2", 1, USD, "'2026-11-01 23:59:59.999999+00'")
    archive.tell("capture.attempted", of="cap_3", at="'2026-11-01 12:00+00'", step="capture", outcome="no_answer")
    archive.tell("capture.looked", of="cap_3", at="'2026-11-01 12:00+00'", step="capture")
    captured("cap_3", 500, JPY, "'2026-11-02 00:00:00+00'")
    archive.tell("capture.declined", of="cap_4", at="'2026-11-02 00:00:00+00'", minor=7, **USD)
    archive.archive_all()


def ask(archive: Archive, name: str, since: str | None = None, until: str | None = None) -> queries.Answer:
    given = {option: text for option, text in (("since", since), ("until", until)) if text}
    return queries.ask(archive.cache(fresh=False), name, given)


def test_the_queries_tell_what_happened(archive: Archive) -> None:
    a_small_history(archive)
    by_day = ask(archive, "captures_by_day")
    assert by_day.columns == ["day", "account", "currency", "captures", "minor"]
    assert by_day.rows == [("2026-11-01", "unknown", "USD", 2, 2000), ("2026-11-02", "unknown", "JPY", 1, 500)]
    assert ask(archive, "attempts_per_capture").rows == [(1, 0, 2), (2, 1, 1)]
    assert ask(archive, "duplicate_proof").rows == [
        ("authorization", 1, 3, None),
        ("capture", 1, 3, None),
        ("provider success", 1, 3, None),
    ]


def test_since_is_in_the_range_and_until_is_not(archive: Archive) -> None:
    a_small_history(archive)
    first, second = ("2026-11-01", "unknown", "USD", 2, 2000), ("2026-11-02", "unknown", "JPY", 1, 500)
    assert ask(archive, "captures_by_day", "2026-11-01", "2026-11-02").rows == [first]
    assert ask(archive, "captures_by_day", "2026-11-02", "2026-11-03").rows == [second]
    assert ask(archive, "captures_by_day", "2026-11-02", None).rows == [second]
    assert ask(archive, "captures_by_day", None, "2026-11-01").rows == []
    last_moment = "2026-11-01T23:59:59.999999"
    assert ask(archive, "captures_by_day", None, last_moment).rows == [("2026-11-01", "unknown", "USD", 1, 1999)]
    assert ask(archive, "captures_by_day", last_moment, "2026-11-02").rows == [("2026-11-01", "unknown", "USD", 1, 1)]


def test_answers_come_in_the_order_of_their_columns(archive: Archive) -> None:
    """Two people who ask the same can compare their answers line by line."""
    currencies = ["USD", "JPY", "EUR", "CHF", "SEK", "GBP", "AUD", "CAD", "NOK", "DKK"]
    for n, currency in enumerate(currencies):
        at = f"'2026-11-0{2 - n % 2} 12:00+00'"
        archive.tell(*["capture.attempted"] * (n % 4), *["capture.looked"] * (n % 3), of=f"cap_{n}", at=at)
        for _ in range(3 - n % 3):
            archive.tell("capture.captured", of=f"cap_{n}", at=at, minor=1, currency=currency, payment_intent=f"pi_{n}")
    archive.archive_all()
    by_day = ask(archive, "captures_by_day").rows
    assert by_day == sorted(by_day, key=lambda row: row[:3])
    assert len(by_day) == len(currencies)
    effort = ask(archive, "attempts_per_capture").rows
    assert effort == sorted(effort)
    assert len(effort) == 10
    proof = ask(archive, "duplicate_proof").rows
    assert [row[:3] for row in proof] == [
        (what, n, 4 if n == 3 else 3) for what in ("authorization", "capture") for n in (1, 2, 3)
    ]
    # Of many the first, so that two who ask are told the same one.
    assert [row[3] for row in proof] == [None, "pi_1", "pi_0", None, "cap_1", "cap_0"]


@pytest.mark.parametrize("name", ["attempts_per_capture", "duplicate_proof"])
def test_what_was_captured_in_a_range_decides_and_all_that_belongs_to_it_counts(archive: Archive, name: str) -> None:
    a_small_history(archive)
    how_many = lambda *bounds: sum(row[2] for row in ask(archive, name, *bounds).rows)  # noqa: E731 - three lines read it
    each = {"attempts_per_capture": 1, "duplicate_proof": 3}[name]
    assert how_many("2026-11-01T23:59:59.999999", "2026-11-02") == 1 * each
    assert how_many("2026-11-02", None) == 1 * each
    assert how_many(None, "2026-11-02") == 2 * each
    assert how_many("2026-11-02T00:00:00.000001", None) == 0


def test_a_replayed_answer_and_another_step_are_no_second_success(archive: Archive) -> None:
    a_small_history(archive)
    for step, learned, replayed in (
        ("capture", "succeeded", True),
        ("read", "succeeded", False),
        ("capture", "x", False),
    ):
        archive.tell("capture.attempted", of="cap_1", step=step, learned=learned, replayed=replayed)
    archive.archive_all()
    assert ("provider success", 1, 3, None) in ask(archive, "duplicate_proof").rows
    archive.tell("capture.late_answer", of="cap_1", step="capture", learned="succeeded", replayed=False)
    archive.archive_all()
    assert ("provider success", 2, 1, "cap_1") in ask(archive, "duplicate_proof").rows


def test_something_taken_twice_is_seen_and_named_even_when_half_of_it_lies_outside_the_range(archive: Archive) -> None:
    """The control of the proof."""
    a_small_history(archive)
    archive.tell(
        "capture.attempted", of="cap_1", at="'2026-11-03'", step="capture", learned="succeeded", replayed=False
    )
    archive.tell("capture.captured", of="cap_1", at="'2026-11-03'", minor=1999, **USD, payment_intent="pi_cap_1")
    archive.archive_all()
    rows = ask(archive, "duplicate_proof", "2026-11-03", None).rows
    assert rows == [
        ("authorization", 2, 1, "pi_cap_1"),
        ("capture", 2, 1, "cap_1"),
        ("provider success", 2, 1, "cap_1"),
    ]


def test_an_empty_archive_answers_with_nothing(archive: Archive) -> None:
    answer = ask(archive, "captures_by_day")
    assert (answer.rows, answer.evidence) == ([], [])


def test_an_answer_says_what_it_was_computed_from(archive: Archive) -> None:
    a_small_history(archive)
    answer = ask(archive, "duplicate_proof")
    heads = {batch.retention_class: (batch.number, batch.manifest_sha256) for batch in archive.known()}
    assert {read.retention_class: (read.last, read.head) for read in answer.evidence} == heads
    assert {read.retention_class: read.facts for read in answer.evidence} == {"capture": 7, "attempt": 5}
    text = (Path(queries.__file__).parent / "duplicate_proof.sql").read_bytes()
    assert answer.query_sha256 == hashlib.sha256(text).hexdigest()


def test_what_is_no_query_is_refused(archive: Archive) -> None:
    assert {"attempts_per_capture", "captures_by_day", "duplicate_proof"} <= set(queries.NAMES)
    with pytest.raises(BadQuestion, match="choose one of: attempts_per_capture, "):
        ask(archive, "../secrets")
    with pytest.raises(BadQuestion, match="is not before"):
        ask(archive, "captures_by_day", "2026-11-02", "2026-11-02")


class Counting:
    """The real store; counts what is asked of it."""

    def __init__(self, store: Store) -> None:
        self._store, self.endpoint, self.bucket = store, store.endpoint, store.bucket
        self.asked: list[str] = []

    def keys(self, prefix: str, *, after: str | None = None) -> list[str]:
        self.asked.append("LIST")
        return self._store.keys(prefix, after=after)

    def get(self, key: str, version: str | None = None):
        self.asked.append(key)
        return self._store.get(key, version)

    def download(self, key: str, version: str, file):
        self.asked.append(key)
        return self._store.download(key, version, file)


def test_asking_again_costs_a_short_listing_and_the_newest_manifest_of_each_class(
    archive: Archive, tmp_path: Path
) -> None:
    a_small_history(archive)
    store = Counting(archive.store)
    first = Cache(store, tmp_path / "cache").bring()  # type: ignore[arg-type]
    before = len(store.asked)
    assert Cache(store, tmp_path / "cache").bring() == first  # type: ignore[arg-type]
    asked_again = store.asked[before:]
    assert sorted(asked_again) == sorted(
        [*["LIST"] * len(EVERY_CLASS), *(manifests.key(name, 2) for name in ("attempt", "capture"))]
    )


def test_a_copy_that_was_tampered_with_is_not_used_and_is_fetched_again(archive: Archive) -> None:
    a_small_history(archive)
    right = ask(archive, "duplicate_proof").rows
    copies = [path for kind in ("*.parquet", "*.json") for path in archive.directory.rglob(kind)]
    assert len(copies) == 8
    for copy in copies:
        good = copy.read_bytes()
        for bad in (good[:-1] + b"x", good[:-1], b""):
            copy.chmod(0o600)
            copy.write_bytes(bad)
            assert ask(archive, "duplicate_proof").rows == right
            assert copy.read_bytes() == good
        copy.unlink()
        assert ask(archive, "duplicate_proof").rows == right
        assert copy.read_bytes() == good


def test_a_bucket_whose_object_is_not_what_its_manifest_says_is_not_believed(archive: Archive) -> None:
    a_small_history(archive)
    s3 = archive.outside.s3
    version = next(v for v in archive.outside.versions() if v["Key"].endswith(".parquet"))
    s3.delete_object(
        Bucket=archive.bucket, Key=version["Key"], VersionId=version["VersionId"], BypassGovernanceRetention=True
    )
    s3.put_object(Bucket=archive.bucket, Key=version["Key"], Body=b"forged")
    with pytest.raises(EvidenceDiffers, match=r"\.parquet: "):
        ask(archive, "duplicate_proof")


def forge_the_newest(archive: Archive, **changed: object) -> None:
    """A manifest at the end of the chain, which no later one contradicts: only what it says itself can give it away."""
    key = manifests.key("capture", 2)
    forged = replace(manifests.read(key, archive.outside.body(key)), **changed)  # type: ignore[arg-type]
    archive.outside.s3.put_object(Bucket=archive.bucket, Key=key, Body=forged.body())


@pytest.mark.parametrize("warm", [False, True])
def test_a_downloaded_object_is_believed_only_with_the_digest_that_its_manifest_names(archive: Archive, warm: bool):
    """The version is there, and it is the one that the manifest names: the digest alone is another."""
    a_small_history(archive)
    if warm:
        ask(archive, "captures_by_day")
    forge_the_newest(archive, sha256="0" * 64)
    with pytest.raises(EvidenceDiffers, match=r"\.parquet: its bytes differ from what its manifest names"):
        ask(archive, "captures_by_day")


@pytest.mark.parametrize(
    "changed",
    [
        {"first_seq": 6, "last_seq": 8},
        {"first_seq": 4, "last_seq": 6},
        {"number": 3},
        {"retention_class": "invoice"},
        {"previous": "0" * 64},
        {"previous": None},
    ],
)
def test_a_manifest_that_does_not_follow_from_the_one_before_it_is_not_believed(archive: Archive, changed):
    a_small_history(archive)
    key = manifests.key("capture", 2)
    forged = replace(manifests.read(key, archive.outside.body(key)), **changed)
    forged = replace(forged, key=manifests.object_key(forged))
    archive.outside.s3.put_object(Bucket=archive.bucket, Key=key, Body=forged.body())
    with pytest.raises(EvidenceDiffers, match="does not follow from the manifest before it"):
        ask(archive, "captures_by_day")


@pytest.mark.parametrize("number", [b"1", b"00000000000002", "٠٠٠٠٠٠٠٠٠٠٠٢".encode(), b"x/000000000002"])
def test_what_lies_beside_the_chain_is_in_no_chain(archive: Archive, number: bytes) -> None:
    a_small_history(archive)
    key = f"{manifests.PREFIX}capture/{number.decode()}.json"
    archive.outside.s3.put_object(Bucket=archive.bucket, Key=key, Body=b"forged")
    assert len(ask(archive, "captures_by_day").rows) == 2


def test_copies_that_a_query_asked_for_are_the_classes_and_days_it_reads(archive: Archive) -> None:
    a_small_history(archive)
    (part,) = archive.cache().bring(["capture"], until=date(2026, 11, 1))
    assert [(manifest.number, manifest.event_date) for manifest in part.manifests] == [(1, "2026-11-01")]
    assert part.last == 2


def test_a_second_version_over_an_object_changes_no_answer(archive: Archive) -> None:
    """A lock does not forbid it; the manifest names the version."""
    a_small_history(archive)
    for version in archive.outside.versions():
        if version["Key"].endswith(".parquet"):
            archive.outside.s3.put_object(Bucket=archive.bucket, Key=version["Key"], Body=b"forged")
    assert len(ask(archive, "captures_by_day").rows) == 2


def test_a_manifest_that_was_overwritten_is_not_believed(archive: Archive) -> None:
    a_small_history(archive)
    for number in (2, 1):
        key = f"manifests/v1/capture/{number:012d}.json"
        archive.outside.s3.put_object(Bucket=archive.bucket, Key=key, Body=b'{"format":"x"}')
        with pytest.raises(EvidenceDiffers, match="manifests/v1/capture"):
            archive.cache().bring()


def test_only_days_up_to_the_end_of_the_range_are_fetched(archive: Archive) -> None:
    a_small_history(archive)
    (found,) = archive.cache().bring(["capture"], until=date(2026, 11, 1))
    assert [manifest.event_date for manifest in found.manifests] == ["2026-11-01"]
    assert found.last == 2


def test_a_cache_that_others_can_write_is_refused(archive: Archive, tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path)
    for place in (open_to_all, tmp_path / "link"):
        with pytest.raises(ExposedCache, match="BILLING_CACHE_DIRECTORY"):
            Cache(archive.store, place)


def test_the_cache_is_private_and_in_the_temporary_directory_unless_told_otherwise(
    archive: Archive, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(cache_room.tempfile, "tempdir", str(tmp_path))
    Cache(archive.store)
    (place,) = tmp_path.glob("billing-archive-*")
    assert place.stat().st_mode & 0o777 == 0o700
