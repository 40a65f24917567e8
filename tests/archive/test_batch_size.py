"""An archiver takes less when Postgres finds what it takes too slow, always moves on, and takes more again.

Slowness is made and not waited for: each row of the table costs the archiver some milliseconds in Postgres.
"""

from functools import partial
from typing import Any

import pytest
import sqlalchemy.exc
from evidence import Archive, Lines
from outside import in_order
from sqlalchemy import text

from archive.errors import StoreAway
from archive.writing import backlog
from archive.writing.batch_size import FITTING, BatchSize, limited_to
from billing import database
from billing.timing import SHORT
from jobs.process import archiving

# A hundred rows take a second, and no statement may take half of one. Where a policy holds, only leakproof functions
# use an index.
EACH_ROW_READ_IS_SLOW = """
    ALTER FUNCTION pg_catalog.split_part LEAKPROOF;
    CREATE FUNCTION public.slow() RETURNS boolean LANGUAGE plpgsql COST 1 LEAKPROOF AS
        $$ BEGIN PERFORM pg_sleep(0.01); RETURN true; END $$;
    CREATE POLICY slow ON billing.facts TO billing_archiver USING (public.slow());
    ALTER TABLE billing.facts ENABLE ROW LEVEL SECURITY
"""
EACH_ROW_MARKED_IS_SLOW = """
    CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE UPDATE OF batch_no ON billing.facts FOR EACH ROW EXECUTE FUNCTION public.slow()
"""
AN_INVOICE_CANNOT_BE_READ = """
    ALTER FUNCTION pg_catalog.split_part LEAKPROOF;
    CREATE FUNCTION public.slow(kind text, version bigint) RETURNS boolean LANGUAGE plpgsql COST 1 LEAKPROOF AS $$
        BEGIN
            IF kind = 'invoice' AND version = 2 THEN RAISE 'missing chunk' USING ERRCODE = 'XX001'; END IF;
            RETURN true; END $$;
    CREATE POLICY slow ON billing.facts TO billing_archiver USING (public.slow(entity_type, entity_version));
    ALTER TABLE billing.facts ENABLE ROW LEVEL SECURITY
"""
FAST_AGAIN = """
    DROP POLICY IF EXISTS slow ON billing.facts;
    ALTER TABLE billing.facts DISABLE ROW LEVEL SECURITY;
    DROP TRIGGER IF EXISTS slow ON billing.facts;
    DROP FUNCTION IF EXISTS public.slow;
    ALTER FUNCTION pg_catalog.split_part NOT LEAKPROOF
"""
LIMITS = {
    "statement_timeout": ("QueryCanceled", "57014"),
    "transaction_timeout": ("TransactionTimeout", "25P04"),
}


def run(archive: Archive, statements: str) -> None:
    with database.transaction(archive.service.engine) as session:
        connection: Any = session.connection().connection.dbapi_connection
        connection.execute(statements)


def tell_many(
    archive: Archive, count: int = 100, entity: str = "'cap_' || n % 7", version: str = "(n + 6) / 7"
) -> None:
    archive.service.execute(
        "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload, planned_version)"
        f" SELECT 'capture.attempted', 'capture', {entity}, {version}, 'billing', '{{}}', 1"
        f"  FROM generate_series(1, {count}) AS n"
    )


@pytest.fixture
def slow(archive: Archive) -> Any:
    yield lambda how: run(archive, how)
    run(archive, FAST_AGAIN)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("how", [EACH_ROW_READ_IS_SLOW, EACH_ROW_MARKED_IS_SLOW], ids=["read", "marked"])
def test_an_archiver_halves_what_it_takes_until_it_fits(
    archive: Archive, slow: Any, lines: Lines, how: str, limit: str
) -> None:
    tell_many(archive)
    slow(how)
    # Of all 100 rows it takes a second, and of 32 a third: a busy machine has room, and may take fewer.
    archive.in_sessions_with(**{limit: "500ms"})
    writer = archive.writer(batch_size=archive.batch_size(most=128))
    archived = 0
    while archived < 100:
        archived += writer.round().archived
    assert archived == 100
    in_order(archive.outside.facts())
    told = lines.of("batch.halved")
    error, sqlstate = LIMITS[limit]
    assert told[0] == {
        "event": "batch.halved",
        "level": "warning",
        "rows": 64,
        "error": error,
        "sqlstate": sqlstate,
    }
    assert min(line["rows"] for line in told) <= 32


def test_a_batch_that_was_claimed_large_is_read_in_pieces(archive: Archive, slow: Any) -> None:
    """By an older version, or before the machine was busy; nobody can make it smaller."""
    tell_many(archive)
    batch = archive.claim()
    assert batch is not None
    assert batch.rows == 100
    slow(EACH_ROW_READ_IS_SLOW)
    archive.in_sessions_with(statement_timeout="500ms")
    assert archive.round() == 100
    assert len(archive.known()) == 1
    in_order(archive.outside.facts())


def test_it_takes_more_again_once_that_fits(archive: Archive, lines: Lines) -> None:
    batch_size = archive.batch_size(most=8)
    batch_size.limit.rows = 1
    for _ in range(3 * FITTING):
        batch_size.read(lambda session, _: session.execute(text("SELECT")))
    assert lines == [{"event": "batch.doubled", "level": "info", "rows": rows} for rows in (2, 4, 8)]


