"""Removing old rows while new ones are written: `python -m bench.growth`, in a Postgres of its own.

It fills `facts` and, for a part of the operations, work and calls, as if they had ended long ago and were archived.
Then somebody writes all the time, in one transaction, what a capture writes; the latency of these commits is measured

    alone       with nothing beside it
    clean-up    while `jobs.growth.clean_up` removes work and calls
    delete      while facts are deleted in batches, and nothing is compared; `bench.purge` measures the product's purge
    drop        while a partition with as many facts is dropped; here the writer writes facts into other partitions

A table with partitions has no unique index over all its rows: each unique index must contain the column by which the
table is partitioned.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from uuid import uuid4

from bench.facts import FACTS, Captures, Connection, connected
from billing import database
from billing.timing import PRODUCTION
from jobs.access import migrate
from jobs.growth.clean_up import clean_up
from jobs.local.postgres import Postgres
from jobs.local.supervisor import Supervisor

BATCH = 5_000
"""Facts that one DELETE takes; it rests for as long as it took."""
PAUSE_S = 0.02
"""Between two commits of the writer."""
LEAST = 2
"""Commits of the writer in each phase; fewer have no percentile."""


@dataclass
class Phase:
    """`removed` rows in `took_s`, with so much WAL in bytes; `commits_ms`: each commit of the writer meanwhile."""

    name: str
    removed: int = 0
    took_s: float = 0.0
    wal: int = 0
    commits_ms: list[float] = field(default_factory=list)

    def shown(self) -> str:
        p50, p99 = (statistics.quantiles(self.commits_ms, n=100)[at] for at in (49, 98))
        rate = f"{self.removed / self.took_s:,.0f}" if self.removed and self.took_s else ""
        return (
            f"| {self.name} | {self.removed:,} | {self.took_s:.2f} | {rate} | {self.wal / 1e6:,.1f} |"
            f" {p50:.1f} | {p99:.1f} | {max(self.commits_ms):.0f} |"
        )


HEAD = "| phase | rows removed | s | rows/s | WAL, MB | commit p50, ms | p99 | longest |\n" + "|---" * 8 + "|"

_ARCHIVED = """
    INSERT INTO billing.archive_batches (class, number, event_date, rows, first_seq, last_seq, first_fact, last_fact,
           lock_mode, locked_until, manifest_lock_mode, manifest_locked_until, state, object_sha256, object_version,
           manifest_sha256, archived_at)
    SELECT class, 1, current_date, 1, 1, 1, 1, 1, 'GOVERNANCE', now(), 'GOVERNANCE', now(), 'archived', 'a', 'b', 'c',
           now()
      FROM unnest(ARRAY['attempt', 'capture']) AS c (class)"""
PARTITIONS = (
    "CREATE TABLE public.parts (LIKE billing.facts INCLUDING DEFAULTS) PARTITION BY RANGE (id)",
    "CREATE TABLE public.old PARTITION OF public.parts FOR VALUES FROM (0) TO (%(deleted)s)",
    "CREATE TABLE public.new PARTITION OF public.parts FOR VALUES FROM (%(deleted)s) TO (MAXVALUE)",
    "INSERT INTO public.parts SELECT * FROM billing.facts WHERE id < %(deleted)s",
    "ALTER TABLE public.parts ADD PRIMARY KEY (id)",
    "CREATE UNIQUE INDEX ON public.old (entity_type, entity_id, entity_version)",
    "CREATE UNIQUE INDEX ON public.new (entity_type, entity_id, entity_version)",
)

_WRITE = """
    WITH capture AS (INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency)
                     VALUES (%(cap)s, %(cap)s, 'pi_' || %(number)s || 'w' || substr(%(cap)s, 5), 1999, 'USD')),
         work AS (INSERT INTO billing.work (id, contract, version, queue, entity_id, scopes, state, urgency, dedupe_key)
                  VALUES (%(wrk)s, 'take_capture', 1, 'captures', %(cap)s, '{}', 'done', now(), %(wrk)s)),
         call AS (INSERT INTO billing.idempotency_records (id, operation_id, step, generation, work_id, queue, key,
                                                           method, path, body, livemode, api_version)
                  VALUES (%(wrk)s, %(cap)s, 'capture', 1, %(wrk)s, 'captures', %(wrk)s, 'POST', '/', '', true, 'v'))
    INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)
    SELECT 'capture.requested', 'capture', %(cap)s, v, 'billing', '{"minor": 1999}' FROM generate_series(1, 4) AS v"""
_WRITE_PART = """
    INSERT INTO public.parts (id, topic, version, entity_type, entity_id, entity_version, actor, payload, happened_at)
    SELECT 1000000000 + 4 * %(number)s + v, 'capture.requested', 1, 'capture', %(cap)s, v, 'billing', '{"minor": 1999}',
           now() FROM generate_series(1, 4) AS v"""


def _write(url: str, over: Event, told: "Queue[list[float]]", partitioned: bool) -> None:
    """Commit what a capture writes until it is over; then tell how long each commit took, in ms."""
    commits_ms: list[float] = []
    with connected(url) as connection:
        told.put([])
        while len(commits_ms) < LEAST or not over.wait(PAUSE_S):
            values = {"cap": f"cap_{uuid4().hex}", "wrk": f"wrk_{uuid4().hex}", "number": len(commits_ms)}
            began = time.monotonic()
            connection.execute(_WRITE_PART if partitioned else _WRITE, values)
            commits_ms.append(1000 * (time.monotonic() - began))
    told.put(commits_ms)


@dataclass
class Growth:
    url: str
    seconds: float

    def run(self, facts: int, operations: int, deleted: int) -> list[Phase]:
        with connected(self.url) as connection:
            Captures(facts // FACTS).make_facts(connection, batch_no="1", archive_seq="n")
            Captures(operations).make_rows(connection)
            Captures(operations).make_work_and_calls(connection)
            connection.execute(_ARCHIVED)
            for statement in PARTITIONS:
                connection.execute(statement, {"deleted": deleted})  # type: ignore[call-overload]
            for table in ("billing.facts", "billing.work", "billing.idempotency_records", "billing.captures"):
                connection.execute(f"VACUUM ANALYZE {table}")
            connection.execute("CHECKPOINT")
        return [
            self._phase("alone", lambda: time.sleep(self.seconds) or 0),
            self._phase("clean-up", self._clean_up),
            self._phase("delete", lambda: self._delete(deleted)),
            self._phase("drop", lambda: self._drop(deleted), partitioned=True),
        ]

    def _phase(self, name: str, remove: Callable[[], int], *, partitioned: bool = False) -> Phase:
        phase = Phase(name)
        with connected(self.url) as connection, self._writer(phase, partitioned=partitioned):
            time.sleep(self.seconds / 4)
            before, began = self._wal(connection), time.monotonic()
            phase.removed = remove()
            phase.took_s, phase.wal = time.monotonic() - began, self._wal(connection) - before
            time.sleep(self.seconds / 4)
        return phase

    @staticmethod
    def _wal(connection: Connection) -> int:
        row = connection.execute("SELECT CAST(pg_current_wal_lsn() - '0/0' AS bigint)").fetchone()
        return int(str(row[0])) if row else 0

    @contextmanager
    def _writer(self, phase: Phase, *, partitioned: bool) -> Iterator[None]:
        """A process of its own, as an application is: in this one it would wait for our own Python code."""
        fresh = multiprocessing.get_context("spawn")
        over, told = fresh.Event(), fresh.Queue()
        writer = fresh.Process(target=_write, args=(self.url, over, told, partitioned))
        writer.start()
        told.get()  # it is connected
        try:
            yield
        finally:
            over.set()
            phase.commits_ms = told.get()
            writer.join()

    def _clean_up(self) -> int:
        engine = database.open_engine(self.url, PRODUCTION, name="bench")
        removed = clean_up(engine)
        engine.dispose()
        return removed.work + removed.calls

    def _delete(self, below: int) -> int:
        removed = 0
        with connected(self.url) as connection:
            for start in range(0, below, BATCH):
                began = time.monotonic()
                statement = "DELETE FROM billing.facts WHERE id >= %s AND id < %s"
                removed += connection.execute(statement, [start, min(start + BATCH, below)]).rowcount
                time.sleep(time.monotonic() - began)
        return removed

    def _drop(self, rows: int) -> int:
        with connected(self.url) as connection:
            connection.execute("DROP TABLE public.old")
        return rows - 1


def sizes(url: str) -> str:
    with connected(url) as connection:
        rows = connection.execute(
            "SELECT relname, pg_total_relation_size(relid), n_live_tup, n_dead_tup FROM pg_stat_all_tables"
            " WHERE schemaname = 'billing' ORDER BY 2 DESC LIMIT 4"
        ).fetchall()
    return "; ".join(f"{name} {size / 1e6:,.0f} MB, {live:,} rows, {dead:,} dead" for name, size, live, dead in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=int, default=20_000_000)
    parser.add_argument("--operations", type=int, default=200_000, help="of which work and calls are removed")
    parser.add_argument("--deleted", type=int, default=1_000_000, help="facts that are deleted, and dropped")
    parser.add_argument("--seconds", type=float, default=20, help="for which the writer is measured alone")
    given = parser.parse_args()
    with Supervisor() as supervisor:
        postgres = Postgres(supervisor, durable=True, environment={})
        postgres.start()
        migrate.upgrade(postgres.url, environment="test", livemode=False)
        began = time.monotonic()
        growth = Growth(postgres.url, given.seconds)
        phases = growth.run(given.facts, given.operations, given.deleted)
        print(f"{given.facts:,} facts; {time.monotonic() - began:.0f} s in all\n{HEAD}")
        print("\n".join(phase.shown() for phase in phases))
        print(sizes(postgres.url))


if __name__ == "__main__":
    main()
