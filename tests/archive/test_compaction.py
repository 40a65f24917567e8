"""A month's copy holds each archived fact once, is whole or says that it is not, and is always the same bytes."""

import json
import os
import random
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import duckdb
import objects
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from boto3.s3.transfer import TransferConfig
from evidence import Archive
from objects import fact

from archive.closing.periods import period
from archive.compacting import compaction, index, sorted_copy
from archive.compacting.places import UNFINISHED, Directory
from archive.errors import BadQuestion, EvidenceDiffers, WrongBucket
from archive.format import records
from archive.s3 import plain_bucket
from archive.s3.plain_bucket import PlainBucket

OCTOBER = period("2026-10")
IN_OCTOBER = ("'2026-10-01 00:00+00'", "'2026-10-15 12:00+00'", "'2026-10-31 23:59:59.999999+00'")
CAPTURES, ATTEMPTS = (index.object_key("2026-10", name) for name in ("capture", "attempt"))
INDEX = index.index_key("2026-10")


@pytest.fixture
def october(archive: Archive) -> Archive:
    """Seven facts of October and two of its neighbours, in the order in which they happened to be archived."""
    for number, at in enumerate(IN_OCTOBER):
        of = f"cap_{2 - number}"
        archive.tell("capture.requested", of=of, at=at, payment_intent=f"pi_{number}")
        archive.tell("capture.captured", of=of, at=at, minor=10 + number, currency=("USD", "JPY", "USD")[number])
        archive.archive_all()
    archive.tell("capture.attempted", of="cap_1", at=IN_OCTOBER[1], took_ms=5)
    archive.tell("capture.requested", of="cap_8", at="'2026-09-30 23:59:59.999999+00'")
    archive.tell("capture.requested", of="cap_9", at="'2026-11-01 00:00+00'")
    archive.archive_all()
    return archive


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where copies are written."""
    return tmp_path / "copies"


def compacted(archive: Archive, root: Path) -> bool:
    _, new = compaction.compact(archive.cache(), OCTOBER, Directory(root))
    return new


def troubles(archive: Archive, root: Path) -> list[str]:
    return compaction.check(archive.cache(fresh=False), OCTOBER, Directory(root))


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_copy_holds_each_fact_of_its_month_once_with_every_column_and_lies_in_order(
    october: Archive, root: Path
) -> None:
    made, new = compaction.compact(october.cache(), OCTOBER, Directory(root))
    assert new
    assert set(files(root)) == {CAPTURES, ATTEMPTS, INDEX}
    found = pq.read_table(root / CAPTURES, partitioning=None)
    assert found.schema.equals(sorted_copy.COLUMNS, check_metadata=False)
    lives = list(zip(*(found.column(name).to_pylist() for name in ("entity_id", "entity_version")), strict=True))
    assert lives == [("cap_0", 1), ("cap_0", 2), ("cap_1", 1), ("cap_1", 2), ("cap_2", 1), ("cap_2", 2)]
    assert {str(day) for day in found.column("event_date").to_pylist()} == {"2026-10-01", "2026-10-15", "2026-10-31"}
    # The rows themselves are those of the archive.
    archived = [
        records.read(october.store.get(key).body) for key in october.store.keys("v1/class=capture/event_date=2026-10-")
    ]
    ours = found.drop(["event_date"]).to_pylist()
    assert sorted(ours, key=_number) == sorted(pa.concat_tables(archived).to_pylist(), key=_number)
    assert [(part.source.retention_class, part.source.facts, part.source.captured) for part in made.parts] == [
        ("attempt", 1, {}),
        ("capture", 6, {"JPY": 11, "USD": 22}),
    ]
    assert index.read((root / INDEX).read_bytes()) == made


def test_the_same_archive_gives_the_same_bytes_and_a_second_run_writes_nothing(october: Archive, root: Path) -> None:
    assert compacted(october, root / "one")
    before = {path: path.stat().st_mtime_ns for path in (root / "one").rglob("*")}
    assert not compacted(october, root / "one")
    assert {path: path.stat().st_mtime_ns for path in (root / "one").rglob("*")} == before
    # What is archived of other months changes nothing.
    october.tell("capture.requested", of="cap_10")
    october.archive_all()
    assert not compacted(october, root / "one")
    assert compacted(october, root / "another")
    assert files(root / "one") == files(root / "another")
    assert troubles(october, root / "one") == []


class Dying(Directory):
    """Loses its power in the middle of the write number `at`."""

    def __init__(self, root: Path, at: int) -> None:
        super().__init__(root)
        self._left = at

    def put(self, key: str, file: Path) -> None:
        self._left -= 1
        if self._left == 0:
            (self._root / UNFINISHED).mkdir(parents=True, exist_ok=True)
            (self._root / UNFINISHED / uuid4().hex).write_bytes(file.read_bytes()[:10])
            raise KeyboardInterrupt
        super().put(key, file)


@pytest.mark.parametrize(("at", "again"), [(2, False), (1, True), (3, True)])
def test_what_a_dead_run_left_is_not_taken_for_whole_and_the_next_run_makes_it_whole(
    october: Archive, root: Path, at: int, again: bool
) -> None:
    if again:
        compacted(october, root / "one")
        october.tell("capture.attempted", "capture.canceled", of="cap_1", at=IN_OCTOBER[1])
        october.archive_all()
    with pytest.raises(KeyboardInterrupt):
        compaction.compact(october.cache(), OCTOBER, Dying(root / "one", at))
    assert not (root / "one" / INDEX).exists()
    assert troubles(october, root / "one") == [f"{INDEX}: missing, or not of this version; so the copy is not whole"]
    assert compacted(october, root / "one")
    assert compacted(october, root / "another")
    assert files(root / "one") == files(root / "another")


def test_facts_that_are_archived_later_make_a_copy_out_of_date(october: Archive, root: Path) -> None:
    compacted(october, root)
    october.tell("capture.captured", of="cap_1", at=IN_OCTOBER[1], minor=5, currency="USD")
    october.archive_all()
    assert troubles(october, root) == [
        f"{CAPTURES}: made of 6 facts in 3 objects, and the archive holds 7 facts in 4 objects"
    ]
    assert compacted(october, root)
    assert troubles(october, root) == []
    assert json.loads((root / INDEX).read_text())["parts"][1]["source"]["captured"] == {"JPY": 11, "USD": 27}


def test_what_somebody_did_to_a_copy_is_named(october: Archive, root: Path) -> None:
    compacted(october, root)
    whole = files(root)
    (root / CAPTURES).write_bytes(whole[CAPTURES][:-1] + b"x")
    (root / ATTEMPTS).unlink()
    assert troubles(october, root) == [f"{ATTEMPTS}: missing", f"{CAPTURES}: other bytes than were written"]
    assert compacted(october, root)
    assert files(root) == whole
    # An engine would read it. It is not ours, so it is not deleted either.
    stranger = (root / CAPTURES).with_name("more.parquet")
    stranger.write_bytes(whole[CAPTURES])
    assert troubles(october, root) == [
        f"{stranger.relative_to(root)}: no part of the copy, and an engine would read it"
    ]
    with pytest.raises(EvidenceDiffers, match=r"more\.parquet: it is no part"):
        compacted(october, root)
    assert stranger.exists()
    assert (root / INDEX).exists()


HOSTILE = [
    b"",
    b"[]",
    b"{",
    b"[" * 100_000,
    b'{"format": "billing-compacted-month/1", "parts": [{"source": {}}]}',
    b'{"format": "billing-compacted-month/1", "parts": 3}',
    b'{"format": "billing-compacted-month/2"}',
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_an_index_that_is_none_is_not_believed(body: bytes) -> None:
    assert index.read(body) is None


def test_an_index_that_leads_to_another_file_is_not_believed(october: Archive, root: Path) -> None:
    compacted(october, root)
    told = json.loads((root / INDEX).read_text())
    told["parts"][0]["source"]["retention_class"] = "../../../elsewhere"
    assert index.read((json.dumps(told, indent=2, sort_keys=True) + "\n").encode()) is None


def test_copies_of_another_installation_are_not_mixed_with_ours(october: Archive, root: Path) -> None:
    compacted(october, root)
    path = root / index.index_key("2025-01")
    path.write_text((root / INDEX).read_text().replace("ins_test", "ins_other"))
    for _ in ("beside a copy of ours", "without one"):
        for act in (compacted, troubles):
            with pytest.raises(WrongBucket, match=r"ins_other in test; name another place"):
                act(october, root)
        (root / INDEX).unlink(missing_ok=True)


def test_a_month_that_is_not_over_or_of_which_nothing_is_archived_is_refused(archive: Archive, root: Path) -> None:
    for month, says in (("2150-01", "is not over"), ("2026-10", "holds no fact of 2026-10")):
        with pytest.raises(BadQuestion, match=says):
            compaction.compact(archive.cache(), period(month), Directory(root))
    assert files(root) == {}


def test_a_directory_that_cannot_be_written_is_named(october: Archive, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadQuestion, match=r"--to .*file: Not a directory"):
        compacted(october, tmp_path / "file")


def test_what_was_disposed_of_is_in_no_copy_that_is_made_later(tmp_path: Path) -> None:
    days = [datetime(2026, 10, day, tzinfo=UTC) for day in (1, 2)]
    (whole,) = objects.evidence(tmp_path, *(fact(n, at=day, minor=n, currency="USD") for n, day in enumerate(days, 1)))
    whole = replace(whole, manifests=tuple(replace(m, captured={"USD": m.first_seq}) for m in whole.manifests))
    source = index.source_of(whole)
    assert source is not None
    assert (source.objects, source.facts, source.captured) == (2, 2, {"USD": 3})
    left = replace(whole, files=whole.files[1:])
    second = index.source_of(left)
    assert second is not None
    assert (second.objects, second.facts, second.captured, second.head) == (1, 1, {"USD": 2}, source.head)
    sorted_copy.write(left.files, 1, tmp_path / "copy", tmp_path)
    sorted_copy.check(tmp_path / "copy", second, "key")
    with pytest.raises(EvidenceDiffers, match=r"1 facts and {'USD': 2} captured, and their manifests say 2"):
        sorted_copy.check(tmp_path / "copy", source, "key")


def test_facts_of_an_older_version_have_every_column(tmp_path: Path) -> None:
    newer = ("payment_intent", "account")
    older = pa.schema([field for field in records.SCHEMA if field.name not in newer], records.SCHEMA.metadata)
    (old,) = objects.evidence(tmp_path, fact(1, payment_intent="pi_1", account="own"), fact(2), schema=older)
    sorted_copy.write(old.files, 2, tmp_path / "copy", tmp_path)
    rows = pq.read_table(tmp_path / "copy", columns=list(newer)).to_pylist()
    assert rows == [{"payment_intent": "pi_1", "account": "own"}, {"payment_intent": None, "account": None}]


def test_a_lookup_reads_few_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group says from where to where its ids go, and has a filter for the payment intents in it."""
    monkeypatch.setattr(sorted_copy, "GROUP_ROWS", 4)
    facts = [fact(n, payment_intent=f"pi_{n}") for n in (5, 3, 9, 1, 7, 2, 8, 4, 6, 0)]
    (part,) = objects.evidence(tmp_path, *(each | {"archive_seq": n} for n, each in enumerate(facts, 1)))
    sorted_copy.write(part.files, len(facts), tmp_path / "copy", tmp_path)
    told = pq.ParquetFile(tmp_path / "copy").metadata
    groups = [told.row_group(number) for number in range(told.num_row_groups)]
    assert [group.num_rows for group in groups] == [4, 4, 2]
    ids = sorted_copy.COLUMNS.get_field_index("entity_id")
    bounds = [(group.column(ids).statistics.min, group.column(ids).statistics.max) for group in groups]
    assert bounds == [("cap_0", "cap_3"), ("cap_4", "cap_7"), ("cap_8", "cap_9")]
    asked = f"SELECT bloom_filter_excludes FROM parquet_bloom_probe('{tmp_path / 'copy'}', 'payment_intent', 'pi_7')"
    assert [excludes for (excludes,) in duckdb.execute(asked).fetchall()] == [True, False, True]


