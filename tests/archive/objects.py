"""Objects of the archive as files, without a server: what an engine reads when they were verified."""

import io
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from archive.copies.cache import Evidence
from archive.format import manifests, records
from archive.format.manifests import Manifest
from archive.queries import engine
from archive.queries.columns import Column
from archive.queries.engine import USUAL, Limits
from archive.queries.views import EVERYTHING, Range

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def fact(number: int, topic: str = "capture.captured", at: datetime = NOON, **payload: Any) -> dict[str, Any]:
    return {
        "archive_seq": number,
        "fact_id": number,
        "topic": topic,
        "fact_version": 1,
        "entity_type": topic.partition(".")[0],
        "entity_id": f"cap_{number}",
        "entity_version": 1,
        "actor": "billing",
        "happened_at": at,
        "payload": records.canonical(payload),
        **{name: payload.get(name) for name in records.COPIED},
    }


def evidence(root: Path, *facts: dict[str, Any], schema: pa.Schema = records.SCHEMA) -> list[Evidence]:
    """One object of the class `capture` for each UTC day of these facts."""
    made, files = [], []
    for number, day in enumerate(sorted({str(each["happened_at"].astimezone(UTC).date()) for each in facts}), start=1):
        rows = [each for each in facts if str(each["happened_at"].astimezone(UTC).date()) == day]
        table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
        body = records.parquet(table) if schema is records.SCHEMA else as_an_older_version(table)
        first, last = rows[0]["archive_seq"], rows[-1]["archive_seq"]
        key = f"v1/class=capture/event_date={day}/b{number:012d}-{first:012d}-{last:012d}.parquet"
        made.append(
            Manifest(
                retention_class="capture",
                number=number,
                event_date=day,
                environment="test",
                installation="ins_test",
                key=key,
                sha256=manifests.digest(body),
                version=str(number),
                size=len(body),
                schema=1,
                rows=len(rows),
                first_seq=first,
                last_seq=last,
                captured={},
                lock_mode="GOVERNANCE",
                locked_until="2027-01-01T00:00:00+00:00",
                previous=None,
            )
        )
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        files.append(path)
    return [Evidence("capture", len(made), "0" * 64, tuple(made), tuple(files))]


def as_an_older_version(rows: pa.Table) -> bytes:
    """An object with these columns, and without filters."""
    sink = io.BytesIO()
    pq.write_table(rows, sink)
    return sink.getvalue()


def run(
    sql: str,
    read: Sequence[Evidence] = (),
    *,
    zone: str = "UTC",
    limits: Limits = USUAL,
    declared: Sequence[Column] | None = None,
    within: Range = EVERYTHING,
    **values: Any,
) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        _, table = engine.run(
            sql, values, read, scratch=Path(scratch), zone=zone, limits=limits, declared=declared, within=within
        )
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
