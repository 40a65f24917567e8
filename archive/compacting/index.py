"""The index of a month's copy: what it holds, and of which part of the archive it was made.

It is written last and removed first. So a month without an index is not whole, and may be half of two copies. It says
nothing of when or by whom it was made: the same copy has the same index. It lies beside the table and not in it,
because some engines refuse a table with other files (DataFusion does).
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass

from archive.copies.cache import Evidence
from archive.format import manifests
from archive.policy.retention import CLASSES

FORMAT = "billing-compacted-month/1"
PREFIX = "v1/"
INDEXES = "manifests/v1/"


def folder(month: str) -> str:
    return f"{PREFIX}month={month}/"


def index_key(month: str) -> str:
    return f"{INDEXES}{month}.json"


def object_key(month: str, retention_class: str) -> str:
    """One object for each class: it is replaced as a whole, so an engine never sees a fact twice."""
    return f"{folder(month)}class={retention_class}/facts.parquet"


@dataclass(frozen=True, slots=True)
class Source:
    """What the archive holds of one class and month. Objects that were disposed of are not counted.

    `captured` is in minor units by currency. `head` is the digest of the month's newest manifest, number `last`, which
    covers all before it.
    """

    retention_class: str
    objects: int
    facts: int
    captured: dict[str, int]
    last: int
    head: str


@dataclass(frozen=True, slots=True)
class Part:
    """One object of the copy, and what it was made of."""

    source: Source
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Index:
    """The content. `written_with`: another version of it may write other bytes for the same facts."""

    month: str
    environment: str
    installation: str
    columns: list[str]
    written_with: str
    parts: list[Part]

    def body(self) -> bytes:
        return (json.dumps({"format": FORMAT} | asdict(self), indent=2, sort_keys=True) + "\n").encode()


def source_of(evidence: Evidence) -> Source | None:
    """None if the archive holds no object of it."""
    held = [manifest for manifest, _ in evidence.copies()]
    if not held:
        return None
    captured: Counter[str] = Counter()
    for each in held:
        captured.update(each.captured)
    return Source(
        retention_class=evidence.retention_class,
        objects=len(held),
        facts=sum(each.rows for each in held),
        captured=dict(sorted(captured.items())),
        last=held[-1].number,
        head=manifests.digest(held[-1].body()),
    )


def read(body: bytes) -> Index | None:
    """None if it is no index that this version could have written: the bucket is anybody's who may write to it."""
    try:
        values = json.loads(body)
        if values.pop("format") != FORMAT:
            return None
        parts = [Part(Source(**part.pop("source")), **part) for part in values.pop("parts")]
        index = Index(**values, parts=parts)
        known = all(part.source.retention_class in CLASSES for part in parts)
        return index if known and index.body() == body else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
