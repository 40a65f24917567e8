"""A small archive in a bucket, written from docs/archive.md alone, and what an attacker with every right can do to it.

Not a line of the archive's own code: so the tests of `verify.py` also show that the page says everything that a
stranger must know. Nobody waits for Postgres either.
"""

import base64
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

COLUMNS = [
    *[(name, pa.int64()) for name in ("archive_seq", "fact_id", "fact_version", "entity_version", "minor")],
    *[(name, pa.string()) for name in ("topic", "entity_type", "entity_id", "actor", "currency", "payload")],
    ("correlation_id", pa.string()),
    ("happened_at", pa.timestamp("us", tz="UTC")),
]
USD = {"minor": 1999, "currency": "USD"}
FACTS: dict[tuple[str, int], tuple[str, list[dict[str, Any]]]] = {
    # Class and number of each batch: its day, and its facts.
    ("capture", 1): ("2026-11-01", [{"entity_id": "cap_1", "entity_version": 1, "topic": "capture.requested", **USD}]),
    ("attempt", 1): ("2026-11-02", [{"entity_id": "cap_1", "entity_version": 2, "topic": "capture.attempted"}]),
    ("capture", 2): (
        "2026-11-02",
        [
            {"entity_id": "cap_1", "entity_version": 3, "topic": "capture.captured", **USD},
            {"entity_id": "cap_2", "entity_version": 1, "topic": "capture.requested", **USD},
        ],
    ),
    ("capture", 3): ("2026-11-03", [{"entity_id": "cap_2", "entity_version": 2, "topic": "capture.captured", **USD}]),
    ("capture", 4): ("2026-11-04", []),
    ("capture", 5): ("2026-11-10", [{"entity_id": "cap_3", "entity_version": 1, "topic": "capture.requested", **USD}]),
}


def canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def manifest_key(name: str, number: int) -> str:
    return f"manifests/v1/{name}/{number:012d}.json"


@cache
def parquet(name: str, number: int, seq: int) -> bytes:
    """The object of this batch, whose first fact has the number `seq`."""
    day, facts = FACTS[name, number]
    at = datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC) + timedelta(hours=10)
    shared = {"fact_version": 1, "entity_type": "capture", "payload": "{}", "happened_at": at}
    rows = [{**shared, **fact, "archive_seq": n, "fact_id": n} for n, fact in enumerate(facts, start=seq)]
    return as_parquet(pa.Table.from_pylist(rows, schema=pa.schema(COLUMNS)))


def as_parquet(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink)
    return sink.getvalue()


class Key:
    """A key that signs; `id` and `pem` are public. `of_kms`: of the kind that AWS KMS has."""

    def __init__(self, *, of_kms: bool = False) -> None:
        self._private = ec.generate_private_key(ec.SECP256R1()) if of_kms else Ed25519PrivateKey.generate()
        self._algorithm = "ecdsa-p256-sha256" if of_kms else "ed25519"
        public = self._private.public_key()
        self.pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.id = sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))[:16]

    def signature(self, line: bytes) -> bytes:
        made = (
            self._private.sign(line)
            if isinstance(self._private, Ed25519PrivateKey)
            else self._private.sign(line, ec.ECDSA(hashes.SHA256()))
        )
        signature = base64.b64encode(made).decode()
        return canonical({"algorithm": self._algorithm, "key_id": self.id, "signature": signature})


