"""The archiver's transactions, with as many rows as Postgres can handle in time.

A transaction that Postgres cancels as too slow is rolled back and repeated with half the rows. So the archiver moves on
as long as a single row fits.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from billing import database
from billing.batch_limit import BatchLimit

log = structlog.get_logger()

T = TypeVar("T")
Step = Callable[[Session, int], T]
"""A step of the archiver. Its second argument is how many rows it may take."""

MOST_ROWS = 10_000
"""A claim of this many rows takes a third of a second. More rows make slow statements; fewer make more objects."""
FITTING = 16
"""This many statements in a row must succeed before more rows are tried."""
MOST_FITTING = 1024
"""Each time that more rows are too slow again, twice as many statements must succeed first; at most this many."""


def limited_to(most: int) -> BatchLimit:
    """The limit of an archiver. It grows slowly, because each attempt that is too slow costs seconds."""
    return BatchLimit(most, FITTING, MOST_FITTING)


@dataclass(slots=True)
class BatchSize:
    """One per archiver. `heartbeat` is called after every attempt: a process that repeats for a long time is alive."""

    engine: Engine
    limit: BatchLimit = field(default_factory=lambda: limited_to(MOST_ROWS))
    heartbeat: Callable[[], None] = lambda: None

    def read(self, step: Step[T]) -> T:
        """Run the step in one snapshot, however many statements it has.

        Raises Postgres's error if one row is too slow.
        """
        return self._take(step, database.snapshot)

    def write(self, step: Step[T]) -> T:
        """Run the step in one transaction, and again with fewer rows if that was too slow. Raises as `read`."""
        return self._take(step, database.transaction)

    def _take(self, step: Step[T], begun: Callable[[Engine], AbstractContextManager[Session]]) -> T:
        while True:
            try:
                with begun(self.engine) as session:
                    result = step(session, self.limit.rows)
            except DBAPIError as error:
                self.heartbeat()
                if database.sqlstate(error) not in database.TOO_SLOW or self.limit.rows == 1:
                    raise
                self.limit.halve()
                kind = type(error.orig or error).__name__
                log.warning("batch.halved", rows=self.limit.rows, error=kind, sqlstate=database.sqlstate(error))
            else:
                self.heartbeat()
                if self.limit.fit():
                    log.info("batch.doubled", rows=self.limit.rows)
                return result
