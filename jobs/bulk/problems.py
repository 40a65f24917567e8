"""What is wrong with rows: all of it counted and written to a file, the first kept for the screen."""

import csv
from dataclasses import dataclass, field
from typing import IO

from jobs.bulk.errors import UnusableFile

KEPT = 10_000
"""So many are kept in memory; `--json` prints them, and a file that was named for it gets all."""
BAD_MOST = 1_000_000
"""After so many bad rows the file is given up, as not meant."""


@dataclass(frozen=True, slots=True)
class Problem:
    """`column` is empty where it is the row that is wrong."""

    line: int
    column: str
    why: str


@dataclass(slots=True)
class Problems:
    """`rows`: the lines of bad rows. `count`: of problems, of which a row may have several. `to`: where they are
    written as CSV, as they come."""

    to: IO[str] | None = None
    count: int = 0
    rows: set[int] = field(default_factory=set)
    kept: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._write("line", "column", "problem")

    def add(self, line: int, column: str, why: str) -> None:
        self.count += 1
        self.rows.add(line)
        if len(self.kept) < KEPT:
            self.kept.append(Problem(line, column, why))
        self._write(line, column, why)
        if len(self.rows) > BAD_MOST:
            raise UnusableFile(f"the file has more than {BAD_MOST:,} bad rows; the first is in line {min(self.rows)}")

    def _write(self, *cells: object) -> None:
        if self.to is not None:
            csv.writer(self.to).writerow(cells)