class StrangersArchive:
    """The archive and its attacker. Everything is locked for a year, in GOVERNANCE; the attacker may bypass that."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self.s3, self.bucket = s3, bucket
        self.s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
        self.key, self.other_key = Key(), Key()
        self.locked_until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=365)

    def write(self, *, signed_from: int = 1, locked_until: datetime | None = None) -> None:
        """The archive, anew. `locked_until`: what the manifests say; S3 always locks. `signed_from`: of captures."""
        self.wipe()
        self.said_until, self.signed_from = locked_until or self.locked_until, signed_from
        self.put(f"keys/{self.key.id}.pem", self.key.pem)
        for name in ("attempt", "capture"):
            self.extend(name, 1)

    def extend(self, name: str, number: int, skip: int = 0, key: Key | None = None) -> None:
        """Write the batches of a class from this one on after what is there, without number `skip`."""
        previous, seq = None, 0
        if number > 1:
            line = self.line(name, number - 1)
            previous, seq = sha256(line), json.loads(line)["last_seq"]
        for each in (each for of, each in FACTS if of == name and each >= number and each != skip):
            line = canonical(self.batch(name, each, number, seq, previous))
            signature = (key or self.key).signature(line) if self.is_signed(name, number) else b""
            self.put(manifest_key(name, number), line + signature)
            previous, seq, number = sha256(line), json.loads(line)["last_seq"], number + 1

    def batch(self, name: str, which: int, number: int, seq: int, previous: str | None) -> dict[str, Any]:
        """Put the object of the batch `which`, as batch `number`; what its manifest says."""
        day, facts = FACTS[name, which]
        last = seq + len(facts)
        key = f"v1/class={name}/event_date={day}/b{number:012d}-{seq + 1:012d}-{last:012d}.parquet" if facts else None
        body = parquet(name, which, seq + 1) if key else b""
        signed = self.is_signed(name, number)
        taken = sum(fact["minor"] for fact in facts if fact["topic"] == "capture.captured")
        return {
            "format": f"billing-archive-manifest/{2 if signed else 1}",
            "retention_class": name,
            "number": number,
            "event_date": day,
            "environment": "test",
            "installation": "ins_test",
            "key": key,
            "version": self.put(key, body) if key else None,
            "sha256": sha256(body) if key else None,
            "size": len(body),
            "schema": 1,
            "rows": len(facts),
            "first_seq": seq + 1,
            "last_seq": last,
            "captured": {"USD": taken} if taken else {},
            "lock_mode": "GOVERNANCE",
            "locked_until": self.said_until.isoformat(),
            "previous": previous,
            **(self.of_signed(day) if signed else {}),
        }

    def of_signed(self, day: str) -> dict[str, Any]:
        return {"key_id": self.key.id, "claimed_at": f"{day}T23:59:59+00:00", "empty": None, "policy": "RP-1"}

    def is_signed(self, name: str, number: int) -> bool:
        return name != "capture" or number >= self.signed_from

    def heads(self, key: Key | None = None) -> bytes:
        """The document that is published of the archive as it is now."""
        newest = {name: max(number for of, number in FACTS if of == name) for name, _ in FACTS}
        heads = {name: [number, sha256(self.line(name, number))] for name, number in newest.items()}
        line = canonical({"date": "2026-11-10", "environment": "test", "installation": "ins_test", "heads": heads})
        return line + (key or self.key).signature(line)

    # What is there.

    def versions(self, prefix: str = "") -> Iterator[dict[str, Any]]:
        found = self.s3.list_object_versions(Bucket=self.bucket, Prefix=prefix)
        yield from found.get("Versions", ())
        yield from found.get("DeleteMarkers", ())

    def body(self, key: str) -> bytes:
        body: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def line(self, name: str, number: int) -> bytes:
        return self.body(manifest_key(name, number)).partition(b"\n")[0] + b"\n"

    def told(self, name: str, number: int) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.line(name, number))
        return told

    def object_key(self, number: int, name: str = "capture") -> str:
        key: str = self.told(name, number)["key"]
        return key

    # What can be done to it.

    def put(self, key: str, body: bytes, **changed: Any) -> str:
        lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": self.locked_until, **changed}
        version: str = self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, **lock)["VersionId"]
        return version

    def destroy(self, key: str) -> None:
        self._destroy([each for each in self.versions(key) if each["Key"] == key])

    def _destroy(self, found: list[dict[str, Any]]) -> None:
        if found:
            which = {"Objects": [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found]}
            done = self.s3.delete_objects(Bucket=self.bucket, Delete=which, BypassGovernanceRetention=True)
            assert done.get("Errors", []) == []

    def wipe(self) -> None:
        self._destroy(list(self.versions()))

    def hide(self, key: str) -> None:
        self.s3.delete_object(Bucket=self.bucket, Key=key)

    def replace(self, key: str, body: bytes) -> str:
        self.destroy(key)
        return self.put(key, body)

    def swap(self, one: str, other: str) -> None:
        first, second = self.body(one), self.body(other)
        self.replace(one, second)
        self.replace(other, first)

    def flip(self, key: str, at: int) -> None:
        body = bytearray(self.body(key))
        body[at] ^= 1
        self.replace(key, bytes(body))

    def lift_lock(self, key: str) -> None:
        soon = datetime.now(UTC) + timedelta(seconds=2)
        retention = {"Mode": "GOVERNANCE", "RetainUntilDate": soon}
        self.s3.put_object_retention(Bucket=self.bucket, Key=key, Retention=retention, BypassGovernanceRetention=True)

    def rewrite(self, number: int, signed: Callable[[bytes], bytes]) -> None:
        """Other money in a batch of captures: a new object, and a manifest that describes it, `signed` somehow."""
        told = self.told("capture", number)
        rows = pq.read_table(pa.BufferReader(self.body(told["key"])))
        minors = pa.array([1 if minor is not None else None for minor in rows["minor"].to_pylist()], pa.int64())
        body = as_parquet(rows.set_column(rows.schema.get_field_index("minor"), "minor", minors))
        taken = rows["topic"].to_pylist().count("capture.captured")
        told |= {"sha256": sha256(body), "size": len(body), "captured": {"USD": taken} if taken else {}}
        told |= {"version": self.replace(told["key"], body)}
        if number > 1:
            told |= {"previous": sha256(self.line("capture", number - 1))}
        line = canonical(told)
        self.replace(manifest_key("capture", number), line + signed(line))

    def cut_off(self, number: int, name: str = "capture") -> None:
        """The batches from this one on."""
        for each in [each for of, each in FACTS if of == name and each >= number]:
            if key := self.object_key(each, name):
                self.destroy(key)
            self.destroy(manifest_key(name, each))
