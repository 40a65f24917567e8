"""How much room the copies take, who is reading which, and which of them need not be hashed again.

One SQLite file beside the copies, for all processes of this user. It proves nothing by itself: if it is lost or
damaged, it is made anew, and every copy is hashed again. It also has the filters of the copies, which
`archive.copies.filters` took out of the bytes that were hashed; they need a twentieth of the copies' room besides. A
reader is a process with a lock on a directory of its own, which the system releases when the process dies. The next
process then clears what the dead one left.
"""

import fcntl
import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from archive.copies.filters import BLOCK, Place, Sought
from archive.errors import TooLarge

SETTLED_NS = 2_000_000_000
"""File systems keep times in ticks, at worst of 2 s. A write in the tick of another one leaves the same time. So a
stamp is believed only if the file had been left alone for so long before it was hashed."""
TRUSTED_NS = 24 * 3600 * 1_000_000_000
"""After this time a copy is hashed again: a disk may change bytes without any file system noticing."""
_BUSY_S = 60
_MEGABYTE = 1_000_000

_TABLES = """
    CREATE TABLE IF NOT EXISTS copies (
        key TEXT PRIMARY KEY, size INTEGER NOT NULL, used_ns INTEGER NOT NULL, stamp TEXT, hashed_ns INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS copies_by_use ON copies (used_ns);
    CREATE TABLE IF NOT EXISTS reading (reader TEXT, key TEXT, PRIMARY KEY (reader, key)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS filters (name TEXT, key TEXT, sha256 TEXT, blocks BLOB, PRIMARY KEY (name, key));
    CREATE INDEX IF NOT EXISTS filters_by_key ON filters (key);
"""

# The one block of each filter that a value can be in. A filter is not read as a whole.
_BLOCK = f"""
    SELECT key, sha256, substr(blocks, 1 + {BLOCK} * ((:block * (length(blocks) / {BLOCK})) >> 32), {BLOCK})
      FROM filters WHERE name = :name
"""  # noqa: S608 - a number of ours


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes whenever a file is written, replaced or renamed. No program can set `ctime`."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def __str__(self) -> str:
        return f"{self.inode} {self.size} {self.mtime_ns} {self.ctime_ns}"


@dataclass(frozen=True, slots=True)
class Hashed:
    """A copy whose bytes were hashed from `at_ns` on, and were right. `filters`: as `filters.of` finds them."""

    stamp: Stamp
    at_ns: int
    sha256: str
    filters: Mapping[str, bytes]


