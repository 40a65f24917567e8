"""What SQL can see: the views `facts` and `batches`, over verified copies and their manifests.

`facts` has the columns of the archive, and one column for each key that a payload may have, so no query reads JSON. A
key that an older fact lacks is NULL.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime

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
        pa.field("key", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
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


def facts(files: Sequence[str], within: Range) -> str:
    """The statement that makes the view. Without files it is empty.

    A part without rows has every column, because objects of an older version may all lack a newer one.
    """
    stored = [(name, kind) for name, kind in columns() if name not in KEYS]
    parts = [f"SELECT {', '.join(f'CAST(NULL AS {kind}) AS {name}' for name, kind in stored)} WHERE false"]
    if files:
        parts.append(
            f"SELECT *, class AS retention_class FROM read_parquet([{', '.join(map(quoted, files))}],"
            " union_by_name = true, hive_partitioning = true, hive_types = {'class': VARCHAR, 'event_date': DATE})"
        )
    shown = ", ".join(map(_shown, columns()))
    return f"CREATE VIEW facts AS SELECT {shown} FROM ({' UNION ALL BY NAME '.join(parts)}){_where(within)}"


def _shown(column: tuple[str, str]) -> str:
    name, kind = column
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
