"""SQL that somebody else wrote: it sees two views, changes nothing, reaches nothing, and is stopped in time."""

import itertools
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import objects
import pyarrow as pa
import pytest
from objects import evidence, fact

from archive.errors import BadQuery, TooLarge
from archive.format import allowed, records
from archive.queries import engine
from archive.queries.columns import Column, Type
from archive.queries.engine import Limits
from archive.queries.views import KEYS, Range, columns


def test_each_key_that_a_payload_may_have_is_a_typed_column(tmp_path: Path) -> None:
    payload = {"payment_intent": "pi_1", "took_ms": 12, "replayed": True, "capture_before": "2026-11-05T10:00:00+00:00"}
    (row,) = objects.run("SELECT * FROM facts", evidence(tmp_path, fact(1, minor=5, currency="JPY", **payload)))
    assert list(row) == [name for name, _ in columns()]
    assert set(allowed.PAYLOAD) | set(records.SCHEMA.names) <= set(row)
    assert (row["payment_intent"], row["took_ms"], row["replayed"]) == ("pi_1", 12, True)
    assert row["capture_before"] == datetime(2026, 11, 5, 10, tzinfo=UTC)
    assert (row["minor"], row["currency"], row["retention_class"]) == (5, "JPY", "capture")
    assert all(row[name] is None for name in KEYS if name not in payload)


def test_a_value_of_another_type_is_unknown_and_stops_no_query(tmp_path: Path) -> None:
    odd = {"took_ms": "soon", "replayed": "perhaps", "capture_before": "never"}
    (row,) = objects.run("SELECT took_ms, replayed, capture_before FROM facts", evidence(tmp_path, fact(1, **odd)))
    assert set(row.values()) == {None}


def test_objects_written_before_a_column_existed_have_it_as_null(tmp_path: Path) -> None:
    older = pa.schema([field for field in records.SCHEMA if field.name != "correlation_id"])
    day = datetime(2026, 11, 2, tzinfo=UTC)
    old = evidence(tmp_path / "old", fact(1), schema=older)
    assert objects.run("SELECT correlation_id FROM facts", old) == [{"correlation_id": None}]
    both = [*evidence(tmp_path / "new", fact(2, at=day) | {"correlation_id": "order-1"}), *old]
    rows = objects.run("SELECT archive_seq, correlation_id FROM facts ORDER BY 1", both)
    assert rows == [{"archive_seq": 1, "correlation_id": None}, {"archive_seq": 2, "correlation_id": "order-1"}]


OLDER = records.SCHEMA.remove(records.SCHEMA.get_field_index("payment_intent"))
OLDEST = OLDER.remove(OLDER.get_field_index("account"))


