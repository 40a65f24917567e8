"""Verify a billing archive in S3 without trusting the service that wrote it, or any of its code. It only reads.

    python verify.py BUCKET --key signing-key.pem --heads heads-2026-11-29.json
Facts lie in Parquet objects below v1/. Each class of facts (capture, invoice, ...) numbers its batches and its facts
1, 2, 3 ... Batch n has a manifest, manifests/v1/CLASS/n.json: its first line, JSON, says what the object must be, and
the digest of the manifest before; its second line signs the first. A digest is the SHA-256 of a first line, so the
newest digest of a class, its head, stands for everything before it. The document of an invoice lies below documents/; a
fact tells its digest.
Exit status: 0, nothing differs; 1, something does, and each line DIFFERS says what; 2, it could not be checked.
"""

import argparse, base64, hashlib, json, sqlite3, sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

try:
    import boto3, pyarrow.parquet
    from botocore.exceptions import BotoCoreError, ClientError
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
except ImportError as error:
    print(f"verify.py: {error.name} is missing; run: pip install boto3 cryptography pyarrow", file=sys.stderr)
    raise SystemExit(2) from None

WHOLE = ("archive_seq", "entity_version", "minor")
TEXT = ("entity_type", "entity_id", "topic", "currency", "payload")
COLUMNS = dict.fromkeys(WHOLE, "int64") | dict.fromkeys(TEXT, "string")
# Each capture, invoice, ... has facts 1, 2, 3 ... over all classes, and is captured at most once. Gaps are looked for
# only between days of which everything is there: after what was disposed of, before what a class may still archive.
ENTITIES = """SELECT entity, count(*), max(version), sum(topic = 'capture.captured') AS captured FROM facts
               GROUP BY entity HAVING count(DISTINCT version) < count(*) OR captured > 1
                   OR max(version) > count(*) AND min(day) > ? AND max(day) < date(?, '-1 day')"""


def key_with_id(pem: bytes) -> tuple[str, Any]:
    """A public key after its id, the first digits of the SHA-256 of its DER form."""
    key = serialization.load_pem_public_key(pem)
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()[:16], key


def opened(document: bytes, keys: dict[str, Any]) -> tuple[Any, str, str]:
    """What the first line says, its digest, and the id of the key that signed it, or "nobody"."""
    line, newline, last = document.partition(b"\n")
    told, digest = json.loads(line), hashlib.sha256(line + newline).hexdigest()
    if not last:
        return told, digest, "nobody"
    signed = json.loads(last)
    if signed["key_id"] not in keys:
        raise ValueError(f"it is signed with {signed['key_id']}, which is none of the known keys")
    key = keys[signed["key_id"]]
    how = [] if isinstance(key, ed25519.Ed25519PublicKey) else [ec.ECDSA(hashes.SHA256())]
    key.verify(base64.b64decode(signed["signature"]), line + newline, *how)
    return told, digest, signed["key_id"]


