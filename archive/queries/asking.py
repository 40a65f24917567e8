"""Ask the archive: bring the copies that a query needs, run it over them, and say what it was computed from.

Each answer names its sources: the digest of its SQL, and the newest manifest of each class that it read. The same query
with the same parameters over the same manifests gives the same answer.
"""

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from archive.copies.cache import EVERY_CLASS, Cache, Copies
from archive.copies.filters import Sought
from archive.errors import BadQuery, BadQuestion
from archive.policy.retention import CLASSES
from archive.queries import engine, query_file
from archive.queries.columns import Column, Table
from archive.queries.engine import USUAL, Limits
from archive.queries.parameters import PARAMETERS, Values, Wanted, values
from archive.queries.query_file import Days, Query
from archive.queries.views import EVERYTHING, Range

_OF_FREE_SQL = tuple(Wanted(PARAMETERS[name], False) for name in ("since", "until", "tz"))


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of one class. Manifests 1 to `last` were checked; the newest has the digest `head`.

    `facts` and `objects` count those that the query could see: the objects of the days that it needs. `hashed`: how
    many copies were hashed for this answer. The others were hashed less than a day before, and nothing has written to
    them since. `passed_over`: further objects of these days, whose filters show that they do not hold the id that was
    asked for.
    """

    retention_class: str
    first: int
    last: int
    head: str
    facts: int
    objects: int
    hashed: int
    passed_over: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """`since` is included and `until` is not; None means no bound. Amounts are in minor units.

    `query` is None for free SQL; `sql` is what was run. `parameters` are texts, as they were given.
    """

    query: str | None
    title: str
    sql: str
    parameters: Mapping[str, str]
    time_zone: str
    since: datetime | None
    until: datetime | None
    asked_at: datetime
    took_ms: int
    evidence: list[Read]
    schema: tuple[Column, ...]
    table: Table

    @property
    def query_sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def columns(self) -> list[str]:
        return [column.name for column in self.schema]

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """Days and times are texts in ISO 8601."""
        columns = [list(map(_plain, column.to_pylist())) for column in self.table.columns]
        return list(zip(*columns, strict=True))

    @property
    def named_rows(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True, slots=True)
class Facts:
    """Rows of the view `facts`, some thousand at a time, each batch read once; and what they come from."""

    rows: Iterator[pa.RecordBatch]
    evidence: list[Read]
    time_zone: str


def ask(
    cache: Cache,
    name: str,
    given: Mapping[str, str] | None = None,
    *,
    newest: Mapping[str, int] | None = None,
    limits: Limits = USUAL,
    rehash: bool = False,
) -> Answer:
    """Run a named query. `given`: texts for its parameters, by name. `newest`: see `Cache.reading`. `rehash`: hash all
    copies first.

    Raises BadQuestion, BadQuery, TooLarge, and the errors of `Cache.reading`.
    """
    query, asked_at = query_file.load(name), datetime.now(UTC)
    asked = values(query.parameters, given or {}, asked_at)
    try:
        first, last = _days(query.days, asked)
        days: dict[str, Any] = {"since": first, "until": last, "newest": newest, "rehash": rehash}
        with cache.reading(query.classes, **days, sought=_sought(query, asked)) as copies:
            by_their_id = query.finds in (None, "entity_id")
            read = copies if by_their_id else _of_whole_entities(copies, query, asked, limits)
            return _answer(query.name, query.title, query.sql, asked, asked_at, read, limits, query.columns)
    except BadQuery as error:
        raise BadQuery(f"{name}.sql: {error}") from None


def ask_sql(
    cache: Cache,
    sql: str,
    given: Mapping[str, str] | None = None,
    *,
    classes: Sequence[str] = EVERY_CLASS,
    limits: Limits = USUAL,
    rehash: bool = False,
) -> Answer:
    """Run one SELECT of the caller over facts of these classes, from `since` to just before `until`.

    Raises BadQuestion, BadQuery, TooLarge, and the errors of `Cache.reading`.
    """
    asked_at = datetime.now(UTC)
    asked = _free_values(classes, given, asked_at)
    first, last = _days(Days.IN_RANGE, asked)
    with cache.reading(classes, since=first, until=last, rehash=rehash) as copies:
        return _answer(None, "SQL", sql, asked, asked_at, copies, limits, None, Range(asked.since, asked.until))


@contextmanager
def facts_chosen(
    cache: Cache, sql: str, given: Mapping[str, str] | None = None, *, classes: Sequence[str] = EVERY_CLASS
) -> Iterator[Facts]:
    """The facts that one SELECT of the caller chooses, which returns their `retention_class` and `archive_seq`. It sees
    what `ask_sql` sees. However many they are, a few are in memory, and no limit of an answer holds.

    Raises BadQuestion, BadQuery, TooLarge, and the errors of `Cache.reading`; also while the rows are read.
    """
    asked = _free_values(classes, given, datetime.now(UTC))
    first, last = _days(Days.IN_RANGE, asked)
    with cache.reading(classes, since=first, until=last) as copies:
        within = Range(asked.since, asked.until)
        rows = engine.facts_chosen(sql, copies.evidence, scratch=copies.scratch, zone=asked.zone, within=within)
        yield Facts(rows, _read(copies), asked.zone)


def _free_values(classes: Sequence[str], given: Mapping[str, str] | None, asked_at: datetime) -> Values:
    for name in classes:
        if name not in CLASSES:
            raise BadQuestion(f"--class {name!r} is no class; there are: {', '.join(CLASSES)}")
    return values(_OF_FREE_SQL, given or {}, asked_at)


def _answer(
    name: str | None,
    title: str,
    sql: str,
    asked: Values,
    asked_at: datetime,
    copies: Copies,
    limits: Limits,
    declared: Sequence[Column] | None,
    within: Range = EVERYTHING,
) -> Answer:
    began = time.monotonic()
    schema, table = engine.run(
        sql,
        asked.of_sql,
        copies.evidence,
        scratch=copies.scratch,
        zone=asked.zone,
        limits=limits,
        declared=declared,
        within=within,
    )
    return Answer(
        query=name,
        title=title,
        sql=sql,
        parameters=asked.given,
        time_zone=asked.zone,
        since=asked.since,
        until=asked.until,
        asked_at=asked_at,
        took_ms=round((time.monotonic() - began) * 1000),
        evidence=_read(copies),
        schema=schema,
        table=table,
    )


def _read(copies: Copies) -> list[Read]:
    return [
        Read(
            part.retention_class,
            1,
            part.last,
            part.head,
            sum(manifest.rows for manifest in part.manifests),
            len(part.files),
            part.hashed,
            part.passed_over,
        )
        for part in copies.evidence
    ]


def _sought(query: Query, asked: Values) -> Sought | None:
    return None if query.finds is None else Sought(query.finds, (asked.of_sql[query.finds],))


def _of_whole_entities(copies: Copies, query: Query, asked: Values, limits: Limits) -> Copies:
    """Instead of the objects that may hold what is sought, those of all facts of the entities that have it: a call of a
    payment does not name it."""
    sql = f"SELECT DISTINCT entity_id FROM facts WHERE {query.finds} = $value"  # noqa: S608 - one of FINDS
    value = {"value": asked.of_sql[str(query.finds)]}
    _, found = engine.run(sql, value, copies.evidence, scratch=copies.scratch, zone=asked.zone, limits=limits)
    evidence = copies.bring(Sought("entity_id", tuple(found.column("entity_id").to_pylist())))
    both = zip(evidence, copies.evidence, strict=True)
    return replace(copies, evidence=[replace(part, hashed=part.hashed + before.hashed) for part, before in both])


def _days(days: Days, asked: Values) -> tuple[date, date]:
    """The first and the last UTC day whose objects are needed: an object holds the facts of one such day."""
    first, last = date.min, date.max
    if asked.since is not None and days is Days.IN_RANGE:
        first = asked.since.date()
    if asked.until is not None and days is not Days.ALL:
        last = (asked.until - timedelta(microseconds=1)).date()
    return first, last


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, date) else value
