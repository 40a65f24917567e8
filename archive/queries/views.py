"""What SQL can see: the views `facts` and `batches`, over verified copies and their manifests.

`facts` has the columns of the archive, and one column for each key that a payload may have, so no query reads JSON. A
key that an older fact lacks is NULL. A key that is a column of the archive is found fastest.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from archive.copies.cache import Evidence
from archive.format import allowed, records
from archive.format.manifests import Manifest
from billing.shapes import Shape, whole, yes_or_no

_TYPES: Mapping[Shape, str] = {whole: "BIGINT", yes_or_no: "BOOLEAN", allowed.moment: "TIMESTAMPTZ"}
"""A key of another shape is VARCHAR."""

KEYS = {key: _TYPES.get(shape, "VARCHAR") for key, shape in allowed.PAYLOAD.items() if key not in records.SCHEMA.names}
"""The keys of payloads that are no columns of the archive, with the type of their column in `facts`."""

BATCHES = pa.schema(
    [
        pa.field("retention_class", pa.string(), nullable=False),
        pa.field("batch_no", pa.int64(), nullable=False),
        pa.field("event_date", pa.date32(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("first_seq", pa.int64(), nullable=False),
        pa.field("last_seq", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("key", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("version", pa.string()),
        pa.field("lock_mode", pa.string(), nullable=False),
        pa.field("locked_until", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
"""`event_date` is a UTC day. `size` is in bytes."""


@dataclass(frozen=True, slots=True)
class Range:
    """Facts from `since` to just before `until`. None is no bound."""

    since: datetime | None = None
    until: datetime | None = None


EVERYTHING = Range()


def columns() -> list[tuple[str, str]]:
    """Names and types of the columns of `facts`, as SQL is told about them."""
    named = {pa.int64(): "BIGINT", pa.string(): "VARCHAR", pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ"}
    archived = [(field.name, named[field.type]) for field in records.SCHEMA if field.name != "payload"]
    return [("retention_class", "VARCHAR"), ("event_date", "DATE"), *archived, *KEYS.items(), ("payload", "VARCHAR")]


def template(scratch: Path) -> str:
    """An object without facts, to stand before all others: the names and types of columns are taken from it."""
    path = scratch / "class=none" / "event_date=1970-01-01" / "template.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(records.parquet(records.SCHEMA.empty_table()))
    return str(path)


def facts(template: str, files: Sequence[str], within: Range, *, older: Sequence[str] = ()) -> str:
    """The statement that makes the view. `older`: other files, which lack columns.

    What a newer version copies from the payload is read from the payload there; any other missing column is NULL. Of
    one of `files`, to read a missing column is an error.
    """
    selects = [_select(_shown, [template, *files], within)]
    if older:
        selects.append(_select(_shown_of_older, [template, *older], within, ", union_by_name = true"))
    return f"CREATE VIEW facts AS {' UNION ALL '.join(selects)}"


def of_object(template: str, file: str) -> str:
    """The SELECT of the rows of the view that are in this object, whatever version wrote it."""
    newer, _ = by_version([file])
    if newer:
        return _select(_shown, [template, file], EVERYTHING)
    return _select(_shown_of_older, [template, file], EVERYTHING, ", union_by_name = true")


def by_version(files: Iterable[str]) -> tuple[list[str], list[str]]:
    """Those of these objects that have all columns, and those that lack one, because an older version wrote them."""
    newer: list[str] = []
    older: list[str] = []
    for file in files:
        whole = set(records.SCHEMA.names) <= set(pq.read_schema(file).names)
        (newer if whole else older).append(file)
    return newer, older


def _select(shown: Callable[[str, str], str], files: Sequence[str], within: Range, options: str = "") -> str:
    return (
        f"SELECT {', '.join(shown(*column) for column in columns())}"
        f" FROM read_parquet([{', '.join(map(quoted, files))}]{options}, hive_partitioning = true,"
        f" hive_types = {{'class': VARCHAR, 'event_date': DATE}}){_where(within)}"
    )


def _shown(name: str, kind: str) -> str:
    if name == "retention_class":
        return "class AS retention_class"
    return f'{_in_payload(name, kind)} AS "{name}"' if name in KEYS else f'"{name}"'


def _shown_of_older(name: str, kind: str) -> str:
    if name in records.COPIED:
        return f'coalesce("{name}", {_in_payload(name, kind)}) AS "{name}"'
    return _shown(name, kind)


def _in_payload(name: str, kind: str) -> str:
    text = f"payload ->> '{name}'"
    return text if kind == "VARCHAR" else f"TRY_CAST({text} AS {kind})"


def _where(within: Range) -> str:
    bounds = [
        f"happened_at {compares} TIMESTAMPTZ {quoted(bound.isoformat())}"
        for compares, bound in ((">=", within.since), ("<", within.until))
        if bound is not None
    ]
    return f" WHERE {' AND '.join(bounds)}" if bounds else ""


def batches(evidence: Sequence[Evidence]) -> pa.Table:
    """The rows of the view `batches`: what the manifests say about the objects that are read."""
    return pa.Table.from_pylist([_batch(manifest) for part in evidence for manifest in part.manifests], schema=BATCHES)


def _batch(manifest: Manifest) -> dict[str, Any]:
    computed = {
        "batch_no": manifest.number,
        "event_date": date.fromisoformat(manifest.event_date),
        "locked_until": manifest.lock.until,
    }
    return {name: computed[name] if name in computed else getattr(manifest, name) for name in BATCHES.names}


def quoted(text: str) -> str:
    """As a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
