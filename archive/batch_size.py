"""The archiver's transactions, each with as many rows as fit: what Postgres finds too slow is done again with less.

It is undone first, so the archiver moves on as long as a single row fits.
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
"""Given how many rows it may take."""

MOST_ROWS = 10_000
"""The claim takes a third of a second for them. More would make a statement long, fewer make more objects."""
FITTING = 16
"""So many statements in a row must fit before more rows are tried."""
MOST_FITTING = 1024
"""Each time that more did not fit after all, twice as many must; at most this."""


def limited_to(most: int) -> BatchLimit:
    """As an archiver takes more again: rarely, because each try that fails costs it seconds."""
    return BatchLimit(most, FITTING, MOST_FITTING)


@dataclass(slots=True)
class BatchSize:
    """One per archiver. `heartbeat` is called after every try, because a process that tries for long is alive."""

    engine: Engine
    limit: BatchLimit = field(default_factory=lambda: limited_to(MOST_ROWS))
    heartbeat: Callable[[], None] = lambda: None

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