def fails_above(rows: int, batch_size: BatchSize) -> None:
    """Many statements, of which Postgres ends those that take more rows than this. It changes its session."""

    def step(session: Any, taken: int) -> None:
        session.execute(text("SET statement_timeout = '1ms'" if taken > rows else "RESET statement_timeout"))
        if taken > rows:
            session.execute(text("SELECT pg_sleep(5)"))

    for _ in range(20 * FITTING):
        batch_size.read(step)


def test_one_row_that_is_too_slow_is_an_error_and_what_else_goes_wrong_is_not_tried_with_less(archive: Archive) -> None:
    archive.in_sessions_with()
    batch_size = archive.batch_size(most=4)
    with pytest.raises(sqlalchemy.exc.OperationalError, match="statement timeout"):
        fails_above(0, batch_size)
    assert batch_size.limit.rows == 1
    batch_size = archive.batch_size(most=4)
    with pytest.raises(sqlalchemy.exc.ProgrammingError):
        batch_size.read(lambda session, _: session.execute(text("SELECT FROM billing.nothing")))
    assert batch_size.limit.rows == 4


def test_every_try_is_a_beat(archive: Archive) -> None:
    archive.in_sessions_with()
    heartbeats: list[int] = []
    batch_size = BatchSize(archive.engine, limited_to(4), heartbeat=lambda: heartbeats.append(1))
    with pytest.raises(sqlalchemy.exc.OperationalError):
        fails_above(0, batch_size)
    assert len(heartbeats) == 3


@pytest.mark.parametrize(
    ("entity", "version"), [("'cap_1'", "n"), ("'cap_' || n", "1")], ids=["of one entity", "of many"]
)
def test_a_claim_reads_no_more_than_it_takes_however_much_waits(archive: Archive, entity: str, version: str) -> None:
    tell_many(archive, 3_000, entity, version)
    archive.tell("invoice.requested", of="inv_1")
    archive.service.execute("UPDATE billing.facts SET planned_version = NULL WHERE id BETWEEN 2000 AND 2010")
    before = rows_read(archive)
    (due, _) = archive.batch_size().read(lambda session, _: backlog.due(session, 0.0))
    found = archive.batch_size(most=10).read(partial(backlog.search, due=due, wait_s=0.0))
    assert found.facts == list(range(1, 11))
    assert rows_read(archive) - before <= 50


def test_a_batch_is_made_of_the_few_facts_of_a_day_without_reading_all_that_follow(archive: Archive) -> None:
    tell_many(archive, 3_000)
    archive.service.execute("UPDATE billing.facts SET happened_at = now() - interval '1 day' WHERE id <= 2")
    before = rows_read(archive)
    batch = archive.claim(10)
    assert batch is not None
    assert batch.rows == 2
    assert rows_read(archive) - before <= 50


def test_a_class_that_stands_still_is_not_read_past_by_the_others(archive: Archive) -> None:
    archive.tell("capture.requested", of="cap_first")
    tell_many(archive, 3_000)
    archive.tell("invoice.requested", of="inv_1")
    first = archive.claim(10)
    second = archive.claim(10)
    assert first is not None
    assert second is not None
    assert (first.retention_class, second.retention_class) == ("capture", "attempt")
    before = rows_read(archive)
    third = archive.claim(10)
    assert third is not None
    assert third.retention_class == "invoice"
    assert rows_read(archive) - before <= 50


def test_a_row_that_postgres_itself_cannot_read_holds_up_its_class_only(
    archive: Archive, slow: Any, lines: Lines
) -> None:
    """As where a page of the table is damaged."""
    archive.tell("invoice.requested", "invoice.sent", of="inv_1")
    archive.tell("capture.requested")
    slow(AN_INVOICE_CANNOT_BE_READ)
    done = archive.writer().round()
    assert done.archived == 1
    assert [database.sqlstate(trouble) for trouble in done.troubles] == ["XX001"]
    logged = archiving._log_new(done.troubles, set())
    assert lines.of("archive.failed") == [
        {"event": "archive.failed", "level": "warning", "error": "DataCorrupted", "sqlstate": "XX001"}
    ]
    archiving._log_new(archive.writer().round().troubles, logged)
    assert len(lines.of("archive.failed")) == 1


def test_a_server_that_is_away_is_told_apart_from_one_that_is_too_slow(archive: Archive, lines: Lines) -> None:
    archive.in_sessions_with()
    with pytest.raises(sqlalchemy.exc.OperationalError) as too_slow:
        fails_above(0, archive.batch_size(most=1))
    nowhere = database.open_engine("postgresql://x@127.0.0.1:1/x", SHORT, name="x", pooled=False)
    with pytest.raises(sqlalchemy.exc.OperationalError) as away:
        archive.round(batch_size=BatchSize(nowhere))
    for error in (too_slow.value, away.value, StoreAway("x")):
        archiving._log_trouble(error)
    assert [(line["event"], line["error"], line["sqlstate"]) for line in lines] == [
        ("archive.failed", "QueryCanceled", "57014"),
        ("archive.away", "OperationalError", None),
        ("archive.away", "StoreAway", None),
    ]


def rows_read(archive: Archive) -> int:
    """Rows of `facts` that any session has read so far, by Postgres' own count."""
    # A session reports at most once a second what it has read; what it read before would be counted later.
    for engine in (archive.engine, archive.service.engine):
        with database.autocommit(engine) as session:
            session.execute(text("SELECT pg_stat_force_next_flush()"))
    with database.transaction(archive.service.engine) as session:
        query = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'facts'"
        return int(session.scalars(text(query)).one())
