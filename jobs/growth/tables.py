"""How large the tables are, how much they grew on each of the last days, and how large they will be.

Nothing reads a whole table: sizes are those of the files, the number of all rows is Postgres' own estimate, and the
rows of a day are counted in an index. Ids begin with their time. A fact's id rises with time, so a day's first fact is
found by halving.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from billing import database, ids, statements
from billing.operation_rows import REQUESTED
from billing.operations import OPERATIONS
from billing.tables.entities import Requested

SQL = statements.beside(__file__, requested=REQUESTED)

DAYS = 7
"""The growth is the mean of so many periods of 24 hours, or of as many as the installation is old."""
COUNT_MOST = 5_000_000
"""So many rows of a day are counted."""

_REQUESTS = {
    str(operation.table.__tablename__): operation.prefix
    for operation in OPERATIONS.values()
    if issubclass(operation.table, Requested)
}
_PREFIXES = {**_REQUESTS, "invoice_lines": "inv", "work": "wrk", "idempotency_records": "rec"}
"""What the ids begin with in tables that are counted by id."""


@dataclass(frozen=True, slots=True)
class Size:
    """`rows` is an estimate. `other_bytes`: values that are stored apart because they are long, and maps."""

    name: str
    rows: int
    dead_rows: int
    heap_bytes: int
    index_bytes: int
    other_bytes: int

    @property
    def bytes(self) -> int:
        return self.heap_bytes + self.index_bytes + self.other_bytes


@dataclass(frozen=True, slots=True)
class Forecast:
    """If the table grows as in the last days, and nothing is removed."""

    days: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Growth:
    """`by_day`: rows written in each period of 24 hours that ended so many days ago, the last one first; of what is
    still there. None where they are not counted, or counting took too long; then there is no forecast either."""

    size: Size
    bytes: int
    by_day: list[int] | None
    per_day: float | None
    forecasts: list[Forecast]


def growth(engine: Engine, horizons: Sequence[int] = (30, 90)) -> list[Growth]:
    """Every table, the largest first, with a forecast for each number of days."""
    with database.transaction(engine) as session:
        sizes = [Size(**row) for row in statements.run(session, SQL["sizes"]).mappings()]
        age = statements.run(session, SQL["age"]).one()
    days = max(1, min(DAYS, math.ceil(float(age.age_s) / timedelta(days=1).total_seconds())))
    bounds = [age.now - timedelta(days=day) for day in range(days + 1)]
    return [_of(size, _by_day(engine, size.name, bounds), horizons) for size in sizes]


def _of(size: Size, by_day: list[int] | None, horizons: Sequence[int]) -> Growth:
    if by_day is None:
        return Growth(size, size.bytes, None, None, [])
    per_day = sum(by_day) / len(by_day)
    # Of a table that is nearly empty, the bytes of one row say nothing.
    of_a_row = size.bytes / max(size.rows, sum(by_day), 1)
    ahead = [Forecast(d, round(size.rows + d * per_day), round(size.bytes + d * per_day * of_a_row)) for d in horizons]
    return Growth(size, size.bytes, by_day, per_day, ahead)


def _by_day(engine: Engine, table: str, bounds: Sequence[datetime]) -> list[int] | None:
    """`bounds` go back in time. Each table has a transaction of its own: a count that takes too long is left out."""
    if table not in (*_PREFIXES, "facts"):
        return None
    try:
        with database.transaction(engine) as session:
            marks: list[Any] = (
                [first_fact(session, bound) for bound in bounds]
                if table == "facts"
                else [ids.first(_PREFIXES[table], bound) for bound in bounds]
            )
            values = {"lows": marks[1:], "highs": marks[:-1], "most": COUNT_MOST}
            return list(statements.run(session, SQL["requests" if table in _REQUESTS else table], **values).scalars())
    except DBAPIError as error:
        if database.sqlstate(error) in database.TOO_SLOW:
            return None
        raise


def first_fact(session: Session, since: datetime) -> int:
    """The id of the first fact since then, found by halving. Of facts that are written at once, the order may differ by
    moments."""
    low, high = 0, statements.run(session, SQL["last_fact"]).scalar_one() + 1
    while low < high:
        middle = (low + high) // 2
        row = statements.run(session, SQL["next_fact"], id=middle).one_or_none()
        if row is None or row.happened_at >= since:
            high = middle
        else:
            low = row.id + 1
    return low