class Shelf:
    """The copies below `root`, which take at most `most_bytes`. Use it from one thread only."""

    def __init__(self, root: Path, most_bytes: int) -> None:
        self._root, self._most = root, most_bytes
        self._readers = root / "readers"
        self._readers.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def reader(self) -> Iterator["Reader"]:
        """A directory that is removed at the end, in which unfinished downloads and spilled rows may lie."""
        name = uuid.uuid4().hex
        directory = self._readers / name
        with closing(self._opened()) as database:
            with _writing(database):
                self._clear_the_dead(database)
                directory.mkdir(mode=0o700)
                lock = _locked(directory)
            assert lock is not None, "nobody else knows this directory"
            try:
                yield Reader(database, self._root, self._most, directory)
            finally:
                with _writing(database):
                    database.execute("DELETE FROM reading WHERE reader = ?", [name])
                    shutil.rmtree(directory, ignore_errors=True)
                os.close(lock)

    def _opened(self) -> sqlite3.Connection:
        path = self._root / "copies.sqlite"
        try:
            return self._connected(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            path.unlink()
            return self._connected(path)

    def _connected(self, path: Path) -> sqlite3.Connection:
        database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        try:
            # After a power failure it may be damaged, and is made anew. So it need not wait for the disk.
            database.execute("PRAGMA synchronous = OFF")
            with _writing(database):
                (tables,) = database.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()
                for statement in filter(str.strip, _TABLES.split(";")):
                    database.execute(statement)
                if not tables:
                    database.executemany("INSERT INTO copies VALUES (?, ?, 0, NULL, NULL)", self._found())
        except BaseException:
            database.close()
            raise
        return database

    def _found(self) -> Iterator[tuple[str, int]]:
        """The copies that lie there: of an earlier version, or of before this file was lost."""
        for folder in ("manifests", "v1"):
            for path in (self._root / folder).rglob("*"):
                if path.is_file() and not path.is_symlink():
                    yield str(path.relative_to(self._root)), path.stat().st_size

    def _clear_the_dead(self, database: sqlite3.Connection) -> None:
        for directory in self._readers.iterdir():
            lock = _locked(directory)
            if lock is not None:
                database.execute("DELETE FROM reading WHERE reader = ?", [directory.name])
                shutil.rmtree(directory, ignore_errors=True)
                os.close(lock)


class Reader:
    """One process that reads copies."""

    def __init__(self, database: sqlite3.Connection, root: Path, most: int, directory: Path) -> None:
        self._database, self._root, self._most, self.directory = database, root, most, directory

    def take(self, sizes: Mapping[str, int]) -> dict[str, str]:
        """Keep these copies until this reader ends, and make room for those that are not there. `sizes`: bytes by key.

        Returns the stamps with which copies need not be hashed again. Removes the copies that were not used for longest
        and that nobody reads. Raises TooLarge, and then takes nothing.
        """
        now = time.time_ns()
        with _writing(self._database):
            self._database.executemany(
                "INSERT INTO copies VALUES (?, ?, ?, NULL, NULL)"
                " ON CONFLICT (key) DO UPDATE SET size = excluded.size, used_ns = excluded.used_ns",
                [(key, size, now) for key, size in sizes.items()],
            )
            self._database.executemany(
                "INSERT OR IGNORE INTO reading VALUES (?, ?)", [(self.directory.name, key) for key in sizes]
            )
            self._make_room(sum(sizes.values()))
            return dict(
                self._database.execute(
                    "SELECT key, stamp FROM copies JOIN reading USING (key)"
                    " WHERE reader = ? AND stamp IS NOT NULL AND hashed_ns BETWEEN ? AND ?",
                    [self.directory.name, now - TRUSTED_NS, now],
                )
            )

    def _make_room(self, wanted: int) -> None:
        (total,) = self._database.execute("SELECT coalesce(sum(size), 0) FROM copies").fetchone()
        unread = "SELECT key, size FROM copies WHERE key NOT IN (SELECT key FROM reading) ORDER BY used_ns, key"
        leave = []
        for key, size in self._database.execute(unread) if total > self._most else ():
            if total <= self._most:
                break
            leave.append(key)
            total -= size
        if total > self._most:
            advice = (
                "ask for less time or fewer classes" if wanted > self._most else "wait until other queries have ended"
            )
            raise TooLarge(
                f"this needs {-(-wanted // _MEGABYTE)} MB of copies, and BILLING_CACHE_MOST_MB is "
                f"{self._most // _MEGABYTE}; {advice}, or raise it"
            )
        for key in leave:
            with suppress(FileNotFoundError):
                (self._root / key).unlink()
        for table in ("copies", "filters"):
            self._database.executemany(f"DELETE FROM {table} WHERE key = ?", [(key,) for key in leave])  # noqa: S608

    def hold_none(self, sought: Sought, objects: Mapping[str, str]) -> set[str]:
        """Those of these objects, digests by key, that certainly hold none of these values."""
        none = set(objects)
        for place in map(Place.of, sought.values):
            blocks = self._database.execute(_BLOCK, {"name": sought.column, "block": place.block})
            none &= {key for key, sha256, block in blocks if objects.get(key) == sha256 and not place.may_be_in(block)}
        return none

    def note(self, hashed: Mapping[str, Hashed]) -> None:
        """Remember these copies, by key."""
        with _writing(self._database):
            self._database.executemany(
                "UPDATE copies SET stamp = ?, hashed_ns = ? WHERE key = ?",
                [
                    (str(copy.stamp) if copy.stamp.ctime_ns + SETTLED_NS < copy.at_ns else None, copy.at_ns, key)
                    for key, copy in hashed.items()
                ],
            )
            self._database.executemany(
                "INSERT OR REPLACE INTO filters VALUES (?, ?, ?, ?)",
                [
                    (name, key, copy.sha256, blocks)
                    for key, copy in hashed.items()
                    for name, blocks in copy.filters.items()
                ],
            )


@contextmanager
def _writing(database: sqlite3.Connection) -> Iterator[None]:
    """One process at a time is in here. Raises TooLarge if the disk is full."""
    try:
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
    except sqlite3.OperationalError as error:
        raise TooLarge(f"BILLING_CACHE_DIRECTORY: the copies cannot be kept there ({error})") from None


def _locked(directory: Path) -> int | None:
    """A lock on this directory; None if another process has it."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
