"""The copies on this machine: never wrong, never too many, and never taken from somebody who reads them."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from evidence import Archive

from archive import queries
from archive.copies import shelf
from archive.copies.cache import Cache
from archive.copies.shelf import Shelf
from archive.errors import EvidenceDiffers, TooLarge
from archive.format import manifests
from archive.s3.store import Store

DAYS = [date(2026, 11, day) for day in (1, 2, 3)]


@pytest.fixture
def three_days(archive: Archive) -> Archive:
    """One object for each of three days."""
    for number, day in enumerate(DAYS):
        archive.tell("capture.captured", of=f"cap_{number}", at=f"'{day} 12:00+00'", minor=1999, currency="USD")
        archive.archive_all()
    return archive


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits until the file system's clock has moved on for certain."""
    monkeypatch.setattr(shelf, "SETTLED_NS", 0)


def objects(archive: Archive) -> list[Path]:
    return sorted(archive.directory.rglob("*.parquet"))


def taken(archive: Archive) -> int:
    """The bytes of all copies, manifests too."""
    return sum(path.stat().st_size for kind in ("*.parquet", "*.json") for path in archive.directory.rglob(kind))


def cache_of(archive: Archive, most_bytes: int | None = None) -> Cache:
    cache = Cache(archive.store, archive.directory)
    if most_bytes is not None:
        cache._shelf._most = most_bytes
    return cache


def bring(cache: Cache, day: date) -> None:
    with cache.reading(["capture"], since=day, until=day) as copies:
        assert all(path.exists() for part in copies.evidence for path in part.files)


def hashed(archive: Archive, **how: bool) -> int:
    answer = queries.ask(cache_of(archive), "captures_by_day", **how)
    assert [row[-1] for row in answer.rows] == [1999] * 3
    return answer.evidence[0].hashed


