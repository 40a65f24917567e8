"""Rows of one file that repeat each other's request id or object: found on disk, because a file may have millions."""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Counted(NamedTuple):
    """What a row added to the totals: 0 without a currency where nobody knows how much it moves. `named`: the row names
    its amount."""

    minor: int
    currency: str
    named: bool


@dataclass(frozen=True, slots=True)
class Key:
    """What no two rows may share: the value of `column`. `counted`: to be taken out of the totals again if the row is a
    duplicate."""

    column: str
    value: str
    line: int
    counted: Counted | None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """`first`: the line in which the value stands for the first time, which may be this one."""

    column: str
    line: int
    first: int
    counted: Counted | None


class Duplicates:
    """A temporary database, whose file SQLite removes by itself, and which needs a few megabytes of memory."""

    def __init__(self) -> None:
        self._seen = sqlite3.connect("", isolation_level=None)
        self._seen.executescript(
            """
            PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
            CREATE TABLE seen (name TEXT, value BLOB, line INTEGER, minor INTEGER, currency TEXT, named INTEGER);
            CREATE TABLE doubled (name TEXT, value BLOB, first INTEGER, PRIMARY KEY (name, value)) WITHOUT ROWID;
            BEGIN;
            """
        )

    def add(self, keys: Iterable[Key]) -> None:
        self._seen.executemany(
            "INSERT INTO seen VALUES (?, ?, ?, ?, ?, ?)",
            (
                (
                    key.column,
                    hashlib.blake2b(key.value.encode(errors="surrogatepass"), digest_size=16).digest(),
                    key.line,
                    *(key.counted or (None, None, None)),
                )
                for key in keys
            ),
        )

    def found(self) -> Iterator[Duplicate]:
        """Every row that shares a value with another one, the first one too, by line."""
        self._seen.execute(
            "INSERT INTO doubled SELECT name, value, min(line) FROM seen GROUP BY name, value HAVING count(*) > 1"
        )
        # CROSS JOIN keeps this order: the few doubled values are looked up, and not the many rows.
        found = self._seen.execute(
            "SELECT s.name, s.line, d.first, s.minor, s.currency, s.named FROM seen AS s CROSS JOIN doubled AS d"
            " WHERE d.name = s.name AND d.value = s.value ORDER BY s.line, s.name DESC"
        )
        for name, line, first, minor, currency, named in found:
            yield Duplicate(name, line, first, None if minor is None else Counted(minor, currency, bool(named)))

    def close(self) -> None:
        self._seen.close()
