"""How fast facts become an object of the archive on one core, and how large they are: `python -m bench.objects`.

It makes rows as Postgres returns them, for captures with three facts each, in batches of 10,000. Then it times what an
archiver does with them in Python: the allow-list, the columns, and the Parquet file. Reading Postgres and writing to S3
are not in it. The CPU time of the fastest of ten batches counts, because other programs can only slow it down.
"""

import argparse
import random
import time
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData

from archive.format import records
from archive.writing.batch_size import MOST_ROWS

COLUMNS = (
    *("archive_seq", "id", "topic", "version", "entity_type", "entity_id", "entity_version", "actor"),
    *("correlation_id", "traceparent", "happened_at", "trouble", "payload"),
)
"""As `batches.as_archived` selects them."""
FIRST = datetime(2026, 11, 1)  # noqa: DTZ001 - in UTC, as Postgres is asked for it
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def batch(chance: random.Random, first: int) -> list[Row[Any]]:
    """`MOST_ROWS` facts, numbered from `first`."""
    rows: list[tuple[Any, ...]] = []
    while len(rows) < MOST_ROWS:
        at = FIRST + timedelta(milliseconds=100 * (first + len(rows)))
        of = f"cap_{int(at.timestamp() * 1000):012x}7{chance.getrandbits(76):019x}"
        order = f"order-{chance.randrange(10**9)}"
        payment, charge, request = _id(chance, "pi_3", 23), _id(chance, "ch_3", 23), _id(chance, "req_", 14)
        money = {"minor": chance.randrange(100, 100_000), "currency": "USD", "account": "own"}
        call = {"step": "capture", "generation": 1, "outcome": "definite", "learned": "succeeded", "status": 200}
        told: list[tuple[str, dict[str, Any]]] = [
            ("requested", {**money, "payment_intent": payment, "authorized": True}),
            ("attempted", {**call, "request_id": request, "replayed": False, "took_ms": chance.randrange(90, 900)}),
            ("captured", {**money, "payment_intent": payment, "charge": charge, "learned": "succeeded"}),
        ]
        for version, (what, payload) in enumerate(told, start=1):
            seq = first + len(rows)
            entity = ("capture", of, version, "billing", order)
            rows.append((seq, seq, f"capture.{what}", 1, *entity, None, at, None, payload))
    return IteratorResult(SimpleResultMetaData(COLUMNS), iter(rows[:MOST_ROWS])).all()


def _id(chance: random.Random, prefix: str, length: int) -> str:
    return prefix + "".join(chance.choices(_LETTERS, k=length))


def main() -> None:
    argparse.ArgumentParser(prog="python -m bench.objects", description=__doc__).parse_args()
    chance = random.Random(1)  # noqa: S311 - synthetic
    took, size = [], 0
    for number in range(10):
        facts = batch(chance, 1 + number * MOST_ROWS)
        began = time.process_time()
        size += len(records.parquet(records.table(facts)))
        took.append(time.process_time() - began)
    print(f"{MOST_ROWS / min(took):,.0f} facts/s on one core, {size / (10 * MOST_ROWS):.0f} bytes a fact")


if __name__ == "__main__":
    main()
