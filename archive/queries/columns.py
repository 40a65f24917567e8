"""The types of an answer's columns. What the engine returns must have the declared ones, exactly.

`money` is a whole number of minor units; the column `currency` of the same row says of which currency. Money is never a
float, and never without a currency beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import pyarrow as pa

from archive.errors import BadQuery

Table: TypeAlias = pa.Table


class Type(StrEnum):
    TEXT = "text"
    INT = "int"
    MONEY = "money"
    NUMBER = "number"
    DATE = "date"
    TIME = "time"
    BOOL = "bool"


MEANINGS = {
    Type.TEXT: "a word or an id",
    Type.INT: "a whole number of 64 bits",
    Type.MONEY: "minor units, as a whole number of 64 bits; `currency` in the same row says of which currency",
    Type.NUMBER: "a number that may have decimals: a share, an average, a duration",
    Type.DATE: "a day in the time zone that was asked for",
    Type.TIME: "a moment, written in the time zone that was asked for, with its offset",
    Type.BOOL: "true or false",
}


@dataclass(frozen=True, slots=True)
class Column:
    """`nullable`: the answer may leave it empty, which means that it is not known or does not apply."""

    name: str
    type: Type
    nullable: bool

    def __str__(self) -> str:
        return f"{self.name} {self.type}{'?' if self.nullable else ''}"


def schema_of(column: Column) -> dict[str, Any]:
    """As JSON says it."""
    return {"name": column.name, "type": column.type.value, "nullable": column.nullable}


def _counts(kind: Any) -> bool:
    # A sum of whole numbers is a HUGEINT, which comes as a decimal without decimals.
    return bool(pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0))


_RETURNED: dict[Type, Callable[[Any], bool]] = {
    Type.TEXT: lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
    Type.INT: _counts,
    Type.MONEY: _counts,
    Type.NUMBER: lambda kind: _counts(kind) or pa.types.is_decimal(kind) or pa.types.is_floating(kind),
    Type.DATE: pa.types.is_date,
    Type.TIME: lambda kind: pa.types.is_timestamp(kind) and kind.tz is not None,
    Type.BOOL: pa.types.is_boolean,
}
"""Which types of the engine may stand for a declared type."""


def arrow(column: Column, zone: str) -> pa.Field:
    types = {
        Type.TEXT: pa.string(),
        Type.INT: pa.int64(),
        Type.MONEY: pa.int64(),
        Type.NUMBER: pa.float64(),
        Type.DATE: pa.date32(),
        Type.TIME: pa.timestamp("us", tz=zone),
        Type.BOOL: pa.bool_(),
    }
    return pa.field(column.name, types[column.type], nullable=column.nullable)


def found(schema: pa.Schema) -> tuple[Column, ...]:
    """The columns of free SQL, by what the engine returns. A number named `minor` or `..._minor` beside a column
    `currency` is money. Raises BadQuery if two have one name, or a type is none of ours."""
    if doubles := sorted({name for name in schema.names if schema.names.count(name) > 1}):
        raise BadQuery(f"two columns are named {doubles[0]}; name one of them otherwise with AS")
    money = "currency" in schema.names
    return tuple(_column(field, money) for field in schema)


def _column(field: pa.Field, beside_a_currency: bool) -> Column:
    if pa.types.is_null(field.type):
        return Column(field.name, Type.TEXT, True)
    named_money = field.name == "minor" or field.name.endswith("_minor")
    if named_money and beside_a_currency and _counts(field.type):
        return Column(field.name, Type.MONEY, True)
    for kind in (Type.TEXT, Type.INT, Type.NUMBER, Type.DATE, Type.TIME, Type.BOOL):
        if _RETURNED[kind](field.type):
            return Column(field.name, kind, True)
    raise BadQuery(f"column {field.name} has the type {field.type}; write CAST({field.name} AS VARCHAR)")


def held_to(columns: Sequence[Column], zone: str, table: Table) -> Table:
    """The same rows with exactly these columns. Raises BadQuery if names, types, or empty cells are others."""
    expected = [column.name for column in columns]
    if table.column_names != expected:
        raise BadQuery(f"it returns the columns {', '.join(table.column_names)}, and declares {', '.join(expected)}")
    arrays = []
    for column, field in zip(columns, table.schema, strict=True):
        values = table.column(field.name)
        if not (pa.types.is_null(field.type) or _RETURNED[column.type](field.type)):
            raise BadQuery(f"column {column.name} is declared as {column.type}, and comes as {field.type}")
        if values.null_count and not column.nullable:
            raise BadQuery(f"column {column.name} is declared as never empty, and is empty in {values.null_count} rows")
        try:
            arrays.append(values.cast(arrow(column, zone).type))
        except pa.ArrowInvalid:
            raise BadQuery(f"column {column.name} holds a number beyond 64 bits") from None
    return pa.table(arrays, schema=pa.schema([arrow(column, zone) for column in columns]))
