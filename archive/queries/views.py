"""What SQL can see: the views `facts` and `batches`, over verified copies and their manifests.

`facts` has the columns of the archive, and one column for each key that a payload may have, so no query reads JSON. A
key that an older fact lacks is NULL.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa

from archive.copies.cache import Evidence
from archive.format import records
from billing.shapes import Shape, whole, yes_or_no

_TYPES: Mapping[Shape, str] = {whole: "BIGINT", yes_or_no: "BOOLEAN", records.moment: "TIMESTAMPTZ"}
"""A key of another shape is VARCHAR."""

KEYS = {key: _TYPES.get(shape, "VARCHAR") for key, shape in records.PAYLOAD.items() if key not in records.SCHEMA.names}
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


def facts(files: Sequence[str], within: Range, *, columns_of_each: bool = False) -> str:
    """The statement that makes the view; the first file is the template.

    An object of an older version may lack a column. To read such a column is an error, unless the columns of each file
    are looked for: then it is NULL.
    """
    shown = ", ".join(map(_shown, columns()))
    return (
        f"CREATE VIEW facts AS SELECT {shown} FROM read_parquet([{', '.join(map(quoted, files))}],"
        f" union_by_name = {str(columns_of_each).lower()}, hive_partitioning = true,"
        f" hive_types = {{'class': VARCHAR, 'event_date': DATE}}){_where(within)}"
    )


def _shown(column: tuple[str, str]) -> str:
    name, kind = column
    if name == "retention_class":
        return "class AS retention_class"
    if name not in KEYS:
        return f'"{name}"'
    text = f"payload ->> '{name}'"
    return f'{text if kind == "VARCHAR" else f"TRY_CAST({text} AS {kind})"} AS "{name}"'


def _where(within: Range) -> str:
    bounds = [
        f"happened_at {compares} TIMESTAMPTZ {quoted(bound.isoformat())}"
        for compares, bound in ((">=", within.since), ("<", within.until))
        if bound is not None
    ]
    return f" WHERE {' AND '.join(bounds)}" if bounds else ""


def batches(evidence: Sequence[Evidence]) -> pa.Table:
    """The rows of the view `batches`: what the manifests say about the objects that are read."""
    rows = [
        asdict(manifest)
        | {
            "batch_no": manifest.number,
            "event_date": date.fromisoformat(manifest.event_date),
            "locked_until": manifest.lock.until,
        }
        for part in evidence
        for manifest in part.manifests
    ]
    return pa.Table.from_pylist([{name: row[name] for name in BATCHES.names} for row in rows], schema=BATCHES)


def quoted(text: str) -> str:
    """As a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
