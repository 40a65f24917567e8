"""Warns of captures whose authorization lapses soon: one fact for each, with its amount and what it waits for.

The nearest deadlines come first, page by page, each page in a short transaction. A capture is warned of once, so a run
that dies goes on where it was, and what one run does not reach is left to the next.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Engine, Row

from billing import database, row_io, statements
from billing.capture_steps import iso
from billing.facts import OWN, new_fact
from billing.tables.entities import Capture
from billing.tables.facts import Fact

SQL = statements.beside(__file__)
PAGE = 100
"""Captures of one transaction: a worker that wants one of their rows waits for as long as that takes."""
LEFT_OVER_S = 5.0
"""No further page is begun when so little time is left."""


def warn(engine: Engine, hours: int, left_s: Callable[[], float]) -> dict[str, Any]:
    """Write `capture.deadline_near` for each capture that has not ended and lapses within so many hours, or should
    have. `minor`: the money at risk, by currency. `complete`: False if there may be more."""
    warned, minor, complete = 0, Counter[str](), False
    while not complete and left_s() > LEFT_OVER_S:
        with database.transaction(engine) as session:
            rows = row_io.load(session, Capture, SQL["near"], hours=hours, most=PAGE)
            complete = len(rows) < PAGE
            if rows:
                now = database.now(session)
                works = statements.run(session, SQL["held_by"], ids=[row.id for row in rows])
                held_by = {work.entity_id: work for work in works}
                facts = [_warning(row, held_by.get(row.id)) for row in rows]
                for row in rows:
                    row.warned_at = now
                row_io.save(session, rows, facts)
        warned += len(rows)
        for row in rows:
            minor[row.currency] += row.amount_minor
    return {"captures": warned, "minor": dict(minor), "complete": complete}


def _warning(row: Capture, work: Row[Any] | None) -> Fact:
    holds: Mapping[str, Any] = {"work_state": "unplanned", "why": None}
    if work is not None:
        # Without what follows the code: a switch's reason is in words of a person.
        holds = {"work_state": work.state, "why": work.reason and work.reason.partition(":")[0]}
    return new_fact(
        row,
        "deadline_near",
        minor=row.amount_minor,
        currency=row.currency,
        account=row.account or OWN,
        capture_before=iso(row.capture_before),
        **holds,
    )
