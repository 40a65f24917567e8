"""The copies on this machine: never wrong, never too many, and never taken from somebody who reads them."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pytest
from evidence import Archive

from archive import queries
from archive.copies import shelf
from archive.copies.cache import Cache
from archive.copies.shelf import Shelf
from archive.errors import TooLarge

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
    assert [hashed(three_days) for _ in range(4)] == [3, 3, 0, 0]
    os.utime(objects(three_days)[1])
    assert [hashed(three_days), hashed(three_days)] == [1, 0]
    assert hashed(three_days, rehash=True) == 3
    monkeypatch.setattr(shelf, "TRUSTED_NS", 0)
    assert hashed(three_days) == 3


def test_a_copy_that_was_just_written_is_hashed_again(three_days: Archive) -> None:
    """Within one tick of the file system's clock a second write leaves no trace."""
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
    assert [hashed(three_days) for _ in range(3)] == [3, 3, 0]
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
    assert [hashed(three_days) for _ in range(3)] == [3, 3, 0]
    (database,) = three_days.directory.rglob("copies.sqlite")
    database.write_bytes(b"this is no database" * 100)
    assert [hashed(three_days), hashed(three_days)] == [3, 0]
