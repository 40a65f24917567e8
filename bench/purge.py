"""Purging facts while captures are written: `python -m bench.purge`, in a Postgres and an S3 of its own.

It fills `facts` with four for each capture that ended long ago, archives the oldest of them with the real archiver,
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
from bench.facts import FACTS, Captures, connected, table_bytes, work_and_calls_bytes
from bench.growth import HEAD, PARTITIONS, Growth, Phase
from billing import database
from billing.timing import PRODUCTION
from jobs import logs
from jobs.access import migrate
from jobs.local.postgres import Postgres
from jobs.local.seaweed import SeaweedFS
from jobs.local.supervisor import Supervisor

_LARGE = ("billing.facts", "billing.captures")


class Purge(Growth):
    """`store`: a bucket of its own, set up."""

    def __init__(self, url: str, seconds: float, store: Store) -> None:
        super().__init__(url, seconds)
        self._store = store

    def measure(self, facts: int, purged: int) -> tuple[list[Phase], dict[str, float]]:
        """Each phase, and the bytes of a capture, with its indexes: of its own row, which stays, and of its facts."""
        captures = purged // FACTS
        with connected(self.url) as connection:
            # The others count as archived elsewhere.
            others = f"CASE WHEN n > {captures} THEN {{}} END"
            Captures(facts // FACTS).make_facts(
                connection, batch_no=others.format("1000000000"), archive_seq=others.format("n")
            )
            Captures(captures).make_rows(connection)
            began = time.monotonic()
            archived = self._archive()
            print(f"archived {archived:,} facts in {time.monotonic() - began:.0f} s", flush=True)
            for statement in PARTITIONS:
                connection.execute(statement, {"deleted": purged})  # type: ignore[call-overload]
            for table in _LARGE:
                connection.execute(f"VACUUM ANALYZE {table}")
            connection.execute("CHECKPOINT")
            sizes = {
                "work and calls": work_and_calls_bytes(connection, captures),
                "facts": table_bytes(connection, "billing.facts") / (facts // FACTS),
                "the capture": table_bytes(connection, "billing.captures") / captures,
            }
        phases = [
            self._phase("alone", lambda: time.sleep(self.seconds) or 0),
            self._phase("purge", self._purge),
            self._phase("drop", lambda: self._drop(purged), partitioned=True),
        ]
        return phases, sizes

    def _archive(self) -> int:
        # Longer than what is kept in Postgres: facts stay whose copy may soon be disposed of.
        policy = Policy({name: Rule(Mode.GOVERNANCE, Period(10, Unit.YEAR)) for name in retention.CLASSES})
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