@pytest.mark.parametrize("order", list(itertools.permutations((0, 1, 2))))
def test_payment_and_account_are_the_same_whichever_version_wrote_the_object(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    """In any order: an archiver of an older version may run beside a newer one."""
    schemas = (records.SCHEMA, OLDER, OLDEST)
    read = [
        part
        for day, schema in enumerate((schemas[n] for n in order), start=1)
        for part in evidence(
            tmp_path / str(day),
            fact(2 * day, at=datetime(2026, 11, day, tzinfo=UTC), payment_intent=f"pi_{day}", account="own"),
            fact(2 * day + 1, at=datetime(2026, 11, day, tzinfo=UTC)),
            schema=schema,
        )
    ]
    rows = objects.run("SELECT payment_intent, account FROM facts ORDER BY archive_seq", read)
    assert [(row["payment_intent"], row["account"]) for row in rows] == [
        of for day in (1, 2, 3) for of in ((f"pi_{day}", "own"), (None, None))
    ]
    for day in (1, 2, 3):
        found = f"SELECT archive_seq AS n FROM facts WHERE payment_intent = 'pi_{day}'"
        assert objects.run(found, read) == [{"n": 2 * day}]


def test_an_object_that_does_not_hold_an_id_is_known_by_its_filter(tmp_path: Path) -> None:
    ids = [f"pi_{number:04}" for number in range(0, 2000, 2)]
    (read,) = evidence(tmp_path, *(fact(number, payment_intent=each) for number, each in enumerate(ids, start=1)))
    probe = "SELECT bool_and(bloom_filter_excludes) FROM parquet_bloom_probe($file, $column, $value)"

    def passed_over(column: str, value: str) -> bool:
        with duckdb.connect() as engine:
            asked = {"file": str(read.files[0]), "column": column, "value": value}
            (row,) = engine.execute(probe, asked).fetchall()
        return bool(row[0])

    assert not any(passed_over("payment_intent", each) for each in ids[::100])
    assert not passed_over("entity_id", "cap_1")
    assert passed_over("entity_id", "cap_0")
    # Between the smallest and the greatest, so no other statistics tell. One in a hundred is read in vain.
    assert sum(passed_over("payment_intent", f"pi_{number:04}") for number in range(1, 200, 2)) > 80


def test_without_objects_there_are_the_same_columns_and_no_rows(tmp_path: Path) -> None:
    schema = "SELECT column_name, column_type FROM (DESCRIBE facts)"
    assert objects.run(schema) == objects.run(schema, evidence(tmp_path, fact(1)))
    assert objects.run("SELECT * FROM facts") == []
    assert objects.run("SELECT * FROM batches") == []


def test_the_view_of_batches_says_what_the_manifests_say(tmp_path: Path) -> None:
    read = evidence(tmp_path, fact(1), fact(2), fact(3, at=datetime(2026, 11, 2, tzinfo=UTC)))
    rows = objects.run("SELECT * FROM batches ORDER BY batch_no", read)
    for row, manifest in zip(rows, read[0].manifests, strict=True):
        said = asdict(manifest)
        assert row["batch_no"] == manifest.number
        assert str(row["event_date"]) == manifest.event_date
        for name in ("rows", "first_seq", "last_seq", "sha256", "version", "size", "key", "lock_mode"):
            assert row[name] == said[name]


def test_a_range_bounds_the_view(tmp_path: Path) -> None:
    times = [datetime(2026, 11, 1, hour, tzinfo=UTC) for hour in (1, 2, 3)]
    read = evidence(tmp_path, *(fact(number, at=at) for number, at in enumerate(times, start=1)))

    def seen(within: Range) -> list[int]:
        return [row["n"] for row in objects.run("SELECT archive_seq AS n FROM facts ORDER BY n", read, within=within)]

    assert seen(Range(times[1], None)) == [2, 3]
    assert seen(Range(None, times[1])) == [1]
    assert seen(Range(times[1], times[2])) == [2]


REACHING = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_parquet('/etc/passwd')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_csv('https://example.com/x.csv')",
    "SELECT getenv('HOME')",
    "COPY (SELECT 1) TO '{place}/out.csv'",
    "COPY (SELECT 1) TO '{object}' (FORMAT parquet)",
    "EXPORT DATABASE '{place}/out'",
    "ATTACH '{place}/out.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "SET enable_external_access = true",
    "SET memory_limit = '10GB'",
    "RESET lock_configuration",
    "DROP VIEW facts",
    "CREATE OR REPLACE VIEW facts AS SELECT 1",
    "CREATE TABLE mine AS SELECT 1 AS one",
    "INSERT INTO facts VALUES (1)",
    "DELETE FROM facts",
    "WITH gone AS (DELETE FROM facts RETURNING *) SELECT * FROM gone",
    "CREATE SECRET (TYPE s3)",
    "CREATE MACRO facts() AS TABLE SELECT 1",
    "BEGIN",
    "CHECKPOINT",
    "EXPLAIN SELECT 1",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW facts",
    "",
    "-- nothing",
    "SELEC 1",
    "SELECT nothing FROM facts",
    "SELECT $since",
    "SELECT ?",
]


@pytest.mark.parametrize("sql", REACHING)
def test_nothing_but_one_select_over_the_views_is_run(tmp_path: Path, sql: str) -> None:
    read = evidence(tmp_path / "objects", fact(1))
    place = tmp_path / "place"
    place.mkdir()
    there = read[0].files[0]
    body = there.read_bytes()
    with pytest.raises(BadQuery) as refused:
        objects.run(sql.format(place=place, object=there), read)
    assert "\n" not in str(refused.value)
    assert list(place.iterdir()) == []
    assert there.read_bytes() == body
    assert [path.name for path in there.parent.iterdir()] == [there.name]


