"""How long an operator waits for `billing explain`: `python -m bench.explain`, in a Postgres of its own.

the process    from its start to its last line, and its CPU; the best of several, because others disturb it
the answer     of that, what Postgres is asked and what is made of it, in a process that has done it once before
"""

import argparse
import os
import resource
import subprocess
import sys
import time

from sqlalchemy import Engine

from bench.facts import FACTS, Captures, Connection, connected
from billing import database
from billing.explain import explain
from billing.timing import PRODUCTION
from jobs.access import migrate
from jobs.local.postgres import Postgres
from jobs.local.supervisor import Supervisor

HEAD = "| by | process, s | its CPU, s | answer, ms |\n|---|---|---|---|"


def names(connection: Connection) -> dict[str, str]:
    """The ids of one capture in the middle of all, by what they are."""
    row = connection.execute(
        "SELECT c.id, c.payment_intent, c.charge, c.request_id, f.payload ->> 'request_id'"
        "  FROM (SELECT * FROM billing.captures ORDER BY id"
        "        OFFSET (SELECT count(*) / 2 FROM billing.captures) LIMIT 1) AS c"
        "  JOIN billing.facts AS f ON f.entity_id = c.id AND f.topic = 'capture.attempted' LIMIT 1"
    ).fetchone()
    assert row is not None, "there are captures"
    kinds = ("our id", "payment intent", "charge", "request id", "answer")
    return {kind: str(name) for kind, name in zip(kinds, row, strict=True)}


def run(name: str, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds of wall time and of CPU."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "jobs.cli", "explain", name]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def answered(engine: Engine, name: str) -> float:
    """Seconds in this process."""
    began = time.perf_counter()
    with database.transaction(engine) as session:
        explain(session, name)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.explain", description=__doc__.splitlines()[0])
    parser.add_argument("--facts", type=int, default=1_000_000)
    parser.add_argument("--tries", type=int, default=7)
    given = parser.parse_args()
    with Supervisor() as supervisor:
        postgres = Postgres(supervisor, durable=True, environment={})
        postgres.start()
        migrate.upgrade(postgres.url, environment="test", livemode=False)
        made = Captures(given.facts // FACTS)
        with connected(postgres.url) as connection:
            made.make_facts(connection)
            made.make_rows(connection)
            made.make_work_and_calls(connection)
            connection.execute("VACUUM ANALYZE")
            asked = names(connection)
        environment = {
            **os.environ,
            "BILLING_ENVIRONMENT": "test",
            "BILLING_STRIPE_KEY": "sk_test_bench",
            "DATABASE_URL": postgres.url,
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "STRIPE_API_BASE": "http://127.0.0.1:1",
        }
        engine = database.open_engine(postgres.url, PRODUCTION, name="bench")
        print(f"{given.facts:,} facts\n{HEAD}")
        for kind, name in asked.items():
            wall, cpu = min(run(name, environment) for _ in range(given.tries))
            answer = min(answered(engine, name) for _ in range(given.tries))
            print(f"| {kind} | {wall:.2f} | {cpu:.2f} | {1000 * answer:.0f} |", flush=True)
        engine.dispose()


if __name__ == "__main__":
    main()