class Verification:
    """One run. What grows with the archive is in a temporary SQLite file; one object at a time is in memory."""

    def __init__(self, s3: Any, asked: argparse.Namespace, now: datetime) -> None:
        self.s3, self.asked, self.now, self.db = s3, asked, now, sqlite3.connect("")
        self.db.execute("CREATE TABLE listed (key, version, kind, written, PRIMARY KEY (key, version))")
        self.db.execute("CREATE TABLE facts (entity, version, topic, day)")
        self.db.execute("CREATE TABLE documents (told)")
        self.keys = dict(key_with_id(path.read_bytes()) for path in asked.key)
        self.published = set[tuple[str, int, str]]()  # heads that no chain has led to yet
        self.heads = dict[str, tuple[int, str]]()
        self.counts, self.captured, self.differences = Counter[str](), Counter[str](), list[str]()
        self.disposed = self.newest = "2000-01-01"  # the newest days: of objects disposed of, of all objects

    def expect(self, fine: Any, where: str, otherwise: str) -> bool:
        if not fine:
            self.differences.append(ascii(f"{where}: {otherwise}")[1:-1])  # no key can steer a terminal
            print(f"DIFFERS {self.differences[-1]}", file=sys.stderr if self.asked.json else sys.stdout)
        return bool(fine)

    def check(self) -> None:
        """List the bucket, read keys and heads; then check each class, what no manifest names, and each entity."""
        for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=self.asked.bucket):
            for name, kind in (("Versions", "version"), ("DeleteMarkers", "delete marker")):
                found = [(e["Key"], e["VersionId"], kind, str(e["LastModified"])) for e in page.get(name, ())]
                self.db.executemany("INSERT OR IGNORE INTO listed VALUES (?, ?, ?, ?)", found)
        self.keys = self.keys or dict(key_with_id(self.get(key)[0]) for key in self.listed("keys/*.pem"))
        for path in self.asked.heads:
            told, _, by = opened(path.read_bytes(), self.keys)
            if self.expect(by != "nobody" or not self.keys, str(path), "it is not signed"):
                self.published |= {(name, number, digest) for name, (number, digest) in told["heads"].items()}
        for name in sorted({key.split("/")[2] for key in self.listed("manifests/v1/*/*")}):
            self.check_class(name)
        self.expect(self.heads, self.asked.bucket, "it holds no manifest at all")
        for name, number, digest in sorted(self.published):
            self.expect(False, f"{name} {number}", f"published as {digest}; the chain ends with {self.heads.get(name)}")
        for (told,) in self.db.execute("SELECT told FROM documents").fetchall():
            self.check_document(json.loads(told))
        # An object is written first, and soon its manifest; a document before the fact about it is archived.
        young = {"v1/": str(self.now - timedelta(hours=1)), "doc": str(self.now - timedelta(days=1))}
        for key, version, kind, written in self.db.execute("SELECT * FROM listed ORDER BY key"):
            fine = key[:5] in ("keys/", "probe") or (kind == "version" and written > young.get(key[:3], "~"))
            self.expect(fine, key, f"no manifest that can be trusted names the {kind} {version} of {written}")
        for entity, facts, last, captured in self.db.execute(ENTITIES, [self.disposed, self.newest]):
            self.expect(False, entity, f"{facts} of {last} facts are here, and it was captured {captured} times")

    def listed(self, pattern: str) -> list[str]:
        found = self.db.execute("SELECT DISTINCT key FROM listed WHERE key GLOB ? ORDER BY key", [pattern])
        return [key for (key,) in found]

    def get(self, key: str, version: str = "", size: int = 10**6, end: str = "~") -> tuple[bytes, str, datetime | None]:
        """The bytes and the lock of this version, or the first; none if it is gone. A marker may come after `end`."""
        found = self.db.execute("SELECT * FROM listed WHERE key = ? ORDER BY written, rowid DESC", [key]).fetchall()
        self.db.execute("DELETE FROM listed WHERE key = ?", [key])
        there = [each for _, each, kind, _ in found if kind == "version"]
        wanted = version or (there or [""])[0]
        for _, other, kind, written in found:
            fine = other == wanted or (kind != "version" and end <= self.now.isoformat())
            self.expect(fine, key, f"there is also the {kind} {other} of {written}")
        if wanted not in there:
            return b"", "", None
        answer = self.s3.get_object(Bucket=self.asked.bucket, Key=key, VersionId=wanted)
        return answer["Body"].read(size + 1), answer.get("ObjectLockMode"), answer.get("ObjectLockRetainUntilDate")

    def check_class(self, name: str) -> None:
        """Follow the chain of its manifests, and check the object of each."""
        number, by = 0, "nobody"
        end: Any = (None, 0)  # digest and last fact of the manifest before; None if it cannot be read
        for key in self.listed(f"manifests/v1/{name}/{'[0-9]' * 12}.json"):
            whole = self.expect(int(key[-17:-5]) == number + 1, key, f"manifest {number + 1} before it is missing")
            number, before, end, signed = int(key[-17:-5]), end if whole else None, None, by
            body, mode, until = self.get(key)
            try:
                told, digest, by = opened(body, self.keys)
                start, end = (told["previous"], told["first_seq"] - 1), (digest, told["last_seq"])
                mine = (told["retention_class"], told["number"]) == (name, number) and start[1] + told["rows"] == end[1]
                self.expect(mine, key, f"it describes {told['retention_class']} {told['number']}")
                self.expect(by != "nobody" or (signed == by and told["format"][-2:] == "/1"), key, "it is not signed")
                self.expect(before in (None, start), key, f"it follows {start}, and before it is {before}")
                self.published.discard((name, number, digest))
                print(end=f"{key}\n" * (number % 100 == 0), file=sys.stderr)  # how far it is
                self.check_lock(key, told, mode, until)
                self.heads[name] = number, digest
                self.counts[f"manifests of {name}, signed by {by}"] += 1
                if told["key"]:
                    self.check_object(told)
            except (ValueError, KeyError, TypeError, InvalidSignature, pyarrow.ArrowException) as error:
                self.expect(False, key, str(error) or "its signature is wrong")
        self.expect(by != "nobody" or not self.keys, name, "it ends without a known signature")

    def check_lock(self, key: str, told: Any, mode: str, until: datetime | None) -> None:
        needed = datetime.fromisoformat(told["locked_until"])
        held = until and until >= needed and mode in ("COMPLIANCE", told["lock_mode"])
        self.expect(held or needed <= self.now, key, f"locked in {mode} until {until}; it must be until {needed}")

    def check_object(self, told: Any) -> None:
        """Compare an object with its manifest: version, lock, digest, columns, numbers and money."""
        key, day, seq, sums = told["key"], told["event_date"], told["first_seq"], Counter[str]()
        body, mode, until = self.get(key, told["version"], told["size"], told["locked_until"])
        if not body and datetime.fromisoformat(told["locked_until"]) <= self.now:
            self.counts[f"objects disposed of under {told.get('policy', 'their policy')}"] += 1
            self.disposed = max(self.disposed, day)
        elif self.expect(hashlib.sha256(body).hexdigest() == told["sha256"], key, "other bytes" if body else "gone"):
            self.check_lock(key, told, mode, until)
            file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(body))
            types = {field.name: str(field.type) for field in file.schema_arrow}
            self.expect(types.items() >= COLUMNS.items(), key, f"its columns are {types}")
            for part in file.iter_batches(columns=list(COLUMNS)):
                seqs, versions, minors, kinds, ids, topics, currencies, payloads = (
                    each.to_pylist() for each in part.columns
                )
                self.expect(seqs == list(range(seq, seq := seq + len(seqs))), key, "its numbers have gaps")
                rows = zip(map("{} {}".format, kinds, ids), versions, topics, [day] * len(ids), strict=True)
                self.db.executemany("INSERT INTO facts VALUES (?, ?, ?, ?)", rows)
                documents = [
                    (each,) for topic, each in zip(topics, payloads, strict=True) if topic == "document.stored"
                ]
                self.db.executemany("INSERT INTO documents VALUES (?)", documents)
                for topic, currency, minor in zip(topics, currencies, minors, strict=True):
                    sums[currency or ""] += minor if topic == "capture.captured" and currency and minor else 0
            self.expect(seq == told["last_seq"] + 1, key, f"it ends with fact {seq - 1}")
            self.expect(sums == Counter(told["captured"]), key, f"its money is {+sums}, not {told['captured']}")
            self.captured, self.newest = self.captured + sums, max(self.newest, day)
            self.counts["facts"] += seq - told["first_seq"]

    def check_document(self, told: Any) -> None:
        """Compare the document of an invoice with the fact that tells where it is and what it must be."""
        key, until = str(told.get("object_key")), told.get("locked_until", "~")
        body, mode, locked = self.get(key, told.get("object_version", ""), told.get("size_bytes", 10**8), until)
        if not body and until <= self.now.isoformat():
            self.counts["documents disposed of"] += 1
        elif self.expect(
            hashlib.sha256(body).hexdigest() == told.get("sha256"), key, "other bytes" if body else "gone"
        ):
            self.check_lock(key, told, mode, locked)
            self.counts["documents"] += 1


