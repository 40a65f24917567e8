"""Migrations wait for nobody long, run one at a time, and refuse a database of another environment."""

from collections.abc import Callable

import psycopg
import pytest
import sqlalchemy.exc
from service import Service
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from billing.currencies import CURRENCIES, MOST_MINOR
from billing.errors import WrongDatabase
from billing.tables.schema import SCHEMA, Table
from jobs.access import migrate
from jobs.local.servers import LocalServers


def test_a_migration_that_cannot_have_its_lock_gives_up_while_the_other_holds_it(service: Service) -> None:
    """[82] Another migration runs, or hangs: this one ends with an error, and the application never waits behind it."""
    plain = make_url(service.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('billing.migrations', 0))")
        with pytest.raises(sqlalchemy.exc.OperationalError, match="lock timeout"):
            migrate.upgrade(service.url, environment="test", livemode=False)


def test_a_database_may_be_migrated_twice_and_stands_at_the_newest_revision(service: Service) -> None:
    assert migrate.upgrade(service.url, environment="test", livemode=False) == migrate.head()
    engine = create_engine(make_url(service.url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        assert migrate.revision_of(connection) == migrate.head()
    engine.dispose()


def test_a_database_of_another_environment_is_not_migrated(template: LocalServers, service: Service) -> None:
    """[39]"""
    with pytest.raises(WrongDatabase, match="belongs to environment 'test'"):
        migrate.upgrade(service.url, environment="staging", livemode=False)


def test_everything_of_ours_lies_in_our_schema(template: LocalServers, service: Service) -> None:
    """The database is the application's: its `public` schema holds nothing of ours, not even alembic's table."""
    plain = make_url(service.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as connection:
        schemas = connection.execute(
            "SELECT DISTINCT schemaname FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
    assert schemas == [("billing",)]


def test_the_migrations_lead_to_every_constraint_that_the_tables_name(template: LocalServers, service: Service) -> None:
    """Alembic compares no CHECK constraints. Both are read back from Postgres, as it has understood them."""
    with service.engine.connect() as connection, connection.begin() as transaction:
        migrated = connection.execute(text(_CHECKS), {"schema": SCHEMA}).all()
        connection.execute(text("CREATE SCHEMA from_the_tables"))
        modelled = connection.execution_options(schema_translate_map={SCHEMA: "from_the_tables"})
        Table.metadata.create_all(modelled, checkfirst=False)
        named = connection.execute(text(_CHECKS), {"schema": "from_the_tables"}).all()
        transaction.rollback()
    assert {tuple(row) for row in migrated} == {tuple(row) for row in named}
    assert len(migrated) > 30


_CHECKS = """
    SELECT relname, conname, pg_get_constraintdef(c.oid)
      FROM pg_constraint AS c JOIN pg_class ON pg_class.oid = conrelid
     WHERE contype = 'c' AND connamespace = CAST(:schema AS regnamespace)
    """


def test_the_range_of_an_amount_holds_every_currency_s_largest() -> None:
    assert max(currency.most_minor for currency in CURRENCIES.values()) == MOST_MINOR


def test_rows_that_do_not_hold_a_constraint_do_not_stop_a_migration(migrated: Callable[..., Service]) -> None:
    """They stay, the constraint holds for new ones, and every other constraint becomes valid."""
    service = migrated(
        "0006",
        "INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency, version)"
        " VALUES ('cap_' || repeat('0', 32), 'x', 'pi_x/cancel?', 1, 'USD', 1)",
    )
    with service.engine.connect() as connection:
        found = connection.execute(
            text("SELECT conname FROM pg_constraint WHERE connamespace = 'billing'::regnamespace AND NOT convalidated")
        )
        assert found.scalars().all() == ["captures_payment_intent_shape"]


# What version 0010 knew of an invoice whose first draft was lost: what it listed, one draft deleted, one being deleted.
_AN_INVOICE = """
    INSERT INTO billing.invoices (id, request_id, customer, currency, total_minor, days_until_due, state, version)
    VALUES ('inv_{id}', '{id}', 'cus_1', 'EUR', 4500, 14, '{state}', 1)
    """
_ITS_CALLS = """
    INSERT INTO billing.idempotency_records (id, operation_id, step, generation, work_id, queue, key, method, path,
                                             body, fingerprint, livemode, api_version, conclusion, concluded_at)
    SELECT 'rec_{id}_' || n, 'inv_{id}', step, n, 'wrk_1', 'invoices', '{id}:' || n, 'GET', '/v1/invoices',
           '', 'f', false, 'v', conclusion, CASE WHEN conclusion IS NOT NULL THEN now() END
      FROM (VALUES (1, 'create', 'succeeded'), (2, 'list_strays_before_lines', 'strays:in_3 in_6'),
                   (3, 'delete_stray:in_3', 'succeeded'), (4, 'list_strays_before_finalize', 'strays:'),
                   (5, 'delete_stray:in_6', {last})) AS call (n, step, conclusion)
    """


def test_duplicate_drafts_that_an_older_version_listed_are_deleted_by_this_one(
    migrated: Callable[..., Service],
) -> None:
    service = migrated(
        "0010",
        _AN_INVOICE.format(id="1", state="drafted"),
        _ITS_CALLS.format(id="1", last="NULL"),
        _AN_INVOICE.format(id="2", state="sent"),
        _ITS_CALLS.format(id="2", last="'succeeded'"),
    )
    assert [(each.step, each.conclusion, each.found_objects) for each in service.records("inv_1")] == [
        ("create", "succeeded", None),
        ("list_duplicate_drafts_before_lines", "succeeded", ["in_3", "in_6"]),
        ("delete_duplicate_draft:in_3", "succeeded", None),
        ("list_duplicate_drafts_before_finalize", "succeeded", []),
        ("delete_duplicate_draft:in_6", None, None),
    ]
    # History stays as it was written.
    assert [each.step for each in service.records("inv_2")][1:3] == ["list_strays_before_lines", "delete_stray:in_3"]
