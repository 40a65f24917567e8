"""Ten million facts are made, archived, verified, asked about and purged: `make bench-archive`.

On a Postgres and an S3 of its own, by the product's own commands and the auditor's `verify.py`, each in a process of
its own:

    made       facts of captures of the year 2025 (`bench.facts`), straight into Postgres
    archived   `billing archive run --once`, which signs; and how many bytes a fact takes in S3
    verified   `billing archive verify`, and `verify.py`
    asked      a payment and a month, with and without copies on this machine (`bench.queries`)
    purged     by the archiver's purger, which reads each batch back and compares each row; without its rests

At the end counts and sums must agree: what was made, what `verify.py` found, what the purge says it removed, and what
Postgres still has. It prints tables for docs/benchmarks.md, and the bytes that a capture takes in Postgres.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from archive.purging import purger
from archive.signing.ed25519 import Ed25519Signer, new_private_key
from bench import queries, steps
from bench.facts import (
    CURRENCIES,
    FACTS,
    Captures,
    Connection,
    asked,
    connected,
    table_bytes,
    work_and_calls_bytes,
)
from bench.steps import HEAD, Step
from bench.stored import every_version
from jobs.access import migrate
from jobs.cli.opening import open_runtime
from jobs.local.postgres import Postgres
from jobs.local.seaweed import REGION, SeaweedFS
from jobs.local.supervisor import Supervisor
from jobs.process import archiving, buckets

ENVIRONMENT = "test"
RETENTION = 'mode = "GOVERNANCE"\nkeep_days = 3650\n'
"""Longer than what is kept in Postgres: facts stay whose copy may soon be disposed of."""
KEEP_FACTS_DAYS = 90
SAMPLE = 50_000
"""Captures whose work and calls are made, to see how many bytes these take."""
ONE_CAPTURE = "SELECT id, payment_intent FROM billing.captures ORDER BY id OFFSET %s LIMIT 1"


@dataclass
class Life:
    """One archive from its first fact to its last. `place`: a directory for files."""

    url: str
    s3: SeaweedFS
    bucket: str
    place: Path
    captures: int
    days: int = queries.DAYS
    objects: int = 0
    size: int = 0
    progress: Callable[[str], None] = lambda _: None
    steps: list[Step] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    bytes_of_a_capture: dict[str, float] = field(default_factory=dict)

    @property
    def facts(self) -> int:
        return FACTS * self.captures

    def run(self, most_answers: int | None = None) -> None:
        """`most_answers`: of three for each question."""
        with connected(self.url) as connection:
            self._make(connection)
            self._archive(connection)
            found = self._verify()
            self._ask(connection, most_answers)
            self._purge(connection)
            self._compare(connection, found)

    def _make(self, connection: Connection) -> None:
        self.bytes_of_a_capture["work and calls"] = work_and_calls_bytes(connection, min(self.captures, SAMPLE))
        began = time.monotonic()
        captures = Captures(self.captures, self.days * 86_400_000 / self.captures)
        captures.make_facts(connection, told=lambda done: self.progress(f"made: {done:,} facts"))
        self.steps.append(Step("made", self.facts, time.monotonic() - began))
        self.bytes_of_a_capture["facts"] = table_bytes(connection, "billing.facts") / self.captures
        captures.make_rows(connection)
        self.bytes_of_a_capture["the capture"] = table_bytes(connection, "billing.captures") / self.captures
        for table in ("facts", "captures"):
            connection.execute(f"VACUUM ANALYZE billing.{table}")
        connection.execute("CHECKPOINT")

    def _archive(self, connection: Connection) -> None:
        key = self.place / "signing_key.pem"
        key.touch(mode=0o600)
        key.write_text(new_private_key())
        self.place.joinpath("key.pem").write_bytes(Ed25519Signer.read(key.read_text()).pem)
        self.place.joinpath("retention.toml").write_text(RETENTION)
        store = self.s3.store(self.bucket)
        store.set_up(ENVIRONMENT)
        count = "SELECT sum(rows) FROM billing.archive_batches WHERE state = 'archived'"
        self._step("archived", ["-m", "jobs.cli", "archive", "run", "--once"], lambda: asked(connection, count))
        sizes = [each.size for each in every_version(store) if each.key.startswith("v1/")]
        self.objects, self.size = len(sizes), sum(sizes)
        remark = f"{self.objects:,} objects, {self.size / self.facts:.0f} bytes a fact"
        self.steps[-1] = replace(self.steps[-1], remark=remark)
        store.close()

    def _verify(self) -> dict[str, int]:
        """How many facts `verify.py` found, as `facts`, and how much money they say was captured, by currency."""
        self._step("verified by `billing archive verify`", ["-m", "jobs.cli", "archive", "verify"])
        verifier = self.place / "verify.py"
        verifier.write_text(files("archive.verifying").joinpath("verify.py").read_text())
        given = [self.bucket, "--key", str(self.place / "key.pem"), "--endpoint-url", self.s3.url]
        said = self._step("verified by `verify.py`", [str(verifier), *given])
        (facts,) = re.findall(r'"facts": (\d+)', said)
        (captured,) = re.findall(r"captured, in minor units: (\{.*?\})", said)
        return {"facts": int(facts), **json.loads(captured)}

    def _ask(self, connection: Connection, most: int | None) -> None:
        row = connection.execute(ONE_CAPTURE, [self.captures // 2]).fetchone()
        assert row is not None
        capture, payment = map(str, row)
        written = queries.Written(self.objects, self.size, payment, capture)
        asking = queries.measured(self.s3, self.bucket, written, self.place)
        for answer in islice(asking, most):
            self.progress(f"asked: {answer['what']}, {answer['state']}, {answer['seconds']:.1f} s")
            self.answers.append(answer)

    def _purge(self, connection: Connection) -> None:
        count = "SELECT sum(purged_rows) FROM billing.archive_batches"
        self._step("purged", ["-m", "bench.archive", "--only-purge"], lambda: asked(connection, count))
        # Without the room that is kept for the next facts.
        connection.execute("VACUUM FULL billing.facts")
        self.bytes_of_a_capture["facts, after the purge"] = table_bytes(connection, "billing.facts") / self.captures

    def _compare(self, connection: Connection, found: Mapping[str, int]) -> None:
        money = "SELECT sum({}) FROM billing.{} WHERE {} = %s"
        of_batches = "CAST(payload -> 'captured' ->> %s AS bigint)"
        for currency in CURRENCIES:
            made = asked(connection, money.format("amount_minor", "captures", "currency"), [currency])
            purged = asked(connection, money.format(of_batches, "facts", "topic"), [currency, "batch.purged"])
            assert made == purged == found.get(currency, 0), (currency, made, purged, found)
        assert found["facts"] == self.facts, found
        assert asked(connection, "SELECT sum(purged_rows) FROM billing.archive_batches") == self.facts
        assert asked(connection, "SELECT count(*) FROM billing.facts WHERE entity_type = 'capture'") == 0
        self.progress("counts and sums agree: made, archived, purged")

    def _step(self, name: str, program: Sequence[str], count: Callable[[], int] | None = None) -> str:
        step, said = steps.run(name, self.facts, program, self._environment(), count, self.progress)
        self.steps.append(step)
        self.progress(step.row)
        return said

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(self.place),
            "DATABASE_URL": self.url,
            "BILLING_ENVIRONMENT": ENVIRONMENT,
            "BILLING_LOG_LEVEL": "warning",
            "BILLING_HEALTH_DIRECTORY": str(self.place / "health"),
            "BILLING_ARCHIVE_BUCKET": self.bucket,
            "BILLING_ARCHIVE_RETENTION": str(self.place / "retention.toml"),
            "BILLING_SIGNING_KEY": f"file:{self.place / 'signing_key.pem'}",
            "BILLING_KEEP_FACTS_DAYS": str(KEEP_FACTS_DAYS),
            "S3_ENDPOINT_URL": self.s3.url,
            "BILLING_S3_ACCESS_KEY": self.s3.access_key,
            "BILLING_S3_SECRET_KEY": self.s3.secret_key,
            # For `verify.py`.
            "AWS_ACCESS_KEY_ID": self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_key,
            "AWS_DEFAULT_REGION": REGION,
        }


def purge() -> None:
    """What an archiver does while nothing waits, all of it now. Raises the first difference."""
    # It would let captures come first, and there are none.
    purger.REST = 0.0
    runtime = open_runtime("archiver")
    with buckets.opened(runtime.settings) as store:
        purging = archiving.purger(runtime, store)
        assert purging is not None, "BILLING_KEEP_FACTS_DAYS is set"
        for trouble in purging.run().troubles:
            raise trouble
    runtime.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=queries.DAYS, help="on which they happened, from 1 January 2025")
    parser.add_argument("--only-purge", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only_purge:
        purge()
        return
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-archive-") as place, Supervisor() as supervisor:
        postgres = Postgres(supervisor, durable=True, environment={})
        s3 = SeaweedFS(supervisor, durable=True, environment={})
        postgres.start()
        s3.start()
        try:
            migrate.upgrade(postgres.url, environment=ENVIRONMENT, livemode=False)
            life = Life(postgres.url, s3, "bench-archive", Path(place), given.facts // FACTS, given.days, progress=told)
            life.run()
        finally:
            s3.stop()
            s3.remove_sockets()
    took_s = time.monotonic() - began
    print(f"\n{life.facts:,} facts, {took_s:,.0f} s in all; load {os.getloadavg()[2]:.1f}\n\n{HEAD}")
    print("\n".join(step.row for step in life.steps))
    print(f"\n{queries.HEAD}")
    print("\n".join(map(queries.row, life.answers)))
    parts = (f"{name} {size:,.0f}" for name, size in life.bytes_of_a_capture.items())
    print(f"\nbytes of a capture in Postgres: {', '.join(parts)}")


def told(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
