"""Reads what the database knows for the numbers of a relay: in a thread and on a connection of its own.

Nothing is read where nobody scrapes. No scrape waits for Postgres longer than `WAIT_S`, and none fails because of it:
what is too old, took too long or could not be read is missing, and counted.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import Engine

from archive.policy.retention import CLASSES
from billing import database, statements
from billing.operation_rows import ABOUT_MONEY
from billing.states import WorkState
from billing.tables.facts import RETENTION_CLASS
from jobs.config import queues
from jobs.road.verdicts import Failure, classify

log = structlog.get_logger()

SQL = statements.beside(__file__, about_money=ABOUT_MONEY, class_of_fact=RETENTION_CLASS)
EVERY_S = 10.0
"""However many scrape, and however often, nothing is read more often."""
LIMIT_S = 1.0
"""Postgres ends a statement that takes longer."""
SLOW_S, REST = 0.1, 20
"""What took longer than this rests for so many times as long: with a million rows waiting, reading costs 5 % of a core
at most."""
STALE_S = 90.0
"""What was read longer ago is not shown. A statement that took all of its second rests for 20."""
WAIT_S = 2.0
"""So long a scrape waits for a reading that it has asked for."""
COUNT_MOST = 20_000
"""So many rows are read for a count: with a million waiting, the count matters less than that it is there."""

Rows = Sequence[Mapping[str, Any]]


class Reading:
    """What the statements of `reading.sql` said last.

    `open_engine` gets the time limit of a statement in seconds. `count` gets each statement's name and its outcome:
    `read`, `too_slow` or `failed`.
    """

    def __init__(
        self,
        open_engine: Callable[[float], Engine],
        count: Callable[[str, str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_engine, self._count, self._clock = open_engine, count, clock
        self._engine: Engine | None = None
        self._found: dict[str, tuple[float, Rows]] = {}
        self._not_before: dict[str, float] = {}
        self._read_at = float("-inf")
        self._rounds = 0
        self._wanted = self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="metrics-reading", daemon=True).start()

    def close(self) -> None:
        """The thread ends when it next wakes; where Postgres hangs, with the process."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def rows(self) -> Mapping[str, Rows]:
        """By statement. Asks for a new reading where the last is old, and waits a moment for it."""
        with self._changed:
            if self._clock() >= self._read_at + EVERY_S:
                self._wanted, seen = True, self._rounds
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._rounds > seen, WAIT_S)
            known_since = self._clock() - STALE_S
            return {name: rows for name, (at, rows) in self._found.items() if at >= known_since}

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closed)
                if self._closed:
                    break
            self._read_all()
            with self._changed:
                self._wanted, self._read_at, self._rounds = False, self._clock(), self._rounds + 1
                self._changed.notify_all()
        if self._engine is not None:
            self._engine.dispose()

    def _read_all(self) -> None:
        names = [name for name in SQL if self._clock() >= self._not_before.get(name, 0.0)]
        for number, name in enumerate(names):
            if not self._read(name):
                for unread in names[number + 1 :]:
                    self._count(unread, "failed")
                return

    def _read(self, name: str) -> bool:
        """False: Postgres is away, and the others need not be tried."""
        began = self._clock()
        try:
            self._engine = self._engine or self._open_engine(LIMIT_S)
            with database.autocommit(self._engine) as session:
                rows = [dict(row) for row in statements.run(session, SQL[name], **VALUES).mappings()]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted, and nothing but these numbers is lost
            self._found.pop(name, None)
            self._not_before[name] = self._clock() + REST * (self._clock() - began)
            self._count(name, "too_slow" if database.sqlstate(error) in database.TOO_SLOW else "failed")
            if classify(error) is not Failure.RECONNECT:
                return True
            if self._engine is not None:
                self._engine.dispose()
            return False
        took_s = self._clock() - began
        self._found[name] = self._clock(), rows
        self._not_before[name] = self._clock() + REST * took_s if took_s > SLOW_S else 0.0
        self._count(name, "read")
        return True


VALUES: Mapping[str, Any] = {
    "most": COUNT_MOST,
    "queues": list(queues.NAMES),
    "states": [state for state in WorkState if state != WorkState.DONE],
    "classes": list(CLASSES),
}
"""The parameters of every statement; each takes those that it names."""
