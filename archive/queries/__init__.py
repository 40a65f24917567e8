"""Named queries over the archive: SQL over verified copies, in an engine that can read nothing else.

Each answer names its sources: the digest of its SQL, and the newest manifest of each class that it read. The same query
over the same manifests gives the same answer.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb

from archive.copies.cache import Cache, Evidence
from archive.errors import BadQuestion
from archive.format import records

_PLACE = Path(__file__).parent
NAMES = sorted(path.stem for path in _PLACE.glob("*.sql"))

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of one class: manifests 1 to `last`. The newest has the digest `head`."""

    retention_class: str
    first: int
    last: int
    head: str
    facts: int


@dataclass(frozen=True, slots=True)
class Answer:
    """`since` is included and `until` is not; None means no bound. Amounts are in minor units."""

    query: str
    query_sha256: str
    since: datetime | None
    until: datetime | None
    asked_at: datetime
    evidence: list[Read]
    columns: list[str]
    rows: list[tuple[Any, ...]]


def sql(name: str) -> str:
    """The SQL of this query. Raises BadQuestion if there is no such query."""
    if name not in NAMES:
        raise BadQuestion(f"{name!r} is not a query; choose one of: {', '.join(NAMES)}")
    return (_PLACE / f"{name}.sql").read_text(encoding="utf-8")


def ask(cache: Cache, name: str, *, since: datetime | None = None, until: datetime | None = None) -> Answer:
    """Run one query over what happened from `since` to just before `until`.

    Raises BadQuestion, and the errors of `Cache.bring`; then no query has run.
    """
    text = sql(name)
    first, end = since or BEGINNING, until or END
    if first >= end:
        raise BadQuestion(f"--since {first.isoformat()} is not before --until {end.isoformat()}")
    evidence = cache.bring(_classes(text), until=end.date())
    columns, rows = _run(text, evidence, first, end)
    return Answer(
        query=name,
        query_sha256=hashlib.sha256(text.encode()).hexdigest(),
        since=since,
        until=until,
        asked_at=datetime.now(UTC),
        evidence=[
            Read(part.retention_class, 1, part.last, part.head, sum(m.rows for m in part.manifests))
            for part in evidence
        ],
        columns=columns,
        rows=rows,
    )


def _classes(text: str) -> list[str]:
    """The first line of a query says which classes it reads: `-- reads: capture, attempt`."""
    header = re.match(r"-- reads: (\w+(?:, \w+)*)\n", text)
    assert header, "a query begins with the classes it reads"
    return header[1].split(", ")


def _run(
    text: str, evidence: list[Evidence], since: datetime, until: datetime
) -> tuple[list[str], list[tuple[Any, ...]]]:
    files = [str(path) for part in evidence for path in part.files]
    with duckdb.connect(":memory:", config={"temp_directory": ""}) as engine:
        # A day is a UTC day, wherever this runs.
        engine.execute("SET TimeZone = 'UTC'")
        if files:
            engine.execute("CREATE TABLE facts AS SELECT * FROM read_parquet(?, union_by_name = true)", [files])
        else:
            engine.register("nothing", records.SCHEMA.empty_table())
            engine.execute("CREATE TABLE facts AS SELECT * FROM nothing")
        # From here on it can read no file and load nothing, whatever the SQL says.
        engine.execute("SET enable_external_access = false")
        engine.execute("SET lock_configuration = true")
        result = engine.execute(text, {"since": since, "until": until})
        columns = [column[0] for column in result.description or ()]
        return columns, [tuple(map(_plain, row)) for row in result.fetchall()]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value
