"""What questions to a large archive cost: `python -m bench.queries`. It starts an S3 of its own and removes it.

It writes a valid archive of synthetic facts: captures of one year, in three currencies and two accounts, each with
three facts in two classes, in batches as an archiver makes them, and the chain of manifests. Then it asks for one
payment, for the history of one capture, and for a month and the year by day, each time in a process of its own:

    cold   with no copy on this machine
    again  with copies that were just downloaded, which are hashed
    warm   with copies that nothing has written to since they were hashed

It prints the seconds from the question to the answer, without Python's own start; of them the time of the SQL; and the
most memory of the process.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from archive.copies.cache import Cache
from archive.copies.shelf import SETTLED_NS
from archive.format import manifests, records
from archive.format.manifests import Manifest
from archive.policy.retention import Lock
from archive.queries import Answer, ask
from archive.s3.store import Store
from archive.writing.batch_size import MOST_ROWS
from bench import meter
from jobs.local.seaweed import SeaweedFS
from jobs.local.supervisor import Supervisor

FIRST, DAYS = date(2025, 1, 1), 365
LOCK = Lock("GOVERNANCE", datetime(2030, 1, 1, tzinfo=UTC))
CURRENCIES, ACCOUNTS = ("EUR", "JPY", "USD"), ("own", "acct_1NxYzAbCdEfGhIjK")
_ALPHANUMERIC = bytes.maketrans(b"+/", b"Aa")
MONTH = {"since": "2025-06-01", "until": "2025-07-01"}
MOST_MB = 100_000


class Writing:
    """Writes the objects and the chain of one class."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self.objects = self._seq = 0
        self._previous: str | None = None
        self.size = 0

    def day(self, day: date, rows: list[dict[str, Any]]) -> None:
        for first in range(0, len(rows), MOST_ROWS):
            self._batch(day, rows[first : first + MOST_ROWS])

    def _batch(self, day: date, rows: list[dict[str, Any]]) -> None:
        self.objects += 1
        for seq, row in enumerate(rows, start=self._seq + 1):
            row |= {"archive_seq": seq, "fact_id": seq}
        table = pa.Table.from_pylist(rows, schema=records.SCHEMA)
        body = records.parquet(table)
        first, self._seq = self._seq + 1, self._seq + len(rows)
        key = (
            f"v{records.VERSION}/class={self._name}/event_date={day}/"
            f"b{self.objects:012d}-{first:012d}-{self._seq:012d}.parquet"
        )
        self._store.put_once(key, body, LOCK)
        manifest = Manifest(
            retention_class=self._name,
            number=self.objects,
            event_date=day.isoformat(),
            environment="development",
            installation="ins_bench",
            key=key,
            sha256=hashlib.sha256(body).hexdigest(),
            version=self._store.get(key).version,
            size=len(body),
            schema=records.VERSION,
            rows=len(rows),
            first_seq=first,
            last_seq=self._seq,
            captured=records.captured(table),
            lock_mode=LOCK.mode,
            locked_until=LOCK.until.isoformat(),
            previous=self._previous,
        ).body()
        self._store.put_once(manifests.key(self._name, self.objects), manifest, LOCK)
        self._previous = manifests.digest(manifest)
        self.size += len(body)


