"""Every version and delete marker that the bucket lists, in a temporary database on disk.

There may be millions, and they are looked up by key; they would not fit into memory. The database is a private
temporary file that SQLite removes when it is closed, or when the process dies.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime
from types import TracebackType
from typing import Any

from archive.format import manifests
from archive.s3.store import Listed

_TABLE = """
    CREATE TABLE listed (
        key TEXT, version TEXT, marker INTEGER, size INTEGER, written TEXT, place INTEGER, accounted INTEGER,
        PRIMARY KEY (key, version)
    ) WITHOUT ROWID
"""
_LISTED = "SELECT key, version, marker, size, written FROM listed "


class Inventory:
    """Use it from one thread only."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(_TABLE)
        self._places = 0

    def __enter__(self) -> "Inventory":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, entries: Iterable[Listed]) -> None:
        rows = [
            (each.key, each.version, each.marker, each.size, each.written.isoformat(), place)
            for place, each in enumerate(entries, start=self._places)
        ]
        self._places += len(rows)
        self._database.execute("BEGIN")
        # A page that is requested again lists the same entries again.
        self._database.executemany("INSERT OR REPLACE INTO listed VALUES (?, ?, ?, ?, ?, ?, 0)", rows)
        self._database.execute("COMMIT")

    def of(self, key: str) -> list[Listed]:
        """The versions and markers at this key, the oldest first. They then count as accounted for.

        S3 gives times in whole seconds, and lists the newest version of a key first.
        Source: docs.aws.amazon.com/AmazonS3/latest/userguide/list-obj-version-enabled-bucket.html.
        """
        self._database.execute("UPDATE listed SET accounted = 1 WHERE key = ?", [key])
        return list(self._listed("WHERE key = ? ORDER BY written, place DESC", key))

    def manifest_numbers(self, retention_class: str, after: int, most: int) -> list[int]:
        """The next `most` numbers of this class, in order, whose manifest key has a version or a marker."""
        place = f"{manifests.PREFIX}{retention_class}/"
        found = self._database.execute(
            "SELECT DISTINCT key FROM listed WHERE key > ? AND key < ? AND key GLOB ? ORDER BY key LIMIT ?",
            [manifests.key(retention_class, after), f"{place}:", f"{place}{'[0-9]' * 12}.json", most],
        )
        return [int(key.removeprefix(place).removesuffix(".json")) for (key,) in found]

    def keys(self, prefix: str) -> list[str]:
        """Every key that begins with this. For the few public keys, not for objects."""
        listed = self._database.execute("SELECT DISTINCT key FROM listed WHERE key GLOB ? ORDER BY key", [f"{prefix}*"])
        return [key for (key,) in listed]

    def unaccounted(self) -> Iterator[Listed]:
        """The entries that no call of `of` has returned, by key."""
        return self._listed("WHERE NOT accounted ORDER BY key, written, place DESC")

    def _listed(self, where: str, *values: Any) -> Iterator[Listed]:
        for key, version, marker, size, written in self._database.execute(_LISTED + where, values):
            yield Listed(key, version, bool(marker), size, datetime.fromisoformat(written))