@pytest.mark.parametrize("sql", ["DESCRIBE facts", "SUMMARIZE facts", "SHOW TABLES", "FROM facts", "VALUES (1)"])
def test_what_only_looks_is_allowed(tmp_path: Path, sql: str) -> None:
    assert objects.run(sql, evidence(tmp_path, fact(1)))


@pytest.mark.parametrize("seconds", [0.2, 0.0], ids=["while-it-runs", "before-it-has-begun"])
def test_a_query_that_never_ends_is_stopped(seconds: float) -> None:
    endless = "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE a.range * b.range % 7 = 3"
    with pytest.raises(TooLarge, match=rf"longer than {seconds:g} s .* --time-limit"):
        objects.run(endless, limits=Limits(seconds))


def test_an_answer_that_does_not_fit_is_stopped_before_it_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooLarge, match="more than 200000 rows or 64 MB"):
        objects.run("SELECT * FROM range(1000000000)")
    with pytest.raises(TooLarge, match="more than 200000 rows or 64 MB"):
        objects.run("SELECT repeat('x', 1000000) AS x FROM range(1000)")


def test_a_query_that_needs_too_much_memory_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MEMORY_MB", 40)
    with pytest.raises(TooLarge, match="more than 40 MB of memory"):
        objects.run("SELECT list(range) FROM range(30000000)")


def test_what_does_not_fit_into_memory_is_spilled_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MEMORY_MB", 40)
    sql = "SELECT count(*) AS n FROM (SELECT hash(range) AS h FROM range(3000000) ORDER BY h)"
    assert objects.run(f"SELECT n FROM ({sql})") == [{"n": 3_000_000}]


DECLARED = [Column("currency", Type.TEXT, False), Column("minor", Type.MONEY, False)]


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT 1 AS minor, 'USD' AS currency", "returns the columns minor, currency, and declares currency, minor"),
        ("SELECT 'USD' AS currency", "declares currency, minor"),
        ("SELECT 'USD' AS currency, '5' AS minor", "minor is declared as money, and comes as string"),
        ("SELECT 'USD' AS currency, 0.5 AS minor", "minor is declared as money, and comes as decimal"),
        ("SELECT 'USD' AS currency, 0.5::DOUBLE AS minor", "minor is declared as money, and comes as double"),
        ("SELECT 'USD' AS currency, NULL::BIGINT AS minor", "minor is declared as never empty, and is empty in 1 rows"),
        ("SELECT 'USD' AS currency, 9223372036854775808::HUGEINT AS minor", "minor holds a number beyond 64 bits"),
    ],
)
def test_an_answer_that_is_not_as_declared_is_refused(sql: str, told: str) -> None:
    with pytest.raises(BadQuery, match=told):
        objects.run(sql, declared=DECLARED)


def test_a_sum_is_a_whole_number_of_64_bits() -> None:
    sql = "SELECT 'USD' AS currency, sum(range) AS minor FROM range(4)"
    assert objects.run(sql, declared=DECLARED) == [{"currency": "USD", "minor": 6}]


def test_free_sql_with_two_columns_of_one_name_or_of_a_strange_type_is_refused() -> None:
    with pytest.raises(BadQuery, match="two columns are named a"):
        objects.run("SELECT 1 AS a, 2 AS a")
    with pytest.raises(BadQuery, match=r"column a has the type list.*; write CAST\(a AS VARCHAR\)"):
        objects.run("SELECT [1] AS a")


BERLIN = "Europe/Berlin"


def test_a_day_is_a_local_day_when_clocks_change(tmp_path: Path) -> None:
    """25 October 2026 has 25 hours in Berlin, and 29 March 23: one fact an hour shows it."""
    hours = [datetime(2026, month, day, hour, 30, tzinfo=UTC) for month, days in ((3, (28, 29, 30)), (10, (24, 25, 26)))
             for day in days for hour in range(24)]  # fmt: skip
    read = evidence(tmp_path, *(fact(number, at=at) for number, at in enumerate(hours, start=1)))
    sql = "SELECT CAST(happened_at AS DATE) AS day, count(*) AS n FROM facts GROUP BY ALL ORDER BY day"
    local = {str(row["day"]): row["n"] for row in objects.run(sql, read, zone=BERLIN)}
    assert (local["2026-03-29"], local["2026-03-30"], local["2026-10-25"]) == (23, 24, 25)
    assert {row["n"] for row in objects.run(sql, read)} == {24}
