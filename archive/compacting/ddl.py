"""The tables of the archive for engines that read S3 by themselves: statements made from the schema that is written.

`facts` is the journal as it lies, `facts_by_month` the sorted copy. Both have the same columns; columns are found by
name, because an object of an older version lacks some.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from archive.compacting import index, sorted_copy
from archive.errors import BadQuestion
from archive.format import records
from archive.policy.retention import CLASSES

FIRST_DAY = "2026-01-01"
"""Athena asks for no partition before it. No version of this service archived a fact of an earlier day."""
_LOCATION = re.compile(r"[a-z][a-z0-9]*://[A-Za-z0-9._/-]+/|/[A-Za-z0-9._/-]*/")


@dataclass(frozen=True, slots=True)
class Table:
    """`columns` are those in the files, `partitions` those in their keys."""

    name: str
    columns: pa.Schema
    partitions: Mapping[str, pa.DataType]


JOURNAL = Table("facts", records.SCHEMA, {"class": pa.string(), "event_date": pa.date32()})
BY_MONTH = Table("facts_by_month", sorted_copy.COLUMNS, {"month": pa.string(), "class": pa.string()})

_PROJECTED = {
    "class": {"type": "enum", "values": ",".join(CLASSES)},
    "event_date": {
        "type": "date",
        "format": "yyyy-MM-dd",
        # A fact may be dated up to a day ahead.
        "range": f"{FIRST_DAY},NOW+1DAY",
        "interval": "1",
        "interval.unit": "DAYS",
    },
    "month": {
        "type": "date",
        "format": "yyyy-MM",
        "range": f"{FIRST_DAY[:7]},NOW",
        "interval": "1",
        "interval.unit": "MONTHS",
    },
}
"""How Athena finds partitions without being told of each. Source: docs.aws.amazon.com/athena, partition projection."""


def athena(table: Table, location: str) -> list[str]:
    path = "".join(f"{name}=${{{name}}}/" for name in table.partitions)
    properties = {"projection.enabled": "true"} | {
        f"projection.{name}.{key}": value for name in table.partitions for key, value in _PROJECTED[name].items()
    }
    properties["storage.location.template"] = f"{location}{path}"
    partitions = ", ".join(f"{name} {_ATHENA[kind]}" for name, kind in table.partitions.items())
    return [
        f"CREATE EXTERNAL TABLE {table.name} (\n{_columns(table.columns, _ATHENA)}\n)\n"
        f"PARTITIONED BY ({partitions})\n"
        "ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'\n"
        "WITH SERDEPROPERTIES ('parquet.column.index.access' = 'false')\n"
        "STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat'\n"
        "OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat'\n"
        f"LOCATION '{location}'\n"
        f"TBLPROPERTIES (\n{_properties(properties)}\n)"
    ]


def trino(table: Table, location: str) -> list[str]:
    partitions = ", ".join(f"'{name}'" for name in table.partitions)
    return [
        # Without it a time is rounded to milliseconds, and a column of microseconds is refused.
        "SET SESSION hive.timestamp_precision = 'MICROSECONDS'",
        "SET SESSION hive.parquet_use_column_names = true",
        f"CREATE TABLE hive.billing.{table.name} (\n{_columns(_all(table), _TRINO)}\n)\n"
        "WITH (\n"
        "  format = 'PARQUET',\n"
        f"  partitioned_by = ARRAY[{partitions}],\n"
        f"  external_location = '{location}'\n"
        ")",
        f"CALL hive.system.sync_partition_metadata('billing', '{table.name}', 'FULL')",
    ]


def spark(table: Table, location: str) -> list[str]:
    return [
        f"CREATE TABLE {table.name} (\n{_columns(_all(table), _SPARK)}\n)\n"
        "USING PARQUET\n"
        "OPTIONS ('mergeSchema' = 'false')\n"
        f"PARTITIONED BY ({', '.join(table.partitions)})\n"
        f"LOCATION '{location}'",
        f"MSCK REPAIR TABLE {table.name} SYNC PARTITIONS",
    ]


def datafusion(table: Table, location: str) -> list[str]:
    return [
        f"CREATE EXTERNAL TABLE {table.name} (\n{_columns(_all(table), _DATAFUSION)}\n)\n"
        "STORED AS PARQUET\n"
        f"PARTITIONED BY ({', '.join(table.partitions)})\n"
        f"LOCATION '{location}'"
    ]


ENGINES: Mapping[str, Callable[[Table, str], list[str]]] = {
    "athena": athena,
    "trino": trino,
    "spark": spark,
    "datafusion": datafusion,
}


def statements(engine: str, table: Table, location: str) -> list[str]:
    """The statements, in order and without semicolons. `location`: where the table's first partition folders lie, with
    a slash at the end. Raises BadQuestion."""
    if engine not in ENGINES:
        raise BadQuestion(f"{engine!r} is no engine that is known here; there are: {', '.join(ENGINES)}")
    if not _LOCATION.fullmatch(location):
        raise BadQuestion(f"--location {location!r}: write it as s3://bucket/{index.PREFIX}")
    return ENGINES[engine](table, location)


_INT, _TEXT, _TIME, _DAY = pa.int64(), pa.string(), pa.timestamp("us", tz="UTC"), pa.date32()
_ATHENA = {_INT: "bigint", _TEXT: "string", _TIME: "timestamp", _DAY: "date"}
_TRINO = {_INT: "bigint", _TEXT: "varchar", _TIME: "timestamp(6)", _DAY: "date"}
_SPARK = {_INT: "BIGINT", _TEXT: "STRING", _TIME: "TIMESTAMP", _DAY: "DATE"}
_DATAFUSION = {_INT: "BIGINT", _TEXT: "VARCHAR", _TIME: "TIMESTAMP", _DAY: "DATE"}


def _all(table: Table) -> pa.Schema:
    """Partitions last, as Hive wants them."""
    return pa.schema([*table.columns, *(pa.field(name, kind) for name, kind in table.partitions.items())])


def _columns(schema: pa.Schema, words: Mapping[pa.DataType, str]) -> str:
    return ",\n".join(f"  {field.name} {words[field.type]}" for field in schema)


def _properties(properties: Mapping[str, str]) -> str:
    return ",\n".join(f"  '{name}' = '{value}'" for name, value in properties.items())
