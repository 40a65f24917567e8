"""In what form facts are archived: one Parquet schema per version, and canonical JSON of what `archive.format.allowed`
lets pass. Never change a type or a meaning: add a nullable column, or make version 2.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import Row

from archive.format import layout
from archive.format.allowed import PAYLOAD
from billing.shapes import Shape, like

VERSION = layout.VERSION
SCHEMA = pa.schema(
    [
        pa.field("archive_seq", pa.int64(), nullable=False),
        pa.field("fact_id", pa.int64(), nullable=False),
        pa.field("topic", pa.string(), nullable=False),
        pa.field("fact_version", pa.int64(), nullable=False),
        pa.field("entity_type", pa.string(), nullable=False),
        pa.field("entity_id", pa.string(), nullable=False),
        pa.field("entity_version", pa.int64(), nullable=False),
        # Null if it does not look like the id of a service or of a member of staff.
        pa.field("actor", pa.string()),
        # Null if it does not look like an opaque id, or may be a card number: nothing can be deleted from the archive.
        pa.field("correlation_id", pa.string()),
        pa.field("happened_at", pa.timestamp("us", tz="UTC"), nullable=False),
        # These two, and the last two, are copied from the payload: an engine finds and sums them without reading JSON.
        pa.field("minor", pa.int64()),
        pa.field("currency", pa.string()),
        # Canonical JSON: sorted keys, no spaces.
        pa.field("payload", pa.string(), nullable=False),
        # Since 0.2.0. An object that an older version wrote, perhaps today, lacks the columns from here on.
        pa.field("payment_intent", pa.string()),
        pa.field("account", pa.string()),
    ],
    metadata={"billing.schema": str(VERSION)},
)

COPIED = ("minor", "currency", "payment_intent", "account")
"""Columns that are copied from the payload. It keeps the keys: it is the whole fact, which is compared with Postgres
and brought back from here, and older versions read nothing else."""
_CAME_AS_COLUMNS = ("payment_intent", "account")

# A dictionary for ids makes a file larger, and slower to write.
_FEW_VALUES = ["topic", "entity_type", "actor", "currency", "account"]
LOOKED_UP = ("entity_id", "payment_intent")
"""Columns with a bloom filter: whoever looks for one id passes over the objects that do not hold it. Sorting would not
do: the rows of an object are in the order of `archive_seq`."""
_RISING = dict.fromkeys(("archive_seq", "fact_id", "entity_version", "happened_at"), "DELTA_BINARY_PACKED")

WRITING: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": _FEW_VALUES,
    "column_encoding": _RISING,
}
"""How a Parquet file of facts is written, whatever the order of its rows."""

Rows: TypeAlias = pa.Table

_staff_or_service = like(r"[a-z][a-z0-9_.:-]{0,63}")
_opaque = like(r"(?=.*\d)[A-Za-z0-9_.:-]{1,128}")


def by_column(facts: Sequence[Row[Any]]) -> dict[str, Sequence[Any]]:
    """The values of each column; none if there is no fact. To ask each row for a value by name takes a microsecond, and
    so most of the time in which a fact is archived."""
    return dict(zip(facts[0]._fields, zip(*facts, strict=True), strict=True)) if facts else {}


def table(facts: Sequence[Row[Any]]) -> Rows:
    """The rows to be archived for these facts, which `batches.facts_of` has read. Times are UTC."""
    if not facts:
        return SCHEMA.empty_table()
    told = by_column(facts)
    texts, copies = _payloads(told["payload"])
    columns = {
        "archive_seq": told["archive_seq"],
        "fact_id": told["id"],
        "topic": told["topic"],
        "fact_version": told["version"],
        "entity_type": told["entity_type"],
        "entity_id": told["entity_id"],
        "entity_version": told["entity_version"],
        "actor": [_shown(actor, _staff_or_service) for actor in told["actor"]],
        "correlation_id": [_shown(correlation_id, _opaque) for correlation_id in told["correlation_id"]],
        "happened_at": told["happened_at"],
        "payload": texts,
        **copies,
    }
    return pa.table(columns, schema=SCHEMA)


def _payloads(payloads: Sequence[dict[str, Any] | None]) -> tuple[list[str], dict[str, list[Any]]]:
    """The column `payload`, and the columns `COPIED`."""
    texts: list[str] = []
    copies: dict[str, list[Any]] = {name: [] for name in COPIED}
    for payload in payloads:
        allowed = members(payload or {})
        texts.append(joined(allowed))
        for name, column in copies.items():
            column.append(payload[name] if payload and name in allowed else None)
    return texts, copies


def members(payload: dict[str, Any]) -> dict[str, str]:
    """The part of a payload that may be archived: each key, with `"key":value` as it stands in canonical JSON. Null
    values are left out.

    Most of the time in which a fact is archived was spent on these texts. Most are the same in many facts, so they are
    remembered one by one.
    """
    return {key: member for key, value in payload.items() if (member := _member(key, value)) is not None}


def joined(allowed: Mapping[str, str]) -> str:
    """Canonical JSON of these members. They are sorted by key, because each begins with its key, and no key holds a
    character that sorts before the quote at its end."""
    return "{" + ",".join(sorted(allowed.values())) + "}"


def _member(key: str, value: Any) -> str | None:
    """`"key":value` as it stands in canonical JSON; None if it may not be archived."""
    if type(value) is str:
        return _TEXT_MEMBER[key](value) if key in _TEXT_MEMBER else None
    if key not in PAYLOAD or not PAYLOAD[key](value):
        return None
    return f'"{key}":{value}' if type(value) is int else f'"{key}":{canonical(value)}'


def _text_member(key: str) -> Callable[[str], str | None]:
    return lambda value: f'"{key}":{canonical(value)}' if PAYLOAD[key](value) else None


# The facts of one operation repeat its ids, and all facts the same codes.
_TEXT_MEMBER = {key: lru_cache(maxsize=16_384)(_text_member(key)) for key in PAYLOAD}


_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(value: Any) -> str:
    """The one way to write this value as JSON."""
    return _encoder.encode(value)


def parquet(rows: Rows) -> bytes:
    """The object. One version of pyarrow writes the same bytes for the same rows; another may not."""
    sink = BytesIO()
    filters = {name: _filter(rows.column(name)) for name in LOOKED_UP}
    pq.write_table(rows, sink, **WRITING, row_group_size=128 * 1024, bloom_filter_options=filters)
    return sink.getvalue()


def _filter(column: pa.ChunkedArray) -> dict[str, float]:
    """A bloom filter for as many values as there are: that of a small object is small."""
    return {"ndv": max(1, pc.count_distinct(column).as_py()), "fpp": 0.01}


def read(body: bytes) -> Rows:
    """The rows of an object, with every column: what an older version did not copy from the payload is copied now.

    Raises ValueError if it is not one of our Parquet files.
    """
    try:
        names = pq.read_schema(pa.BufferReader(body)).names
        rows = pq.read_table(pa.BufferReader(body), schema=SCHEMA)
        for name in _CAME_AS_COLUMNS:
            if name not in names:
                values = pa.array(copied(rows, name), pa.string())
                rows = rows.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), values)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"not one of our Parquet files: {type(error).__name__}") from None
    return rows


def copied(rows: Rows, name: str) -> list[Any]:
    """What these rows have in a column of `COPIED`, by their payloads. Raises ValueError if one is no JSON object."""
    found = (read_payload(payload).get(name) for payload in rows.column("payload").to_pylist())
    return [value if PAYLOAD[name](value) else None for value in found]


def read_payload(text: str) -> dict[str, Any]:
    """Raises ValueError if it is no JSON object."""
    try:
        payload = json.loads(text)
    except RecursionError:
        payload = None
    if isinstance(payload, dict):
        return payload
    raise ValueError("no JSON object")


def captured(rows: Rows) -> dict[str, int]:
    """The money that these facts say was taken: minor units by currency."""
    taken = rows.filter(pc.equal(rows.column("topic"), "capture.captured")).select(["currency", "minor"]).drop_null()
    sums = taken.group_by("currency").aggregate([("minor", "sum")])
    return dict(zip(sums.column("currency").to_pylist(), sums.column("minor_sum").to_pylist(), strict=True))


@lru_cache(maxsize=16_384)
def _shown(value: str | None, shape: Shape) -> str | None:
    return value if value is not None and shape(value) else None
