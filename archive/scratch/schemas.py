"""Scratch schemas: where facts of the archive are brought back for an investigation, in a Postgres that is not ours.

A schema is named `billing_scratch_NAME` and has three tables. `facts` has the columns of the view that
`billing archive sql` shows, so the same SQL reads both. `source` and `source_manifests` say what it was made from. A
schema without our mark is never touched, and one that holds anything else is never dropped.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

from archive.errors import BadScratch
from archive.queries import views

Connection = psycopg.Connection[Any]

PREFIX = "billing_scratch_"
OLD = timedelta(days=30)
"""After that the doctor asks whether the investigation is over."""
_MARK = "made by billing archive restore"
_TABLES = ("facts", "source_manifests", "source")
_TYPES = {"VARCHAR": "text", "BIGINT": "bigint", "BOOLEAN": "boolean", "DATE": "date", "TIMESTAMPTZ": "timestamptz"}
_IDS = ("entity_id", "correlation_id", "payment_intent", "charge", "customer", "stripe_invoice", "request_id")
"""The columns of `facts` by which people search; each has an index."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """One schema, as its table `source` says. `old`: its age is more than `OLD`."""

    name: str
    schema: str
    made_at: datetime
    made_by: str
    reason: str
    facts: int
    bytes: int
    old: bool


def schema_of(name: str) -> str:
    """Raises BadScratch for a name that is none."""
    if not re.fullmatch("[a-z][a-z0-9_]{0,39}", name):
        raise BadScratch(f"{name!r} is no name; write a-z, 0-9 and _, at most 40, such as case_7")
    return PREFIX + name


def check_place(connection: Connection) -> None:
    """Raises BadScratch in the service's own database, where a copy of ten million facts could fill the disk that money
    is on, would be in every backup, and would need a login with more rights than ours have."""
    if _one(connection, "SELECT to_regclass('billing.installation') IS NOT NULL"):
        raise BadScratch(
            "BILLING_SCRATCH_URL leads to the database of the service; make one for investigations: CREATE DATABASE"
        )


def check_free(connection: Connection, schema: str) -> None:
    """Raises BadScratch if there is one of this name."""
    if exists(connection, schema):
        raise BadScratch(f"{schema} exists; --replace makes it anew, and --drop removes it")


def check_ours(connection: Connection, schema: str) -> None:
    """Raises BadScratch if there is none of this name, or it was made otherwise."""
    if not exists(connection, schema):
        raise BadScratch(f"{schema} does not exist; --list shows those that do")
    if _one(connection, _MARK_OF, schema) != _MARK:
        raise BadScratch(f"{schema} was not made by this command; nothing was dropped")


def exists(connection: Connection, schema: str) -> bool:
    return bool(_one(connection, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %s)", schema))


def make(connection: Connection, schema: str) -> None:
    """An empty schema, without indexes. Raises BadScratch if there is one of this name."""
    check_free(connection, schema)
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(_type(name, kind))) for name, kind in views.columns()
    )
    for statement in (
        sql.SQL("CREATE SCHEMA {schema}"),
        sql.SQL("COMMENT ON SCHEMA {schema} IS {mark}"),
        sql.SQL("CREATE TABLE {schema}.facts ({columns})"),
        sql.SQL(_SOURCE),
        sql.SQL(_MANIFESTS),
    ):
        connection.execute(
            statement.format(schema=sql.Identifier(schema), mark=sql.Literal(_MARK), columns=columns), prepare=False
        )


def add_indexes(connection: Connection, schema: str) -> None:
    """After the rows are there: it takes a part of the time. The key also shows that no fact is there twice."""
    facts = sql.Identifier(schema, "facts")
    connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (retention_class, archive_seq)").format(facts))
    for column in (*_IDS, "happened_at"):
        connection.execute(sql.SQL("CREATE INDEX ON {} ({})").format(facts, sql.Identifier(column)))
    connection.execute(sql.SQL("ANALYZE {}").format(facts))


def drop(connection: Connection, schema: str) -> None:
    """Raises BadScratch if there is none, if it is not ours, or if it holds anything of somebody else's."""
    check_ours(connection, schema)
    try:
        for table in _TABLES:
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(schema, table)))
        connection.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(schema)))
    except psycopg.errors.DependentObjectsStillExist:
        raise BadScratch(
            f"{schema} holds something of yours as well, such as a view; move it or drop it, and try again"
        ) from None


def listed(connection: Connection) -> list[Scratch]:
    """Those that this login may read, the oldest first."""
    found = []
    for schema in _all(connection):
        row = connection.execute(
            sql.SQL(
                "SELECT made_at, made_by, reason, facts, pg_total_relation_size({table}::regclass),"
                " made_at < now() - {old} FROM {source}"
            ).format(
                table=sql.Literal(f"{schema}.facts"), old=sql.Literal(OLD), source=sql.Identifier(schema, "source")
            )
        ).fetchone()
        if row is not None:
            found.append(Scratch(schema.removeprefix(PREFIX), schema, *row))
    return sorted(found, key=lambda each: each.made_at)


def column_names() -> Sequence[str]:
    return [name for name, _ in views.columns()]


def _all(connection: Connection) -> list[str]:
    rows = connection.execute(
        "SELECT n.nspname FROM pg_namespace AS n JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = 'source'"
        " WHERE starts_with(n.nspname, %s) AND obj_description(n.oid, 'pg_namespace') = %s"
        "   AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')",
        (PREFIX, _MARK),
    )
    return [str(row[0]) for row in rows]


def _one(connection: Connection, statement: Any, *values: Any) -> Any:
    row = connection.execute(statement, values).fetchone()
    return None if row is None else row[0]


def _type(name: str, kind: str) -> str:
    required = " NOT NULL" if name in ("retention_class", "archive_seq", "happened_at", "payload") else ""
    return ("jsonb" if name == "payload" else _TYPES[kind]) + required


_MARK_OF = "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s"
_SOURCE = """
CREATE TABLE {schema}.source (
    format text NOT NULL, made_at timestamptz NOT NULL DEFAULT now(), made_by text NOT NULL, reason text NOT NULL,
    environment text NOT NULL, bucket text NOT NULL, parameters jsonb NOT NULL, query text NOT NULL,
    query_sha256 text NOT NULL, time_zone text NOT NULL, facts bigint NOT NULL)
"""
_MANIFESTS = """
CREATE TABLE {schema}.source_manifests (
    retention_class text PRIMARY KEY, first bigint NOT NULL, last bigint NOT NULL, head text NOT NULL,
    facts bigint NOT NULL, objects bigint NOT NULL)
"""
