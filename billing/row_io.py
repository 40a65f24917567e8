"""Reads and writes rows of mapped tables in batches, as the ORM would, with less CPU.

Loaded rows belong to no session: only `save` writes them, and it knows what has changed by the ORM's own marks. The
rows of a statement are one JSON parameter, so its text is the same for any number of rows, and Postgres prepares it
once. Statements name their columns, because `*` would fail in each worker that runs while a migration adds a column.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import inspect
from sqlalchemy.orm import Session

from billing.statements import run
from billing.tables.schema import Table

T = TypeVar("T", bound=Table)


def load(session: Session, table: type[T], statement: str, **values: Any) -> list[T]:
    """The rows of one table that a statement selects, in its order. What is deferred stays unloaded.

    Where it selects `<table>.*`, the columns are named instead. Raises TypeError where it leaves a column out: that
    would read as null.
    """
    found = run(session, _with_columns(table, statement), **values)
    attributes = _attributes(table, tuple(found.keys()))
    loaded = []
    for values_of_one in found.all():
        row: T = table.__mapper__.class_manager.new_instance()
        vars(row).update(zip(attributes, values_of_one, strict=True))
        loaded.append(row)
    return loaded


def locked(session: Session, table: type[T], ids: Collection[str], *, wait: bool = True) -> list[T]:
    """The rows with these ids, locked in the order of the ids: two who want the same rows cannot end in a deadlock.
    Without `wait`, only those that no other transaction has locked."""
    name = table.__tablename__
    statement = f"SELECT {name}.* FROM {table.__table__} WHERE id = ANY (%(ids)s) ORDER BY id FOR NO KEY UPDATE"
    return load(session, table, statement if wait else f"{statement} SKIP LOCKED", ids=list(ids))


def locked_where_free(session: Session, table: type[T], ids: Collection[str], names: Sequence[str]) -> list[T]:
    """Those of these rows that no other transaction has locked, locked, with these attributes alone: for a login that
    may not read the others."""
    columns = _columns(table)
    shown = ", ".join(columns[name] for name in names)
    statement = (
        f"SELECT {shown} FROM {table.__table__} WHERE id = ANY (%(ids)s) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED"
    )
    loaded = []
    for values in run(session, statement, ids=list(ids)).all():
        row: T = table.__mapper__.class_manager.new_instance()
        vars(row).update(zip(names, values, strict=True))
        loaded.append(row)
    return loaded


def save(session: Session, rows: Iterable[Table], new: Sequence[Table] = ()) -> None:
    """Write what has changed of these loaded rows, and new ones of one table, in one statement."""
    groups: dict[tuple[type[Table], tuple[str, ...]], list[Table]] = defaultdict(list)
    for row in {id(row): row for row in rows}.values():
        if changed := _columns(type(row)).keys() - inspect(row).unmodified:
            groups[type(row), tuple(sorted(changed))].append(row)
    statements: list[str] = []
    values: dict[str, str] = {}
    for (table, changed_names), changed_rows in groups.items():
        statements.append(_update(table, changed_names, place=f"rows_{len(values)}"))
        values[f"rows_{len(values)}"] = _as_json(changed_rows, (*_key(table), *changed_names))
    if new:
        named = _named(new)
        statements.append(_insertion(type(new[0]), named))
        values["new"] = _as_json(new, named)
    if statements:
        *first, last = statements
        together = ", ".join(f"part_{number} AS ({statement})" for number, statement in enumerate(first))
        run(session, f"WITH {together} {last}" if first else last, **values)


def insert_where_free(session: Session, rows: Sequence[Table]) -> set[str]:
    """Insert new rows of one table, except those that a unique index forbids. Returns the ids of the inserted rows."""
    named = _named(rows)
    statement = f"{_insertion(type(rows[0]), named)} ON CONFLICT DO NOTHING RETURNING id"
    return set(run(session, statement, new=_as_json(rows, named)).scalars())


def _named(rows: Sequence[Table]) -> tuple[str, ...]:
    """The attributes to insert: those that have a value in at least one of these rows. The database sets all others. A
    row without a value that another row has gets null, which the database refuses if the column has a default."""
    with_value = {name for row in rows for name, value in vars(row).items() if value is not None}
    return tuple(name for name in _columns(type(rows[0])) if name in with_value)


@cache
def _columns(table: type[Table]) -> Mapping[str, str]:
    """Attribute name -> column name. They may differ."""
    return {attribute.key: attribute.columns[0].name for attribute in table.__mapper__.column_attrs}


@cache
def _key(table: type[Table]) -> tuple[str, ...]:
    """The attributes of the primary key."""
    return tuple(table.__mapper__.get_property_by_column(column).key for column in table.__mapper__.primary_key)


@cache
def _with_columns(table: type[Table], statement: str) -> str:
    name = table.__tablename__
    columns = [attribute.columns[0].name for attribute in table.__mapper__.column_attrs if not attribute.deferred]
    return statement.replace(f"{name}.*", ", ".join(f"{name}.{column}" for column in columns))


@cache
def _attributes(table: type[Table], columns: tuple[str, ...]) -> tuple[str, ...]:
    """The name of the attribute for each of these columns."""
    wanted = {each.columns[0].name: each.key for each in table.__mapper__.column_attrs if not each.deferred}
    if set(columns) != set(wanted):
        raise TypeError(f"columns of {table.__tablename__}: {sorted(set(columns) ^ set(wanted))} differ")
    return tuple(wanted[column] for column in columns)


@cache
def _update(table: type[Table], changed: tuple[str, ...], place: str) -> str:
    """An UPDATE of these attributes, with the rows in the parameter `place`."""
    columns = _columns(table)
    changes = ", ".join(f"{columns[name]} = new.{columns[name]}" for name in changed)
    same = " AND ".join(f"old.{columns[name]} = new.{columns[name]}" for name in _key(table))
    source = f"json_populate_recordset(NULL::{table.__table__}, %({place})s)"
    return f"UPDATE {table.__table__} AS old SET {changes} FROM {source} AS new WHERE {same}"


@cache
def _insertion(table: type[Table], named: tuple[str, ...]) -> str:
    columns = ", ".join(_columns(table)[name] for name in named)
    source = f"json_populate_recordset(NULL::{table.__table__}, %(new)s)"
    return f"INSERT INTO {table.__table__} ({columns}) SELECT {columns} FROM {source}"


def _as_json(rows: Sequence[Table], names: Sequence[str]) -> str:
    columns = _columns(type(rows[0]))
    return json.dumps(
        [{columns[name]: values.get(name) for name in names} for values in map(vars, rows)], default=_text
    )


def _text(value: object) -> str:
    """Values that JSON lacks, as text that Postgres reads: bytes, times and dates."""
    return "\\x" + value.hex() if isinstance(value, bytes) else value.isoformat()  # type: ignore[attr-defined]
