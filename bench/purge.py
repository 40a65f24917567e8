"""Purging facts while captures are written: `python -m bench.purge`, in a Postgres and an S3 of its own.

It fills `facts` with four for each capture that ended 100 days ago, archives the oldest of them with the real archiver,
and measures the latency of commits that write what a capture writes

    alone     with nothing beside it
    purge     while `archive.purging` reads batches back, compares each row, and deletes it
    drop      while a partition with as many facts is dropped; here the writer writes facts into other partitions

and how many bytes a capture takes before and afterwards. The other facts count as archived elsewhere.
"""

import argparse
import time
from datetime import timedelta

from archive.format.manifests import Source
from archive.policy import retention
from archive.policy.retention import Mode, Period, Policy, Rule, Unit
from archive.purging.purger import Purger
from archive.s3.store import Store
from archive.writing.batch_size import BatchSize
from archive.writing.writer import Writer
from bench.growth import HEAD, ID, LONG_AGO_MS, PARTITIONS, WORK_AND_CALLS, Growth, Phase
from billing import database
from billing.timing import PRODUCTION
from jobs import logs
from jobs.access import migrate
from jobs.local.postgres import Postgres
from jobs.local.seaweed import SeaweedFS
from jobs.local.supervisor import Supervisor

_UNIQUE = "facts_entity_type_entity_id_entity_version_key"
_FILL = (
    # Its indexes are built afterwards.
    f"ALTER TABLE billing.facts DROP CONSTRAINT {_UNIQUE}",
    f"""INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, correlation_id, payload,
                                   happened_at, planned_version, batch_no, archive_seq)
        SELECT (ARRAY['capture.requested', 'capture.attempted', 'capture.attempted', 'capture.captured'])[v], 'capture',
               {ID.format("cap")}, v, 'billing', 'order-' || n,
               CASE v WHEN 4 THEN jsonb_build_object('minor', 1999, 'currency', 'USD') ELSE
               jsonb_build_object('step', 'capture', 'generation', 1, 'outcome', 'learned', 'status', 200,
                                  'took_ms', mod(n, 900), 'request_id', 'req_' || md5(CAST(n AS text))) END,
               now() - interval '100 days', 1, CASE WHEN n > %(purged)s THEN 1000000000 END,
               CASE WHEN n > %(purged)s THEN n END
          FROM generate_series(1, %(captures)s) AS n, generate_series(1, 4) AS v ORDER BY n, v""",
    f"ALTER TABLE billing.facts ADD CONSTRAINT {_UNIQUE} UNIQUE (entity_type, entity_id, entity_version)",
    f"""INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency, state, version, charge,
                                      correlation_id, authorized_minor, authorized_currency, state_since)
        SELECT {ID.format("cap")}, 'order-' || n, 'pi_' || substr(md5(CAST(n AS text)), 1, 24), 1999, 'USD', 'captured',
               4, 'ch_' || substr(md5(CAST(n AS text)), 1, 24), 'order-' || n, 1999, 'USD', now() - interval '100 days'
          FROM generate_series(1, %(purged)s) AS n""",
)
_LARGE = ("billing.facts", "billing.captures")


class Purge(Growth):
    """`store`: a bucket of its own, set up."""

    def __init__(self, url: str, seconds: float, store: Store) -> None:
        super().__init__(url, seconds)
        self._store = store

    def measure(self, facts: int, purged: int) -> tuple[list[Phase], dict[str, float]]:
        """Each phase, and the bytes of a capture, with its indexes: of its own row, which stays, and of its facts."""
        filled = {"captures": facts // 4, "purged": purged // 4, "deleted": purged, "began": LONG_AGO_MS}
        with self._connect() as connection:
            connection.execute("SET maintenance_work_mem = '256MB'")
            for statement in _FILL:
                connection.execute(statement, filled)  # type: ignore[call-overload]
            began = time.monotonic()
            archived = self._archive()
            print(f"archived {archived:,} facts in {time.monotonic() - began:.0f} s", flush=True)
            for statement in PARTITIONS:
                connection.execute(statement, filled)  # type: ignore[call-overload]
            for table in _LARGE:
                connection.execute(f"VACUUM ANALYZE {table}")
            connection.execute("CHECKPOINT")
            sizes = {
                "work and calls": self._of_work_and_calls(purged // 4) / (purged // 4),
                "facts": self._bytes("billing.facts") / (facts // 4),
                "the capture": self._bytes("billing.captures") / (purged // 4),
            }
        phases = [
            self._phase("alone", lambda: time.sleep(self.seconds) or 0),
            self._phase("purge", self._purge),
            self._phase("drop", lambda: self._drop(purged), partitioned=True),
        ]
        return phases, sizes

    def _of_work_and_calls(self, operations: int) -> int:
        """Bytes while they are there: a purge comes after they were removed."""
        tables = ("billing.work", "billing.idempotency_records")
        with self._connect() as connection:
            for statement in WORK_AND_CALLS:
                connection.execute(statement, {"operations": operations, "began": LONG_AGO_MS})  # type: ignore[call-overload]
            found = sum(map(self._bytes, tables))
            connection.execute(f"TRUNCATE {', '.join(tables)} CASCADE")
        return found

    def _bytes(self, table: str) -> int:
        with self._connect() as connection:
            row = connection.execute("SELECT pg_total_relation_size(CAST(%s AS regclass))", [table]).fetchone()
        return int(str(row[0])) if row else 0

    def _archive(self) -> int:
        # Longer than what is kept in Postgres: facts stay whose copy may soon be disposed of.
        policy = Policy({name: Rule(Mode.GOVERNANCE, Period(365, Unit.DAY)) for name in retention.CLASSES})
        engine = database.open_engine(self.url, PRODUCTION, name="bench", statement_timeout_s=60, paging=True)
        writer = Writer(BatchSize(engine), self._store, policy, Source("test", "ins_bench"), 0.0, 60.0)
        archived = 0
        while moved := writer.round().archived:
            archived += moved
        engine.dispose()
        return archived

    def _purge(self) -> int:
        engine = database.open_engine(self.url, PRODUCTION, name="bench", statement_timeout_s=10)
        purged = Purger(engine, self._store, timedelta(days=90)).run()
        engine.dispose()
        for trouble in purged.troubles:
            raise trouble
        return purged.facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=int, default=20_000_000)
    parser.add_argument("--purged", type=int, default=1_000_000, help="facts that are archived and purged")
    parser.add_argument("--seconds", type=float, default=20, help="for which the writer is measured alone")
    given = parser.parse_args()
    logs.configure("warning")
    with Supervisor() as supervisor:
        postgres = Postgres(supervisor, durable=True, environment={})
        s3 = SeaweedFS(supervisor, durable=True, environment={})
        postgres.start()
        s3.start()
        migrate.upgrade(postgres.url, environment="test", livemode=False)
        store = s3.store("bench")
        store.set_up("test")
        began = time.monotonic()
        phases, sizes = Purge(postgres.url, given.seconds, store).measure(given.facts, given.purged)
        store.close()
        s3.stop()
        s3.remove_sockets()
        print(f"{given.facts:,} facts; {time.monotonic() - began:.0f} s in all\n{HEAD}")
        print("\n".join(phase.shown() for phase in phases))
        print("bytes of a capture: " + ", ".join(f"{name} {size:,.0f}" for name, size in sizes.items()))


if __name__ == "__main__":
    main()
