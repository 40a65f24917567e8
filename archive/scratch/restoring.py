"""Brings facts from the verified archive into a scratch schema: chosen by one SELECT, streamed, in one transaction.

What is written comes from copies whose bytes were checked against the chain of manifests, and from nothing else: the
SELECT only chooses facts, by their class and number, and cannot change or invent one. Some thousand rows are in memory
at a time. If it dies, Postgres takes everything back.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import pyarrow as pa
import pyarrow.csv
from psycopg import sql
from psycopg.types.json import Jsonb

from archive.copies.cache import EVERY_CLASS, Cache
from archive.errors import BadQuestion
from archive.queries.asking import Facts, facts_chosen
from archive.queries.views import quoted
from archive.scratch import schemas
from archive.scratch.schemas import Connection
from billing.texts import opaque_id

FORMAT = "billing-archive-scratch/1"
ALL = "SELECT retention_class, archive_seq FROM facts"
_LINKED = ("entity_id", "correlation_id", "payment_intent", "charge", "customer", "stripe_invoice")
"""The columns in which an id is looked for. All facts of each operation that names it are brought back."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which facts are brought back. `query`: a SELECT of the columns `retention_class` and `archive_seq`, over the
    views that `billing archive sql` has. `given`: since, until and tz, as texts."""

    query: str = ALL
    classes: Sequence[str] = EVERY_CLASS
    given: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Maker:
    """Who makes it and why, and of which archive."""

    actor: str
    reason: str
    environment: str
    bucket: str


@dataclass(frozen=True, slots=True)
class Restored:
    schema: str
    facts: int
    query_sha256: str
    heads: Mapping[str, str]


def of_ids(ids: Sequence[str]) -> str:
    """The SELECT that chooses every fact of the captures, invoices and others that name one of these ids. Raises
    InvalidText for what is no id."""
    wanted = ", ".join(quoted(opaque_id("--id", each)) for each in ids)
    named = " OR ".join(f"{column} IN ({wanted})" for column in _LINKED)
    return f"{ALL} WHERE entity_id IN (SELECT entity_id FROM facts WHERE {named})"  # noqa: S608 - ids are quoted


def restore(
    cache: Cache,
    connection: Connection,
    schema: str,
    choice: Choice,
    maker: Maker,
    *,
    replace: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Restored:
    """Make the schema and fill it, in the connection's transaction; the caller commits.

    Raises BadScratch, BadQuestion if nothing is chosen, BadQuery, and what `Cache.reading` raises.
    """
    with facts_chosen(cache, choice.query, choice.given, classes=choice.classes) as facts:
        # Everything is downloaded and checked, and only now a transaction begins there.
        if replace and schemas.exists(connection, schema):
            schemas.drop(connection, schema)
        schemas.make(connection, schema)
        count = _copy(connection, schema, facts, progress)
    if not count:
        raise BadQuestion("the archive has no such fact; nothing was made")
    schemas.add_indexes(connection, schema)
    digest = hashlib.sha256(choice.query.encode()).hexdigest()
    _describe(connection, schema, choice, maker, facts, digest, count)
    return Restored(schema, count, digest, {read.retention_class: read.head for read in facts.evidence})


def _copy(connection: Connection, schema: str, facts: Facts, progress: Callable[[int], None]) -> int:
    names = schemas.column_names()
    into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        sql.Identifier(schema, "facts"), sql.SQL(", ").join(map(sql.Identifier, names))
    )
    count = 0
    with connection.cursor() as cursor, cursor.copy(into) as copy:
        for batch in facts.rows:
            copy.write(_csv(batch.select(names)))
            count += batch.num_rows
            progress(count)
    return count


_NO_HEADER = pyarrow.csv.WriteOptions(include_header=False)


def _csv(batch: pa.RecordBatch) -> bytes:
    """A text is always in quotes, so that an empty one differs from NULL; a time is in UTC."""
    written = BytesIO()
    pyarrow.csv.write_csv(batch, written, _NO_HEADER)
    return written.getvalue()


def _describe(
    connection: Connection, schema: str, choice: Choice, maker: Maker, facts: Facts, digest: str, count: int
) -> None:
    parameters = {**(choice.given or {}), "classes": list(choice.classes)}
    connection.execute(
        sql.SQL(
            "INSERT INTO {} (format, made_by, reason, environment, bucket, parameters, query, query_sha256, time_zone,"
            " facts) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        ).format(sql.Identifier(schema, "source")),
        (
            *(FORMAT, maker.actor, maker.reason, maker.environment, maker.bucket),
            *(Jsonb(parameters), choice.query, digest, facts.time_zone, count),
        ),
    )
    for read in facts.evidence:
        connection.execute(
            sql.SQL("INSERT INTO {} VALUES (%s, %s, %s, %s, %s, %s)").format(
                sql.Identifier(schema, "source_manifests")
            ),
            (read.retention_class, read.first, read.last, read.head, read.facts, read.objects),
        )
