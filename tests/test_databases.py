"""A database that another test had before is as new, or it is dropped."""

import psycopg
import pytest
from databases import Database, Databases
from service import OWNER
from sqlalchemy import text
from sqlalchemy.engine import make_url

SOMETHING = (
    "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)"
    " VALUES ('capture.requested', 'capture', 'cap_1', 1, 'test', '{}')"
)
CHANGES = (
    "ALTER TABLE billing.captures ADD CONSTRAINT never CHECK (state <> 'captured') NOT VALID",
    "ALTER TABLE billing.captures DROP CONSTRAINT captures_amount_positive",
    "ALTER TABLE billing.refunds DISABLE TRIGGER ALL",
    "ALTER TABLE billing.facts SET (autovacuum_enabled = off)",
    "GRANT SELECT ON billing.captures TO billing_web",
    "GRANT SELECT (id) ON billing.captures TO billing_web",
    "ALTER TABLE billing.captures ALTER COLUMN currency SET DEFAULT 'USD'",
    "CREATE INDEX mine ON billing.captures (currency)",
    "CREATE FUNCTION billing.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "CREATE TABLE public.mine (id int)",
    "UPDATE billing.installation SET stripe_account = 'acct_1'",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA billing GRANT SELECT ON TABLES TO billing_web",
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET jit = off', current_database()); END $$",
    "DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END $$",
)


@pytest.fixture
def had(databases: Databases) -> Database:
    """One whose connections are open."""
    had = databases.take()
    had.engines_of_a_test()
    _do(had, SOMETHING)
    return had


def _do(database: Database, *statements: str, kind: str = OWNER) -> None:
    with database.engines[kind].begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def _given_on(databases: Databases, had: Database) -> bool:
    """Whether the next test has the same."""
    databases.give_back(had)
    after = databases.take()
    databases.give_back(after)
    return after.name == had.name


def test_neither_rows_nor_numbers_nor_settings_are_seen_by_the_next_test(databases: Databases, had: Database) -> None:
    _do(had, "SET lock_timeout = '7s'", "SET ROLE billing_web", "SELECT pg_advisory_lock(7)")
    _do(had, "SET lock_timeout = '7s'", "RESET ROLE", kind="worker")
    databases.give_back(had)
    after = databases.take()
    assert after.name == had.name
    with after.engines[OWNER].begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM billing.facts")) == 0
        assert connection.scalar(text("SELECT current_user = session_user")) is True
        assert connection.scalar(text("SHOW lock_timeout")) == "200ms"
        assert connection.scalar(text("SHOW idle_in_transaction_session_timeout")) == "0"
        assert connection.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")) == 0
        connection.execute(text(SOMETHING))
        assert connection.scalar(text("SELECT id FROM billing.facts")) == 1
    with after.engines["worker"].begin() as connection:
        assert connection.scalar(text("SELECT current_user")) == "billing_worker"
        assert connection.scalar(text("SHOW lock_timeout")) == "200ms"
    databases.give_back(after)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change[:60])
def test_one_of_which_more_than_rows_was_changed_is_dropped(databases: Databases, had: Database, change: str) -> None:
    _do(had, change)
    assert not _given_on(databases, had)


def test_one_to_which_somebody_is_still_connected_is_dropped(databases: Databases, had: Database) -> None:
    url = make_url(had.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as left_open:
        left_open.execute("SELECT 1")
        assert not _given_on(databases, had)
        with pytest.raises(psycopg.OperationalError):
            left_open.execute("SELECT 1")


def test_one_whose_connection_was_not_given_back_is_dropped(databases: Databases, had: Database) -> None:
    connection = had.engines["worker"].connect()
    assert not _given_on(databases, had)
    connection.invalidate()
    connection.close()


def test_one_whose_server_process_was_killed_is_dropped(databases: Databases, had: Database) -> None:
    _do(had, "SELECT 1", kind="worker")
    _do(had, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'billing-test-worker'")
    assert not _given_on(databases, had)


def test_what_listens_to_an_engine_hears_nothing_of_the_next_test(databases: Databases, had: Database) -> None:
    first, second = had.engines_of_a_test(), had.engines_of_a_test()
    assert first is not None
    assert second is not None
    assert first[OWNER] is not second[OWNER]
    assert first[OWNER].pool is second[OWNER].pool
    databases.give_back(had)
