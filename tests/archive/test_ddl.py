"""The tables for other engines fit the files that archivers write: by type, by each engine's grammar, and by an engine
that shares no code with ours."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import datafusion
import objects
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot
from datafusion.object_store import AmazonS3
from evidence import Archive
from objects import fact
from sqlglot import exp

from archive.closing.periods import period
from archive.compacting import compaction, ddl, sorted_copy
from archive.compacting.ddl import BY_MONTH, ENGINES, JOURNAL, Table
from archive.compacting.places import Directory
from archive.errors import BadQuestion
from archive.format import records
from archive.policy.retention import CLASSES

TABLES = {table.name: table for table in (JOURNAL, BY_MONTH)}
S3 = "s3://your-archive/v1/"
PARSED = ("athena", "trino", "spark")
"""Engines whose grammar the parser knows."""
KINDS = {
    pa.int64(): {exp.DType.BIGINT},
    pa.string(): {exp.DType.TEXT, exp.DType.VARCHAR},
    # Spark's and Athena's TIMESTAMP is a moment; Trino's is one in UTC.
    pa.timestamp("us", tz="UTC"): {exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ},
    pa.date32(): {exp.DType.DATE},
}


def columns_in(engine: str, table: Table) -> dict[str, exp.DType]:
    """Names and types of the columns and partitions that the statement makes, as the grammar of the engine reads it."""
    (made,) = (each for each in ddl.statements(engine, table, S3) if each.startswith("CREATE"))
    tree = sqlglot.parse_one(made, dialect=engine)
    assert isinstance(tree, exp.Create)
    return {each.name: each.args["kind"].this for each in tree.find_all(exp.ColumnDef) if each.args.get("kind")}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("engine", PARSED)
def test_each_engine_is_told_the_types_that_are_written(engine: str, table: Table, tmp_path: Path) -> None:
    (part,) = objects.evidence(tmp_path, fact(1))
    file = part.files[0]
    if table is BY_MONTH:
        file = tmp_path / "copy"
        sorted_copy.write(part.files, 1, file, tmp_path)
    written = {field.name: field.type for field in pq.read_schema(file)} | dict(table.partitions)
    told = columns_in(engine, table)
    assert told.keys() == written.keys()
    assert {name: kind for name, kind in told.items() if kind not in KINDS[written[name]]} == {}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("engine", ["trino", "spark"])
def test_every_statement_is_one_of_its_engine(engine: str, table: Table) -> None:
    for statement in ddl.statements(engine, table, S3):
        sqlglot.parse_one(statement, dialect=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_columns_are_found_by_name_and_partitions_where_they_lie(engine: str) -> None:
    for table in TABLES.values():
        (made,) = (each for each in ddl.statements(engine, table, S3) if each.startswith("CREATE"))
        assert f"'{S3}'" in made
        by_name = {
            "athena": "'parquet.column.index.access' = 'false'",
            "trino": "parquet_use_column_names = true",
            "spark": "'mergeSchema' = 'false'",
            "datafusion": "STORED AS PARQUET",
        }
        assert by_name[engine] in " ".join(ddl.statements(engine, table, S3))


def test_athena_looks_for_every_class_and_for_no_other() -> None:
    (made,) = ddl.athena(JOURNAL, S3)
    assert f"'projection.class.values' = '{','.join(CLASSES)}'" in made
    assert f"'storage.location.template' = '{S3}class=${{class}}/event_date=${{event_date}}/'" in made


@pytest.mark.parametrize("location", ["", "s3://x/v1", "s3://x'/", "v1/", "s3://x/ y/", "s3://x/;/"])
def test_a_location_that_is_none_is_refused(location: str) -> None:
    with pytest.raises(BadQuestion, match="--location"):
        ddl.statements("athena", JOURNAL, location)
    with pytest.raises(BadQuestion, match="athena, trino, spark, datafusion"):
        ddl.statements("hive", JOURNAL, S3)


# DataFusion runs the statements.

ASKED = (
    "SELECT class, CAST(event_date AS VARCHAR) AS day, topic, entity_id, minor, currency, happened_at"
    " FROM {} WHERE event_date >= DATE '2026-10-01' AND event_date < DATE '2026-11-01' ORDER BY class, event_date"
)


def answers(context: datafusion.SessionContext, table: Table) -> list[dict[str, Any]]:
    batches = context.sql(ASKED.format(table.name)).collect()
    rows: list[dict[str, Any]] = pa.Table.from_batches(batches).to_pylist()
    return rows


def test_datafusion_reads_the_archive_in_s3_and_its_copy_and_answers_the_same(archive: Archive, tmp_path: Path) -> None:
    last = "'2026-10-31 23:59:59.999999+00'"
    archive.tell("capture.requested", at=last, payment_intent="pi_1")
    archive.tell("capture.captured", at="'2026-10-15 12:00:00.000001+00'", minor=1999, currency="USD")
    archive.tell("capture.attempted", of="cap_2", at=last)
    archive.tell("capture.requested", of="cap_3", at="'2026-11-01 00:00+00'")
    archive.archive_all()
    compaction.compact(archive.cache(), period("2026-10"), Directory(tmp_path))
    context = datafusion.SessionContext()
    bucket = AmazonS3(
        bucket_name=archive.bucket,
        endpoint=archive.s3.url,
        region="us-east-1",
        access_key_id=archive.s3.access_key,
        secret_access_key=archive.s3.secret_key,
        allow_http=True,
    )
    context.register_object_store("s3://", bucket, archive.bucket)
    for table, location in ((JOURNAL, f"s3://{archive.bucket}/v1/"), (BY_MONTH, f"{tmp_path}/v1/")):
        for statement in ddl.datafusion(table, location):
            context.sql(statement)
    rows = answers(context, JOURNAL)
    assert rows == answers(context, BY_MONTH)
    assert [(row["class"], row["day"], row["topic"], row["minor"]) for row in rows] == [
        ("attempt", "2026-10-31", "capture.attempted", None),
        ("capture", "2026-10-15", "capture.captured", 1999),
        ("capture", "2026-10-31", "capture.requested", None),
    ]
    assert rows[2]["happened_at"] in (
        datetime(2026, 10, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2026, 10, 31, 23, 59, 59, 999999),  # noqa: DTZ001 - an engine without zones says UTC
    )
    month = "SELECT count(*) AS n FROM facts_by_month WHERE month = '2026-10'"
    assert context.sql(month).collect()[0].to_pylist() == [{"n": 3}]


def test_an_engine_reads_an_object_that_lacks_a_column_by_name(tmp_path: Path) -> None:
    older = pa.schema([field for field in records.SCHEMA if field.name != "currency"], records.SCHEMA.metadata)
    day = datetime(2026, 10, 2, tzinfo=UTC)
    objects.evidence(tmp_path, fact(1, at=day, minor=5, currency="USD"))
    objects.evidence(tmp_path, fact(2, at=day, minor=6, currency="USD"), schema=older)
    context = datafusion.SessionContext()
    context.sql(ddl.datafusion(JOURNAL, f"{tmp_path}/v1/")[0])
    asked = "SELECT minor, currency, payload FROM facts ORDER BY archive_seq"
    rows = pa.Table.from_batches(context.sql(asked).collect()).to_pylist()
    assert [(row["minor"], row["currency"], row["payload"]) for row in rows] == [
        (5, "USD", '{"currency":"USD","minor":5}'),
        (6, None, '{"currency":"USD","minor":6}'),
    ]