def test_row_groups_do_not_depend_on_how_many_rows_come_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_copy, "GROUP_ROWS", 5)

    def grouped(sizes: list[int]) -> list[list[int]]:
        first, tables = 0, []
        for size in sizes:
            tables.append(pa.table({"n": pa.array(range(first, first + size), pa.int64())}))
            first += size
        return [group.column("n").to_pylist() for group in sorted_copy._groups(tables)]

    for sizes in ([12], [5, 5, 2], [1] * 12, [4, 0, 8], [11, 1]):
        assert grouped(sizes) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert grouped([]) == []
    assert grouped([5]) == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("ranges", [1, 3, 12, 100])
def test_facts_are_in_order_over_all_ranges_however_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranges: int
) -> None:
    """Among them an entity with more facts than a range has room for, and facts that come before their forerunners."""
    monkeypatch.setattr(sorted_copy, "RANGE_ROWS", 120 // ranges)
    monkeypatch.setattr(sorted_copy, "MOST_RANGES", ranges)
    chance = random.Random(ranges)
    days = [datetime(2026, 10, day, tzinfo=UTC) for day in (1, 2, 3)]
    lives = [(f"cap_{chance.choice((7, chance.randrange(60)))}", version) for version in range(120)]
    facts = [
        fact(number, at=days[number * 3 // 121]) | {"entity_id": of, "entity_version": version}
        for number, (of, version) in enumerate(chance.sample(lives, 120), start=1)
    ]
    (part,) = objects.evidence(tmp_path, *facts)
    sorted_copy.write(part.files, 120, tmp_path / "copy", tmp_path)
    written = pq.read_table(tmp_path / "copy", columns=["entity_id", "entity_version"]).to_pylist()
    assert [tuple(row.values()) for row in written] == sorted(lives)
    assert {path.name for path in tmp_path.iterdir()} == {"copy", "v1"}


# A real bucket.


@pytest.fixture
def plain(october: Archive) -> PlainBucket:
    store = copy(october.store)
    store.bucket = f"test-{uuid4().hex}"
    bucket = PlainBucket(store)
    with pytest.raises(WrongBucket, match="there is no bucket"):
        bucket.check()
    store.client.create_bucket(Bucket=store.bucket)
    bucket.check()
    return bucket


def test_a_copy_lies_in_a_bucket_as_in_a_directory(october: Archive, plain: PlainBucket, root: Path) -> None:
    made, new = compaction.compact(october.cache(), OCTOBER, plain)
    assert new
    compacted(october, root)
    assert {key: plain.read(key) for key in plain.keys("")} == files(root)
    assert compaction.compact(october.cache(), OCTOBER, plain) == (made, False)
    plain.remove(ATTEMPTS)
    assert compaction.check(october.cache(fresh=False), OCTOBER, plain) == [f"{ATTEMPTS}: missing"]


def test_a_large_object_is_sent_in_parts(plain: PlainBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # S3 takes no part below 5 MB, except the last.
    parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    monkeypatch.setattr(plain_bucket, "_PARTS", parts)
    (tmp_path / "large").write_bytes(os.urandom(6 << 20))
    Directory(tmp_path).put("copy", tmp_path / "large")
    plain.put("large", tmp_path / "large")
    assert plain.digest("large") == Directory(tmp_path).digest("copy")
    assert plain.digest("other") is None


def test_a_bucket_that_locks_is_refused(archive: Archive) -> None:
    with pytest.raises(WrongBucket, match="has Object Lock"):
        PlainBucket(archive.store).check()


def _number(row: dict[str, object]) -> object:
    return row["archive_seq"]
