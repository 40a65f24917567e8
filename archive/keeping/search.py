"""Which batches hold facts about somebody or something, and which documents these tell of, from the verified copies:
Postgres is not asked.

A batch mixes subjects, and its object is held as a whole. To hold too much is allowed, too little is not. A document is
held alone. It belongs to its invoice, and is found where it is told that it was stored.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from archive.copies.cache import Cache
from archive.documents.stored import RETENTION_CLASS
from archive.errors import BadQuestion
from archive.format import records
from archive.format.manifests import Manifest
from archive.policy.retention import CLASSES

IN_PAYLOAD = ("payment_intent", "customer")
"""What a subject may be: a key of payloads. Whatever else happened to that capture or invoice is found by its id."""
_STORED = "document.stored"


@dataclass(frozen=True, slots=True)
class Criteria:
    """All of them must hold. `since` is included, `until` is not. Days are UTC days, as those of batches."""

    payment_intent: str | None = None
    customer: str | None = None
    retention_class: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.as_json() == "{}":
            raise BadQuestion("say what is to be held: --where, --class, --since or --until")
        if self.retention_class is not None and self.retention_class not in CLASSES:
            raise BadQuestion(f"{self.retention_class!r} is no class; there are: {', '.join(CLASSES)}")

    def as_json(self) -> str:
        """The one way to write them, without what is not asked."""
        values: dict[str, Any] = {
            "class": self.retention_class,
            "customer": self.customer,
            "payment_intent": self.payment_intent,
            "since": self.since and self.since.astimezone(UTC).isoformat(),
            "until": self.until and self.until.astimezone(UTC).isoformat(),
        }
        return records.canonical({name: value for name, value in values.items() if value is not None})

    @property
    def needles(self) -> list[str]:
        """The subjects as they stand in a canonical payload."""
        return [
            records.canonical({name: value})[1:-1] for name in IN_PAYLOAD if (value := getattr(self, name)) is not None
        ]

    def covers(self, manifest: Manifest) -> bool:
        """Whether a batch of this class and day may be meant."""
        day = datetime.combine(date.fromisoformat(manifest.event_date), time(), UTC)
        return (
            self.retention_class in (None, manifest.retention_class)
            and (self.since is None or day + timedelta(days=1) > self.since)
            and (self.until is None or day < self.until)
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A batch that is to be held. `about`: how many of its facts are about the subject. `documents`: those of the
    subject which it tells of as stored."""

    manifest: Manifest
    about: int
    documents: tuple[str, ...] = ()


def search(cache: Cache, criteria: Criteria) -> list[Found]:
    """The batches that hold such facts. Raises what `Cache.reading` raises."""
    with cache.reading(rehash=True) as read:
        copies = [copy for part in read.evidence for copy in part.copies()]
        if not criteria.needles:
            return [
                Found(manifest, manifest.rows, _stored(manifest, path))
                for manifest, path in copies
                if criteria.covers(manifest)
            ]
        subjects = [_entities((path for _, path in copies), needle) for needle in criteria.needles]
        entities = set.intersection(*subjects)
        entities |= _documents_of(entities, copies)
        return list(_about(copies, criteria, entities)) if entities else []


def _entities(files: Iterable[Path], needle: str) -> set[str]:
    found: set[str] = set()
    for path in files:
        rows = pq.read_table(path, columns=["entity_id", "payload"])
        mask = pc.match_substring(rows["payload"], needle)
        found.update(rows["entity_id"].filter(mask).to_pylist())
    return found


def _documents_of(entities: set[str], copies: Iterable[tuple[Manifest, Path]]) -> set[str]:
    """The documents of the invoices among these."""
    found: set[str] = set()
    if not any(each.startswith("inv_") for each in entities):
        return found
    for manifest, path in copies:
        if manifest.retention_class == RETENTION_CLASS:
            rows = pq.read_table(path, columns=["topic", "entity_id", "payload"])
            told = rows.filter(pc.equal(rows["topic"], _STORED)).to_pylist()
            found.update(each["entity_id"] for each in told if json.loads(each["payload"]).get("invoice") in entities)
    return found


def _about(copies: Iterable[tuple[Manifest, Path]], criteria: Criteria, entities: set[str]) -> Iterator[Found]:
    wanted = pa.array(sorted(entities), pa.string())
    for manifest, path in copies:
        if criteria.covers(manifest):
            ids = pq.read_table(path, columns=["entity_id"])["entity_id"]
            if count := pc.sum(pc.is_in(ids, value_set=wanted)).as_py():
                yield Found(manifest, count, tuple(each for each in _stored(manifest, path) if each in entities))


def _stored(manifest: Manifest, path: Path) -> tuple[str, ...]:
    """The documents that this batch tells of as stored."""
    if manifest.retention_class != RETENTION_CLASS:
        return ()
    rows = pq.read_table(path, columns=["topic", "entity_id"])
    return tuple(rows.filter(pc.equal(rows["topic"], _STORED))["entity_id"].to_pylist())
