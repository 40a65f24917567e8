"""Removes the work and the calls of operations that ended long ago and are archived: page by page, the oldest first.

Ids begin with their time, so the oldest rows lie together: whole pages of the tables and their indexes become free, and
are used again. Each page is a short transaction. A run may die after any of them, and any number of runs may be at work
at once, because each skips what another one holds.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Engine, Row, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from billing import database, statements
from billing.batch_limit import BatchLimit
from billing.operations import OPERATIONS
from billing.registration import Operation
from billing.tables.work import Work
from jobs.growth import retention

PAGE = 500
"""Pieces of work that one transaction looks at."""
REST = 1.0
"""After each page it rests for so many times as long as the page took: it takes half of one connection's time."""
_NEVER = float("inf")

Page: TypeAlias = Sequence[Row[Any]]
"""Pieces of work, each with `id`, `entity_id` and `young`."""


@dataclass(frozen=True, slots=True)
class Removed:
    """How much was removed, or would be: operations, and rows of three tables. `complete`: False if it ended early, and
    there may be more."""

    operations: int = 0
    work: int = 0
    calls: int = 0
    failures: int = 0
    complete: bool = True

    def __add__(self, other: "Removed") -> "Removed":
        return Removed(
            self.operations + other.operations,
            self.work + other.work,
            self.calls + other.calls,
            self.failures + other.failures,
            self.complete and other.complete,
        )


def clean_up(
    engine: Engine,
    *,
    at_least_days: int = 0,
    only_count: bool = False,
    most: float = _NEVER,
    within_s: float = _NEVER,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Removed:
    """Remove what may go; with `only_count`, remove nothing and count it.

    `at_least_days` lengthens the windows of `retention.KEPT`. It takes no further page after `most` operations, after
    `within_s` seconds, or when it is asked to stop. A page that takes too long is tried again with half as many rows;
    any other error of Postgres is raised, and what was removed before it stays removed.
    """
    limit, after, removed = BatchLimit(PAGE), "", Removed()
    began = time.monotonic()
    while True:
        page_began = time.monotonic()
        if stop_requested() or removed.operations >= most or page_began - began > within_s:
            removed += Removed(complete=False)
            break
        try:
            with database.transaction(engine) as session:
                page = _page(session, after, limit.rows, at_least_days)
                found = _of_page(session, page, at_least_days, only_count=only_count)
        except DBAPIError as error:
            if database.sqlstate(error) not in database.TOO_SLOW or limit.rows == 1:
                raise
            limit.halve()
            continue
        limit.fit()
        removed += found
        if all(row.young for row in page):
            break
        after = page[-1].id
        if not only_count:
            time.sleep(REST * (time.monotonic() - page_began))
    return removed


def _page(session: Session, after: str, rows: int, at_least_days: int) -> Page:
    """The next pieces of work by their ids, whatever their state. Young ones, planned within the shortest window, end
    the run if there is nothing else on a page."""
    youngest = func.clock_timestamp() - retention.shortest(at_least_days)
    columns: tuple[Any, ...] = (Work.id, Work.entity_id, (Work.created_at >= youngest).label("young"))
    return session.execute(select(*columns).where(Work.id > after).order_by(Work.id).limit(rows)).all()


def _of_page(session: Session, page: Page, at_least_days: int, *, only_count: bool) -> Removed:
    ids = {row.entity_id for row in page if not row.young}
    removed = Removed()
    for kind, operation in OPERATIONS.items():
        mine = [each for each in ids if each.startswith(f"{operation.prefix}_")]
        for window, states in retention.windows(kind, at_least_days).items() if mine else ():
            ended = _ended(session, operation, mine, states)
            values = {"kind": kind, "ids": ended, "window": window, "only_count": only_count}
            removed += Removed(*statements.run(session, _REMOVE, **values).one())
    return removed


def _ended(session: Session, operation: Operation, ids: Sequence[str], states: Sequence[str]) -> list[str]:
    """Those that came to one of these states. Since when is judged by their work, which ends in the same commit."""
    table = operation.table
    return list(session.scalars(select(table.id).where(table.id.in_(ids), table.state.in_(states))))


_REMOVE = (
    "SELECT operations, work, calls, failures FROM billing.remove_concluded("
    "%(kind)s, CAST(%(ids)s AS text[]), CAST(%(window)s AS interval), %(only_count)s)"
)