def main(arguments: list[str] | None = None, now: datetime | None = None) -> int:
    parser = argparse.ArgumentParser("verify.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bucket")
    parser.add_argument("--key", type=Path, action="append", default=[], help="a public key (PEM) that you were given")
    parser.add_argument("--heads", type=Path, nargs="+", default=[], help="files with the heads that were published")
    parser.add_argument("--endpoint-url", help="of an S3 other than Amazon's")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    asked = parser.parse_args(arguments)
    try:
        run = Verification(boto3.client("s3", endpoint_url=asked.endpoint_url), asked, now or datetime.now(UTC))
        run.check()
    except (BotoCoreError, ClientError, OSError, ValueError, KeyError, InvalidSignature, sqlite3.Error) as error:
        print(f"verify.py: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    unseen = ["what was cut off or rewritten " + ("after --heads" if asked.heads else "at the end: use --heads")]
    unseen += [] if asked.key else ["whether the keys were exchanged, because they are the bucket's own: use --key"]
    told = {"checked": run.counts, "captured, in minor units": run.captured, "heads": run.heads, "not seen": unseen}
    verdict = f"NOT VERIFIED: {len(run.differences)} differences" if run.differences else "VERIFIED: nothing differs"
    if asked.json:
        print(json.dumps({"verdict": verdict, "differences": run.differences, **told}, indent=2))
    else:
        print(*(f"{title}: {json.dumps(value)}" for title, value in told.items()), verdict, sep="\n")
    return 1 if run.differences else 0


if __name__ == "__main__":
    sys.exit(main())
