"""How long a file of captures takes, and how much memory: `python -m bench.bulk`.

Each run starts a Postgres that writes to disk as in production, makes a file of so many rows, and runs the command as
an operator does, in a process of its own: once to check it (`--dry-run`), once to ask for it, and once more when it is
done. Nothing else runs, so no relay plans the requests meanwhile.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from jobs.access import migrate
from jobs.local.postgres import Postgres
from jobs.local.supervisor import Supervisor

GOAL_ROWS, GOAL_S = 100_000, 60.0


@dataclass(frozen=True, slots=True)
class Ran:
    """One command: seconds by the clock, seconds of its own CPU, and the most memory that it had, in MB."""

    wall_s: float
    cpu_s: float
    memory_mb: float


def lines(rows: int) -> Iterator[str]:
    yield "payment_intent,amount,currency,request_id,correlation_id\n"
    for number in range(rows):
        yield f"pi_3Q{number:018d}xyz,{100 + number % 10_000},USD,order-{number},checkout-{number}\n"


def run(url: str, *arguments: str) -> Ran:
    settings = {
        "BILLING_ENVIRONMENT": "test",
        "BILLING_STRIPE_KEY": "sk_test_bench",
        "DATABASE_URL": url,
        "REDIS_URL": "redis://127.0.0.1:1/0",  # not used by this command
        "BILLING_ACTOR": "bench",
    }
    began = time.monotonic()
    command = [sys.executable, "-m", "jobs.cli", "capture", "--from-file", *arguments]
    everything = {**os.environ, **settings}
    process = subprocess.Popen(command, env=everything, stdout=subprocess.DEVNULL)  # noqa: S603 - ourselves
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"bench.bulk: the command ended with status {os.waitstatus_to_exitcode(status)}")
    return Ran(time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def measure(rows: int) -> dict[str, Ran]:
    with Supervisor() as supervisor, tempfile.TemporaryDirectory() as directory:
        postgres = Postgres(supervisor, durable=True, environment={})
        postgres.start()
        migrate.upgrade(postgres.url, environment="test", livemode=False)
        path = Path(directory) / "orders.csv"
        with path.open("w") as file:
            file.writelines(lines(rows))
        found = {
            "checked": run(postgres.url, str(path), "--dry-run"),
            "asked for": run(postgres.url, str(path), "--reason", "bench", "--confirm", str(rows)),
            "again": run(postgres.url, str(path), "--reason", "bench"),
        }
        with psycopg.connect(postgres.url) as connection:
            row = connection.execute("SELECT count(*), count(DISTINCT request_id) FROM billing.captures").fetchone()
        if row != (rows, rows):
            sys.exit(f"bench.bulk: {rows} rows were asked for, and {row} are there")
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=GOAL_ROWS)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    runs = [measure(given.rows) for _ in range(given.runs)]
    print(f"{given.rows:,} rows, median of {given.runs}\n{'':10} {'s':>6} {'rows/s':>8} {'CPU s':>6} {'MB':>5}")
    for name in runs[0]:
        wall_s = statistics.median(each[name].wall_s for each in runs)
        cpu_s = statistics.median(each[name].cpu_s for each in runs)
        memory = max(each[name].memory_mb for each in runs)
        print(f"{name:10} {wall_s:6.1f} {given.rows / wall_s:8,.0f} {cpu_s:6.1f} {memory:5.0f}")
    if given.rows == GOAL_ROWS and statistics.median(each["asked for"].wall_s for each in runs) > GOAL_S:
        sys.exit(f"bench.bulk: {GOAL_ROWS:,} rows must be asked for within {GOAL_S:g} s")


if __name__ == "__main__":
    main()
