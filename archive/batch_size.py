"""How many rows one statement takes: half as many when Postgres finds them too slow, more again while they fit.

What fits depends on the machine, its load and the rows, so it is found out and not set. Whatever was too slow is undone
and done again with less; so the archiver moves on as long as a single row fits.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from billing import database

log = structlog.get_logger()

T = TypeVar("T")
Step = Callable[[Session, int], T]
"""Given how many rows it may take."""

MOST_ROWS = 10_000
"""The claim takes a third of a second for them. More would make a statement long, fewer make more objects."""
FITTING = 16
"""So many statements in a row must fit before more rows are tried."""
MOST_FITTING = 1024
"""Each time that more did not fit after all, twice as many must; at most this."""


@dataclass(slots=True)
class BatchSize:
    """One per archiver. `beat` is called after every try, because a process that tries for long is alive."""

    engine: Engine
    rows: int = MOST_ROWS
    most: int = MOST_ROWS
    beat: Callable[[], None] = lambda: None
    _fitted: int = 0
    _needed: int = FITTING
    _grown: bool = False

    def read(self, step: Step[T]) -> T:
        """Of one moment, however many statements it takes. Raises what Postgres raises, if one row is too slow."""
        return self._take(step, database.snapshot)

    def write(self, step: Step[T]) -> T:
        """In one transaction: all of it, or with fewer rows. Raises as `read`."""
        return self._take(step, database.transaction)

    def _take(self, step: Step[T], begun: Callable[[Engine], AbstractContextManager[Session]]) -> T:
        while True:
            try:
                with begun(self.engine) as session:
                    result = step(session, self.rows)
            except DBAPIError as error:
                self.beat()
                if database.sqlstate(error) not in database.TOO_SLOW or self.rows == 1:
                    raise
                self._halve(error)
            else:
                self.beat()
                self._fit()
                return result

    def _halve(self, error: DBAPIError) -> None:
        if self._grown:
            self._needed = min(2 * self._needed, MOST_FITTING)
        self.rows, self._fitted, self._grown = max(1, self.rows // 2), 0, False
        kind = type(error.orig or error).__name__
        log.warning("batch.halved", rows=self.rows, error=kind, sqlstate=database.sqlstate(error))

    def _fit(self) -> None:
        self._fitted += 1
        if self.rows == self.most or self._fitted < self._needed:
            return
        if self._grown:
            # What was tried last has held.
            self._needed = FITTING
        self.rows, self._fitted, self._grown = min(2 * self.rows, self.most), 0, True
        log.info("batch.doubled", rows=self.rows)
