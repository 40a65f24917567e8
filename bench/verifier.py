"""How fast an auditor's `verify.py` verifies, and in how much memory: `python -m bench.verifier`, on an S3 of its own.

It writes a signed archive of synthetic captures, three facts each in two classes, in batches of 10,000 facts. Then it
runs the file in a process, as an auditor does. A local S3 answers in a millisecond: add two requests for each batch
at the latency of yours.
"""

import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from archive.format import records
from archive.policy.retention import Lock
from archive.s3.store import Store
from jobs.local.seaweed import REGION, SeaweedFS
from jobs.local.supervisor import Supervisor

ROWS = 10_000
FIRST_DAY = date(2026, 1, 1)
CLASSES = {"capture": (("requested", 1), ("captured", 3)), "attempt": (("attempted", 2),)}
"""Which facts of a capture are in which class, with their numbers among its facts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=int, default=1_000_000)
    asked = parser.parse_args()
    with Supervisor() as supervisor, tempfile.TemporaryDirectory() as directory:
        s3 = SeaweedFS(supervisor, durable=False, environment={})
        s3.start()
        try:
            store = s3.store("bench-verifier")
            store.set_up("bench")
            key, began = Ed25519PrivateKey.generate(), time.monotonic()
            public = Path(directory, "key.pem")
            public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
            written = sum(map(sum, (_write(store, key, name, asked.facts // 3) for name in CLASSES)))
            print(f"wrote {asked.facts // 3 * 3:,} facts, {written / 1e6:,.0f} MB, in {time.monotonic() - began:.0f} s")
            _verify(s3, store.bucket, public, asked.facts // 3 * 3)
        finally:
            s3.stop()


def _write(store: Store, key: Ed25519PrivateKey, name: str, captures: int) -> Iterator[int]:
    """The batches of a class. Yields the size of each object."""
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key_id, lock = sha256(der).hexdigest()[:16], Lock("GOVERNANCE", datetime.now(UTC) + timedelta(days=1))
    previous, seq, per_batch = None, 0, ROWS // len(CLASSES[name])
    for number, first in enumerate(range(0, captures, per_batch), start=1):
        day = FIRST_DAY + timedelta(days=first // 1_000_000)
        rows = _rows(name, range(first, min(first + per_batch, captures)), seq, day)
        body, last = records.parquet(rows), seq + rows.num_rows
        place = f"v1/class={name}/event_date={day}/b{number:012d}-{seq + 1:012d}-{last:012d}.parquet"
        store.put_once(place, body, lock)
        manifest: dict[str, Any] = {
            "format": "billing-archive-manifest/2",
            "retention_class": name,
            "number": number,
            "event_date": str(day),
            "key": place,
            "version": store.get(place).version,
            "sha256": sha256(body).hexdigest(),
            "size": len(body),
            "rows": rows.num_rows,
            "first_seq": seq + 1,
            "last_seq": last,
            "captured": records.captured(rows),
            "lock_mode": lock.mode,
            "locked_until": lock.until.replace(microsecond=0).isoformat(),
            "previous": previous,
        }
        line = (records.canonical(manifest) + "\n").encode()
        signature = base64.b64encode(key.sign(line)).decode()
        sealed = line + json.dumps({"algorithm": "ed25519", "key_id": key_id, "signature": signature}).encode() + b"\n"
        store.put_once(f"manifests/v1/{name}/{number:012d}.json", sealed, lock)
        previous, seq = sha256(line).hexdigest(), last
        yield len(body)


def _rows(name: str, captures: range, seq: int, day: date) -> pa.Table:
    """The facts of these captures in this class."""
    facts = [(of, *fact) for of in captures for fact in CLASSES[name]]
    count, at = len(facts), datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    columns: dict[str, list[Any]] = {
        "archive_seq": list(range(seq + 1, seq + count + 1)),
        "fact_id": [3 * of + version for of, _, version in facts],
        "topic": [f"capture.{topic}" for _, topic, _ in facts],
        "fact_version": [1] * count,
        "entity_type": ["capture"] * count,
        "entity_id": [f"cap_{sha256(str(of).encode()).hexdigest()[:32]}" for of, _, _ in facts],
        "entity_version": [version for _, _, version in facts],
        "actor": ["billing"] * count,
        "correlation_id": [f"order-{of}" for of, _, _ in facts],
        "happened_at": [at] * count,
        "minor": [1_000 + of % 9_000 for of, _, _ in facts],
        "currency": ["USD"] * count,
        "payload": [f'{{"payment_intent":"pi_{of:024d}"}}' for of, _, _ in facts],
        "payment_intent": [f"pi_{of:024d}" for of, _, _ in facts],
        "account": [None] * count,
    }
    return pa.table(columns, schema=records.SCHEMA)


def _verify(s3: SeaweedFS, bucket: str, public: Path, facts: int) -> None:
    verifier = public.with_name("verify.py")
    verifier.write_text(files("archive.verifying").joinpath("verify.py").read_text())
    keys = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key, "AWS_DEFAULT_REGION": REGION}
    command = [sys.executable, str(verifier), bucket, "--key", str(public), "--endpoint-url", s3.url]
    began = time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, **keys})  # noqa: S603 - our own file
    _, status, used = os.wait4(process.pid, 0)
    took_s = time.monotonic() - began
    assert status == 0, "an archive that nobody touched is verified"
    print(
        f"verified {facts:,} facts in {took_s:.1f} s: {facts / took_s:,.0f} facts/s, "
        f"{used.ru_utime + used.ru_stime:.1f} CPU-s, at most {used.ru_maxrss / 1024:.0f} MB"
    )


if __name__ == "__main__":
    main()