def facts_of_a_day(
    chance: random.Random, day: date, captures: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The life of each capture, and its calls. Our ids begin with the time, as `billing.ids` makes them. Stripe's are
    random here, which is the worst case."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    lives, calls = [], []
    for number in range(captures):
        at = midnight + timedelta(microseconds=86_399_000_000 * number // max(captures, 1))
        of, payment = (
            f"cap_{int(at.timestamp() * 1000):012x}7{chance.getrandbits(76):019x}",
            f"pi_3{_letters(chance, 18)}",
        )
        minor, currency, account = chance.randrange(100, 100_000), CURRENCIES[number % 3], ACCOUNTS[number % 2]
        money = {"minor": minor, "currency": currency, "account": account, "payment_intent": payment}
        call = {
            "step": "capture",
            "generation": 1,
            "outcome": "definite",
            "learned": "succeeded",
            "status": 200,
            "request_id": f"req_{_letters(chance, 12)}",
            "replayed": False,
            "took_ms": chance.randrange(90, 900),
        }
        lives.append(_row("capture.requested", of, 1, at, money))
        calls.append(_row("capture.attempted", of, 2, at, call))
        lives.append(_row("capture.captured", of, 3, at, money | {"charge": f"ch_3{_letters(chance, 18)}"}))
    return lives, calls


def _letters(chance: random.Random, random_bytes: int) -> str:
    return b64encode(chance.randbytes(random_bytes)).translate(_ALPHANUMERIC).decode()


def _row(topic: str, of: str, version: int, at: datetime, payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "topic": topic,
        "fact_version": 1,
        "entity_type": "capture",
        "entity_id": of,
        "entity_version": version,
        "actor": "billing",
        "correlation_id": f"order-{of[-12:]}",
        "happened_at": at + timedelta(milliseconds=300 * version),
        "payload": records.canonical(payload),
        **{name: payload.get(name) for name in records.COPIED},
    }


@dataclass(frozen=True)
class Written:
    """`payment` and `capture`: the ids of one of the middle of the year."""

    objects: int
    size: int
    payment: str
    capture: str


def write(store: Store, facts: int) -> Written:
    chance, payment, capture = random.Random(1), "", ""  # noqa: S311 - synthetic
    lives, calls = Writing(store, "capture"), Writing(store, "attempt")
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Any] = []
        for number in range(DAYS):
            day = FIRST + timedelta(days=number)
            of_day, calls_of_day = facts_of_a_day(chance, day, facts // DAYS // 3)
            if number == DAYS // 2:
                payment, capture = of_day[0]["payment_intent"], of_day[0]["entity_id"]
            for each in waiting:
                each.result()
            waiting = [pool.submit(lives.day, day, of_day), pool.submit(calls.day, day, calls_of_day)]
        for each in waiting:
            each.result()
    return Written(lives.objects + calls.objects, lives.size + calls.size, payment, capture)


def questions(written: Written) -> dict[str, Callable[[Cache], Answer]]:
    return {
        "calls of one payment": lambda cache: ask(cache, "payment_attempts", {"payment_intent": written.payment}),
        "history of one capture": lambda cache: ask(cache, "history", {"entity_id": written.capture}),
        "a month by day": lambda cache: ask(cache, "captures_by_day", {**MONTH, "tz": "Europe/Berlin"}),
        "the year by day": lambda cache: ask(cache, "captures_by_day", {"tz": "Europe/Berlin"}),
    }


def question(store: Store, directory: Path, what: str, written: Written) -> dict[str, Any]:
    """Ask, in this process."""
    began = time.monotonic()
    answer = questions(written)[what](Cache(store, directory, most_mb=MOST_MB))
    return {
        "what": what,
        "seconds": time.monotonic() - began,
        "sql_ms": answer.took_ms,
        "rows": answer.table.num_rows,
        "objects": sum(read.objects for read in answer.evidence),
        "hashed": sum(read.hashed for read in answer.evidence),
        "memory_mb": meter.most_memory_mb(os.getpid()),
    }


def asked(s3: SeaweedFS, bucket: str, directory: Path, what: str, written: Written) -> dict[str, Any]:
    """Ask, in a new process."""
    arguments = [bucket, s3.url, s3.access_key, s3.secret_key, str(directory), what, json.dumps(asdict(written))]
    ran = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-m", "bench.queries", "--ask", *arguments], check=True, capture_output=True, text=True
    )
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def measured(s3: SeaweedFS, bucket: str, written: Written, place: Path) -> Iterator[dict[str, Any]]:
    for number, what in enumerate(questions(written)):
        directory = place / str(number)
        directory.mkdir(mode=0o700)
        for state in ("cold", "again", "warm"):
            yield {"state": state} | asked(s3, bucket, directory, what, written)
            if state == "cold":
                # Until the file system would show a write after that.
                time.sleep(SETTLED_NS / 1e9 + 0.5)
        shutil.rmtree(directory)


HEAD = "| question | copies | rows | objects | hashed | seconds | of them SQL, ms | memory, MB |\n" + "|---" * 8 + "|"


def row(m: dict[str, Any]) -> str:
    return (
        f"| {m['what']} | {m['state']} | {m['rows']} | {m['objects']} | {m['hashed']} | {m['seconds']:.2f} "
        f"| {m['sql_ms']} | {m['memory_mb']:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.queries")
    parser.add_argument("--facts", type=int, default=1_000_000)
    parser.add_argument("--ask", nargs=7, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ask:
        bucket, url, access, secret, directory, what, told = given.ask
        store = Store(bucket, endpoint=url, region="us-east-1", access_key=access, secret_key=secret)
        print(json.dumps(question(store, Path(directory), what, Written(**json.loads(told)))))
        return
    with tempfile.TemporaryDirectory(prefix="bench-queries-") as temporary, Supervisor() as supervisor:
        place = Path(temporary)
        s3 = SeaweedFS(supervisor, durable=False, environment={})
        s3.start()
        store = s3.store("bench-queries")
        store.set_up("development")
        began = time.monotonic()
        written = write(store, given.facts)
        took = time.monotonic() - began
        print(
            f"{given.facts} facts in {written.objects} objects, {written.size / given.facts:.0f} bytes a fact, "
            f"written in {took:.0f} s; load {os.getloadavg()[0]:.1f}\n"
        )
        print(HEAD)
        for answer in measured(s3, store.bucket, written, place):
            print(row(answer), flush=True)
        print(f"\nload {os.getloadavg()[0]:.1f}")
        store.close()


if __name__ == "__main__":
    main()
