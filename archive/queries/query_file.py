"""A query is one .sql file: a header of comments that says what it answers, reads, takes and returns, and below it the
SQL. A file whose header is incomplete or unknown is refused.

    -- title: Captured by day
    -- answers: What was captured, by local day and currency?
    -- reads: capture
    -- parameters: since, until, tz
    -- columns: day date, currency text, captures int, minor money

A line of a header may go on in the next one, indented by two more spaces. `reads` names retention classes. A parameter
is one of `parameters.PARAMETERS`, and may be `required`. A column has one of the types of `columns.Type`, and may be
empty if a `?` follows. `days` says which facts the SQL looks at, because only their objects are downloaded: `in range`,
none outside the asked range; `until`, none after it, which is the default; `all`, any. `finds` names a parameter that
is also one of `FINDS`: the SQL looks only at facts of the entities that have its value there in one of their facts, so
that only the objects that may hold such facts are read.
"""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from archive.errors import BadQuery, BadQuestion
from archive.format import records
from archive.policy.retention import CLASSES
from archive.queries.columns import Column, Type, schema_of
from archive.queries.parameters import PARAMETERS, Wanted

PLACE = Path(__file__).parent
NAMES = sorted(path.stem for path in PLACE.glob("*.sql"))


class Days(StrEnum):
    """Which facts a query looks at, by the range that it is asked for."""

    IN_RANGE = "in range"
    UNTIL = "until"
    ALL = "all"


FINDS = records.LOOKED_UP
_FIELDS = ("title", "answers", "reads", "parameters", "columns", "days", "finds")
_OPTIONAL = {"parameters", "days", "finds"}
_FIELD = re.compile(r"-- (\w+): (\S.*)")
_MORE = re.compile(r"--   +(\S.*)")
_COLUMN = re.compile(r"([a-z][a-z0-9_]*) ([a-z]+)(\?)?")
_WANTED = re.compile(r"([a-z_]+)( required)?")


@dataclass(frozen=True, slots=True)
class Query:
    """`sql` is the whole file, so its digest covers the header."""

    name: str
    title: str
    answers: str
    classes: tuple[str, ...]
    parameters: tuple[Wanted, ...]
    columns: tuple[Column, ...]
    days: Days
    finds: str | None
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


@cache
def load(name: str) -> Query:
    """Raises BadQuestion if there is no such query, BadQuery if its header is wrong."""
    if name not in NAMES:
        raise BadQuestion(f"{name!r} is not a query; choose one of: {', '.join(NAMES)}")
    return parse(name, (PLACE / f"{name}.sql").read_text(encoding="utf-8"))


def every() -> list[Query]:
    """All queries, by name. Raises BadQuery if the header of one is wrong."""
    return [load(name) for name in NAMES]


def description(query: Query) -> dict[str, Any]:
    """What a program, or a person, must know to ask it. The form is stable."""
    return {
        "name": query.name,
        "title": query.title,
        "answers": query.answers,
        "classes": list(query.classes),
        "days": query.days.value,
        "parameters": [
            {
                "name": each.parameter.name,
                "required": each.required,
                "meaning": each.parameter.meaning,
                "example": each.parameter.example,
            }
            for each in query.parameters
        ],
        "columns": [schema_of(column) for column in query.columns],
        "query_sha256": query.sha256,
    }


def parse(name: str, sql: str) -> Query:
    """Raises BadQuery, whose one line names the file and what to write."""
    try:
        fields = _fields(sql)
        return Query(
            name,
            fields["title"],
            fields["answers"],
            tuple(map(_class, fields["reads"].split(", "))),
            tuple(map(_wanted, fields["parameters"].split(", "))) if "parameters" in fields else (),
            _columns(fields["columns"]),
            _days(fields.get("days", Days.UNTIL)),
            _finds(fields),
            sql,
        )
    except BadQuery as error:
        raise BadQuery(f"{name}.sql: {error}") from None


def _fields(sql: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    last = None
    for line in sql.splitlines():
        if begins := _FIELD.fullmatch(line):
            last = begins[1]
            if last not in _FIELDS or last in fields:
                raise BadQuery(f"{last}: unknown or written twice; a header has: {', '.join(_FIELDS)}")
            fields[last] = begins[2].strip()
        elif last and (more := _MORE.fullmatch(line)):
            fields[last] += f" {more[1].strip()}"
        else:
            break
    if missing := [field for field in _FIELDS if field not in fields and field not in _OPTIONAL]:
        raise BadQuery(f"its header lacks `-- {missing[0]}: ...`; a header has: {', '.join(_FIELDS)}")
    return fields


def _class(text: str) -> str:
    if text not in CLASSES:
        raise BadQuery(f"reads: {text!r} is no class; there are: {', '.join(CLASSES)}")
    return text


def _wanted(text: str) -> Wanted:
    found = _WANTED.fullmatch(text)
    if found is None or found[1] not in PARAMETERS:
        raise BadQuery(f"parameters: {text!r} is unknown; there are: {', '.join(PARAMETERS)}")
    return Wanted(PARAMETERS[found[1]], bool(found[2]))


def _columns(text: str) -> tuple[Column, ...]:
    columns = tuple(map(_column, text.split(", ")))
    names = [each.name for each in columns]
    if any(each.type is Type.MONEY for each in columns) and "currency" not in names:
        raise BadQuery("columns: money needs a column `currency` in the same row")
    if len(set(names)) < len(names):
        raise BadQuery("columns: two have the same name")
    return columns


def _column(text: str) -> Column:
    found = _COLUMN.fullmatch(text)
    if found is None or found[2] not in list(Type):
        raise BadQuery(f"columns: {text!r} is not `name type` or `name type?`; types are: {', '.join(Type)}")
    return Column(found[1], Type(found[2]), bool(found[3]))


def _days(text: str) -> Days:
    if text not in list(Days):
        raise BadQuery(f"days: {text!r} is unknown; there are: {', '.join(Days)}")
    return Days(text)


def _finds(fields: dict[str, str]) -> str | None:
    name = fields.get("finds")
    if name is not None and (name not in FINDS or f"{name} required" not in fields.get("parameters", "").split(", ")):
        raise BadQuery(f"finds: {name!r} is no required parameter, or none of: {', '.join(FINDS)}")
    return name
