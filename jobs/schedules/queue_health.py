"""The hourly snapshot: what waits where, and how much of it is in doubt. It reads as the metrics do.

The result is in the fact `run.done` of the schedule `snapshot_queues`, under `result`: by statement of
`jobs/metrics/reading.sql` its rows, without those of the archive, which a worker may not read.
"""

from typing import Any

from sqlalchemy import Engine

from billing import statements
from billing.database import snapshot as one_moment
from jobs.metrics import reading

STATEMENTS = ("work", "in_doubt", "undecided", "expiring")
"""By queue and state, how much work there is and how old the oldest is; what is in doubt, by operation and currency,
with its money; calls that no look could decide; captures whose authorization lapses within a day."""
ROWS_MOST = 60
"""Of each: there are 18 of `work`, and of the others few where few currencies are used."""


def snapshot(engine: Engine) -> dict[str, Any]:
    """All of it as it was at one moment. Counts stop at 20,000; ages are in whole seconds, money in minor units."""
    with one_moment(engine) as session:
        found = {
            name: statements.run(session, reading.SQL[name], **reading.VALUES).mappings().fetchmany(ROWS_MOST)
            for name in STATEMENTS
        }
    return {name: [{key: _plain(value) for key, value in row.items()} for row in rows] for name, rows in found.items()}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else int(value)