def test_a_copy_is_hashed_again_only_if_something_wrote_to_it_or_a_day_has_passed(
    three_days: Archive, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How many a second time depends on the file system's clock.
    assert [hashed(three_days) for _ in range(4)][::2] == [3, 0]
    os.utime(objects(three_days)[1])
    assert [hashed(three_days), hashed(three_days)] == [1, 0]
    assert hashed(three_days, rehash=True) == 3
    monkeypatch.setattr(shelf, "TRUSTED_NS", 0)
    assert hashed(three_days) == 3


def test_a_copy_that_was_just_written_is_hashed_again(three_days: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one tick of the file system's clock a second write leaves no trace. Here that tick is an hour."""
    monkeypatch.setattr(shelf, "SETTLED_NS", 3_600 * 10**9)
    assert [hashed(three_days) for _ in range(3)] == [3, 3, 3]


def test_verification_hashes_every_copy(three_days: Archive, settled: None) -> None:
    assert [cache_of(three_days).bring()[0].hashed for _ in range(4)] == [3] * 4


def flipped(copy: Path) -> None:
    body = bytearray(copy.read_bytes())
    body[len(body) // 2] ^= 1
    copy.write_bytes(body)


def truncated(copy: Path) -> None:
    os.truncate(copy, copy.stat().st_size - 1)


def longer(copy: Path) -> None:
    copy.write_bytes(copy.read_bytes() + b"x")


def a_link(copy: Path) -> None:
    right = copy.with_suffix(".right")
    copy.rename(right)
    copy.symlink_to(right)


def a_directory(copy: Path) -> None:
    copy.unlink()
    copy.mkdir()
    (copy / "inside").write_text("x")


def a_pipe(copy: Path) -> None:
    copy.unlink()
    os.mkfifo(copy)


def empty(copy: Path) -> None:
    copy.write_bytes(b"")


@pytest.mark.parametrize("damage", [flipped, truncated, longer, a_link, a_directory, a_pipe, empty])
def test_a_copy_that_is_not_what_it_was_is_found_and_replaced(
    three_days: Archive, settled: None, damage: Callable[[Path], None]
) -> None:
    """Although it was trusted before, and although its times say that nothing happened."""
    assert [hashed(three_days) for _ in range(3)][::2] == [3, 0]
    copy = objects(three_days)[1]
    body, status = copy.read_bytes(), copy.stat()
    copy.chmod(0o600)
    damage(copy)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
    assert hashed(three_days) == 1
    assert not copy.is_symlink()
    assert copy.read_bytes() == body


def test_what_was_not_used_for_longest_goes_first(three_days: Archive) -> None:
    cache_of(three_days).bring()
    room = taken(three_days) - objects(three_days)[0].stat().st_size // 2
    shutil.rmtree(three_days.directory)
    cache = cache_of(three_days, room)
    for day in (DAYS[0], DAYS[1], DAYS[0], DAYS[2]):
        bring(cache, day)
        assert taken(three_days) <= room
    kept = [path.parent.name for path in objects(three_days)]
    assert kept == [f"event_date={DAYS[0]}", f"event_date={DAYS[2]}"]


def test_what_does_not_fit_is_refused_before_anything_is_downloaded_or_removed(three_days: Archive) -> None:
    bring(cache_of(three_days), DAYS[0])
    before = objects(three_days)
    with pytest.raises(TooLarge, match=r"needs 1 MB of copies, and BILLING_CACHE_MOST_MB is 0; ask for less time"):
        cache_of(three_days, taken(three_days)).bring(["capture"])
    assert objects(three_days) == before


def test_nobody_removes_a_copy_that_a_query_reads(three_days: Archive) -> None:
    bring(cache_of(three_days), DAYS[0])
    room = taken(three_days) + 100
    with cache_of(three_days).reading(["capture"], since=DAYS[0], until=DAYS[0]) as copies:
        (file,) = copies.evidence[0].files
        with pytest.raises(TooLarge, match="wait until other queries have ended"):
            bring(cache_of(three_days, room), DAYS[1])
        assert file.exists()
    bring(cache_of(three_days, room), DAYS[1])
    assert not file.exists()


def test_a_reader_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from archive.copies.shelf import Shelf\n"
        "with Shelf(Path(sys.argv[1]), 100).reader() as reader:\n"
        "    reader.take({'v1/a': 100}); (reader.directory / 'unfinished').write_text('x')\n"
        "    print('reads', flush=True); time.sleep(600)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "reads\n"
    with Shelf(tmp_path, 100).reader() as mine, pytest.raises(TooLarge):
        mine.take({"v1/b": 100})
    assert list(tmp_path.glob("readers/*/unfinished"))
    child.send_signal(signal.SIGKILL)
    child.communicate()
    with Shelf(tmp_path, 100).reader() as mine:
        mine.take({"v1/b": 100})
        assert [path.name for path in tmp_path.glob("readers/*")] == [mine.directory.name]
    assert list(tmp_path.glob("readers/*")) == []


def test_many_that_ask_at_once_with_little_room_are_all_told_the_truth(three_days: Archive) -> None:
    cache_of(three_days).bring()
    # Room for two of three days, and each asks for one at a time.
    room = taken(three_days) - objects(three_days)[0].stat().st_size // 2
    shutil.rmtree(three_days.directory)

    def ask(number: int) -> list[int]:
        day = DAYS[number % 3]
        given = {"since": str(day), "until": str(date.fromordinal(day.toordinal() + 1))}
        while True:
            try:
                return [row[-1] for row in queries.ask(cache_of(three_days, room), "captures_by_day", given).rows]
            except TooLarge as error:
                if "wait until other queries have ended" not in str(error):
                    raise

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(ask, range(12))) == [[1999]] * 12
    assert taken(three_days) <= room


def test_copies_of_an_earlier_version_are_counted_and_used(three_days: Archive) -> None:
    cache_of(three_days).bring()
    for database in three_days.directory.rglob("copies.sqlite"):
        database.unlink()
    room = taken(three_days) - 10
    with pytest.raises(TooLarge):
        cache_of(three_days, room).bring()
    bring(cache_of(three_days, room), DAYS[2])
    assert taken(three_days) <= room


def test_a_damaged_record_of_the_copies_is_made_anew(three_days: Archive, settled: None) -> None:
    assert [hashed(three_days) for _ in range(3)][::2] == [3, 0]
    (database,) = three_days.directory.rglob("copies.sqlite")
    database.write_bytes(b"this is no database" * 100)
    assert [hashed(three_days), hashed(three_days)] == [3, 0]


@pytest.fixture
def payments(archive: Archive) -> Archive:
    """Ten captures in objects of their own, and their calls in two more; the payment `pi_7` is captured late."""
    for n in range(10):
        archive.tell("capture.requested", of=f"cap_{n}", at=f"'2026-11-0{1 + n % 5}'", payment_intent=f"pi_{n}")
        archive.tell("capture.attempted", of=f"cap_{n}", at=f"'2026-11-0{1 + n % 5}'", step="capture")
        archive.archive_all()
    archive.tell("capture.captured", of="cap_7", at="'2026-11-09'", minor=1999, currency="USD", payment_intent="pi_7")
    archive.archive_all()
    return archive


def lookup(archive: Archive, payment: str = "pi_7", **how: bool) -> queries.Answer:
    return queries.ask(cache_of(archive), "payment_attempts", {"payment_intent": payment}, **how)


def told(answer: queries.Answer) -> list[tuple[str, str]]:
    return [(row[0], row[3]) for row in answer.rows]


def test_a_lookup_reads_the_objects_that_may_hold_its_facts_and_no_others(payments: Archive) -> None:
    for how in ({}, {}, {"rehash": True}):
        answer = lookup(payments, **how)
        assert told(answer) == [("cap_7", "requested"), ("cap_7", "attempted"), ("cap_7", "captured")]
        assert {read.retention_class: (read.last, read.facts) for read in answer.evidence} == {
            "capture": (11, 2),
            "attempt": (10, 1),
        }
        assert [(read.objects, read.passed_over) for read in answer.evidence] == [(2, 9), (1, 9)]
    history = queries.ask(cache_of(payments), "history", {"entity_id": "cap_3"})
    assert len(history.rows) == sum(read.objects for read in history.evidence) == 2


def test_a_lookup_knows_nothing_of_what_is_archived_meanwhile_and_does_not_claim_to(
    payments: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks twice: for the capture of a payment, and then for all of that capture."""
    chosen, done = Cache._bring, []

    def archive_meanwhile(cache: Cache, *args: Any, **how: Any) -> Any:
        if len(done) == 1:
            payments.tell("capture.requested", of="cap_late", at="'2026-11-09'", payment_intent="pi_7")
            payments.archive_all()
        done.append(True)
        return chosen(cache, *args, **how)

    monkeypatch.setattr(Cache, "_bring", archive_meanwhile)
    answer = lookup(payments)
    assert len(done) == 2
    assert {who for who, _ in told(answer)} == {"cap_7"}
    assert {read.retention_class: read.last for read in answer.evidence}["capture"] == 11
    assert ("cap_late", "requested") in told(lookup(payments))


def test_only_new_manifests_are_listed_and_a_bucket_with_fewer_is_read_from_its_beginning(
    payments: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[tuple[str, str | None]] = []
    keys = Store.keys

    def noted(store: Store, prefix: str, *, after: str | None = None) -> list[str]:
        listed.append((prefix, after))
        return keys(store, prefix, after=after)

    def last() -> int:
        with cache_of(payments).reading(["capture"]) as copies:
            return copies.evidence[0].last

    monkeypatch.setattr(Store, "keys", noted)
    assert last() == 11
    payments.tell("capture.requested", of="cap_late", at="'2026-11-09'")
    payments.archive_all()
    assert last() == 12
    newest = {"Bucket": payments.bucket, "Key": manifests.key("capture", 12)}
    version = payments.outside.s3.head_object(**newest)["VersionId"]
    payments.outside.s3.delete_object(**newest, VersionId=version, BypassGovernanceRetention=True)
    assert last() == 11
    prefix = f"{manifests.PREFIX}capture/"
    assert listed == [
        (prefix, None),
        (prefix, manifests.key("capture", 10)),
        (prefix, manifests.key("capture", 11)),
        (prefix, None),
    ]
    listed.clear()
    cache_of(payments).bring(["capture"])
    assert listed == [(prefix, None)], "whoever verifies sees all of them"


def test_an_id_that_nobody_knows_finds_nothing_in_no_object(payments: Archive) -> None:
    for how in ({}, {}, {"rehash": True}):
        answer = lookup(payments, "pi_unknown", **how)
        assert answer.rows == []
        assert [(read.objects, read.passed_over) for read in answer.evidence] == [(0, 11), (0, 10)]


def test_what_is_passed_over_needs_no_copy(payments: Archive) -> None:
    right = lookup(payments).rows
    kept = {path for path in objects(payments) if "2026-11-03" in str(path) or "2026-11-09" in str(path)}
    for copy in set(objects(payments)) - kept:
        copy.unlink()
    assert lookup(payments).rows == right
    assert set(objects(payments)) == kept


def test_a_filter_counts_only_for_the_bytes_that_the_manifest_names(payments: Archive) -> None:
    """The newest manifest now names other bytes, which may hold what the old ones did not."""
    assert lookup(payments, "pi_3").rows
    key = manifests.key("capture", 11)
    forged = replace(manifests.read(key, payments.outside.body(key)), sha256="0" * 64)
    payments.outside.s3.put_object(Bucket=payments.bucket, Key=key, Body=forged.body())
    with pytest.raises(EvidenceDiffers, match="its bytes differ from what its manifest names"):
        lookup(payments, "pi_3")


def test_a_shelf_of_an_earlier_version_learns_the_filters_when_it_hashes(payments: Archive) -> None:
    cache_of(payments).bring()
    (path,) = payments.directory.rglob("copies.sqlite")
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE filters")
    assert [sum(read.objects for read in lookup(payments).evidence) for _ in range(2)] == [3, 3]


def test_a_filter_leaves_with_its_copy(payments: Archive) -> None:
    cache_of(payments).bring()
    (path,) = payments.directory.rglob("copies.sqlite")
    cache = cache_of(payments, taken(payments) - 1)
    with cache._shelf.reader() as reader:
        reader.take({"v1/another": taken(payments) // 2})
    with closing(sqlite3.connect(path)) as database:
        ((copies, filters),) = database.execute(
            "SELECT count(DISTINCT copies.key), count(DISTINCT filters.key) FROM copies LEFT JOIN filters USING (key)"
            " WHERE copies.key LIKE 'v1/class%'"
        )
        ((orphans,),) = database.execute("SELECT count(*) FROM filters WHERE key NOT IN (SELECT key FROM copies)")
    assert (copies, orphans) == (filters, 0)
    assert copies < 21


def test_one_process_reads_the_manifests_once(payments: Archive) -> None:
    """As a month's books do, which ask ten questions."""
    cache = cache_of(payments)
    (before,) = cache.bring(["capture"])
    for path in payments.directory.rglob("*.json"):
        path.unlink()
    assert cache.bring(["capture"])[0].manifests == before.manifests
    assert list(payments.directory.rglob("*.json")) == []
    payments.tell("capture.refused", of="cap_1")
    payments.archive_all()
    assert cache.bring(["capture"])[0].last == before.last + 1
