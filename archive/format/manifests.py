"""One manifest per batch: it describes the object, and names the digest of the manifest before it.

The chain shows every gap and every changed manifest, unless its end was cut off or rewritten. That is shown only by
a newest digest (`head`) that was kept elsewhere. Manifests are not signed.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime
from typing import Any

from archive.errors import EvidenceDiffers
from archive.format import records
from archive.policy.retention import Lock
from billing.tables.facts import ArchiveBatch

FORMAT = "billing-archive-manifest/1"
PREFIX = "manifests/v1/"


@dataclass(frozen=True, slots=True)
class Source:
    """Which environment and installation wrote these facts."""

    environment: str
    installation: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of one manifest. `captured` is the money that its facts say was taken: minor units by currency."""

    retention_class: str
    number: int
    event_date: str
    environment: str
    installation: str
    key: str
    sha256: str
    version: str
    size: int
    schema: int
    rows: int
    first_seq: int
    last_seq: int
    captured: dict[str, int]
    lock_mode: str
    locked_until: str
    previous: str | None

    @property
    def lock(self) -> Lock:
        """The lock of its object."""
        return Lock(self.lock_mode, datetime.fromisoformat(self.locked_until))

    def body(self) -> bytes:
        """The canonical JSON: every archiver writes the same bytes for the same manifest."""
        return (records.canonical({"format": FORMAT, **asdict(self)}) + "\n").encode()


def object_key(batch: "ArchiveBatch | Manifest") -> str:
    """Hive's layout, so that Athena, Trino, Spark and DuckDB see class and day without opening a file."""
    return (
        f"v{records.VERSION}/class={batch.retention_class}/event_date={batch.event_date}/"
        f"b{batch.number:012d}-{batch.first_seq:012d}-{batch.last_seq:012d}.parquet"
    )


def key(retention_class: str, number: int) -> str:
    return f"{PREFIX}{retention_class}/{number:012d}.json"


def number_of(retention_class: str, key: str) -> int | None:
    """The number of the manifest with this key; None if the key is not that of a manifest of this class."""
    found = re.fullmatch(rf"{PREFIX}{retention_class}/([0-9]{{12}})\.json", key)
    return int(found[1]) if found else None


def of(
    batch: ArchiveBatch,
    source: Source,
    *,
    sha256: str,
    version: str,
    size: int,
    captured: dict[str, int],
    previous: str | None,
) -> Manifest:
    """The manifest of a batch whose object was read back. It does not depend on which archiver writes it, or when."""
    return Manifest(
        retention_class=batch.retention_class,
        number=batch.number,
        event_date=batch.event_date.isoformat(),
        environment=source.environment,
        installation=source.installation,
        key=object_key(batch),
        sha256=sha256,
        version=version,
        size=size,
        schema=records.VERSION,
        rows=batch.rows,
        first_seq=batch.first_seq,
        last_seq=batch.last_seq,
        captured=captured,
        lock_mode=batch.lock_mode,
        locked_until=batch.locked_until.astimezone(UTC).isoformat(),
        previous=previous,
    )


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def read(where: str, body: bytes) -> Manifest:
    """Parse a manifest. Raises EvidenceDiffers if it is not one, or not in the canonical form.

    Anyone who can write to the bucket can write a manifest, so its shape is checked before a field is used. The key
    matters most: a copy of the object is written to a file of that name.
    """
    try:
        values: dict[str, Any] = json.loads(body)
        if values.pop("format") != FORMAT:
            raise EvidenceDiffers(where, "a manifest of a format that this version does not know")
        manifest = Manifest(**values)
        shaped = _has_its_shape(manifest)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise EvidenceDiffers(where, "not a manifest") from None
    if not shaped:
        raise EvidenceDiffers(where, "not a manifest: a field of another type or form")
    if manifest.body() != body:
        raise EvidenceDiffers(where, "not a manifest in its one canonical form")
    return manifest


def _has_its_shape(manifest: Manifest) -> bool:
    """May raise any of the errors that `read` catches, if a field has another type."""
    simple = [field for field in fields(Manifest) if field.type in (str, int)]
    return (
        all(type(getattr(manifest, field.name)) is field.type for field in simple)
        and all(type(minor) is int for minor in manifest.captured.values())
        and (manifest.previous is None or type(manifest.previous) is str)
        and date.fromisoformat(manifest.event_date).isoformat() == manifest.event_date
        and manifest.lock.until.utcoffset() is not None
        and manifest.key == object_key(manifest)
    )


def chain(retention_class: str, bodies: Mapping[int, bytes]) -> Iterator[Manifest]:
    """Manifests 1..N of one class in order. Raises EvidenceDiffers at the first one that breaks the chain."""
    previous, last_seq = None, 0
    for number in range(1, len(bodies) + 1):
        where = key(retention_class, number)
        if number not in bodies:
            raise EvidenceDiffers(where, f"missing, and there are {len(bodies)} manifests up to {max(bodies)}")
        manifest = read(where, bodies[number])
        named = (manifest.retention_class, manifest.number, manifest.previous, manifest.first_seq)
        if named != (retention_class, number, previous, last_seq + 1):
            raise EvidenceDiffers(where, "it does not follow from the manifest before it")
        previous, last_seq = digest(bodies[number]), manifest.last_seq
        yield manifest
