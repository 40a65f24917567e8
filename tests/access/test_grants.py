"""The rights that a database grants are those of the table in the code: not one less, and not one more."""

import os
import subprocess
import sys

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import ProgrammingError

from billing import database
from billing.tables.schema import Table
from jobs.access import grants
from jobs.access.kinds import KINDS
from jobs.access.migrate import wrong_grants
from jobs.local.postgres import Postgres
from jobs.local.supervisor import Supervisor


@pytest.fixture
def after(service):
    """What differs once this has been run in a transaction that is rolled back."""

    def after(*statements: str) -> list[str]:
        engine = create_engine(make_url(service.url).set(drivername="postgresql+psycopg"))
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
            found = grants.differences(connection)
            connection.rollback()
        engine.dispose()
        return found

    return after


def test_a_migrated_database_grants_what_the_table_says(service):
    assert wrong_grants(service.url) == []


def test_every_table_has_a_row_and_every_row_a_table():
    """Whoever adds a table says who may what in it."""
    assert grants.GRANTS.keys() == {table.name for table in Table.metadata.tables.values()} | {"alembic_version"}


def test_every_column_that_is_named_is_one():
    named = {
        f"{table}.{c}"
        for table, row in grants.GRANTS.items()
        for may in row.values()
        for c in may.see | may.write | may.change
    }
    assert named <= {f"{table}.{column}" for table, columns in grants.COLUMNS.items() for column in columns}
    assert {kind for row in grants.GRANTS.values() for kind in row} <= KINDS.keys()


def test_nobody_may_change_what_was_asked_sent_or_told():
    fixed = {
        "captures": {"id", "request_id", "payment_intent", "amount_minor", "currency", "account", "capture_no"},
        "voids": {"id", "request_id", "payment_intent", "cancellation_reason", "account"},
        "invoices": {"id", "request_id", "customer", "total_minor", "currency", "account", "days_until_due"},
        "invoice_lines": grants.COLUMNS["invoice_lines"],
        "idempotency_records": {
            "id",
            "operation_id",
            "step",
            "generation",
            "key",
            "method",
            "path",
            "body",
            "fingerprint",
        },
        "facts": grants.COLUMNS["facts"] - {"planned_version", "batch_no", "archive_seq"},
    }
    for table, columns in fixed.items():
        for kind in KINDS:
            assert not grants.may(kind, table).change & columns


def test_an_operator_may_whatever_application_and_reader_may():
    wanted = grants.wanted()
    theirs = {(privilege, place) for kind, privilege, place in wanted if kind in ("application", "reader")}
    assert theirs < {(privilege, place) for kind, privilege, place in wanted if kind == "operator"}


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (
            "GRANT UPDATE (amount_minor) ON billing.captures TO billing_worker",
            "worker may UPDATE captures.amount_minor, and must not",
        ),
        ("GRANT DELETE ON billing.facts TO billing_archiver", "archiver may DELETE facts, and must not"),
        ("GRANT CREATE ON SCHEMA billing TO billing_relay", "relay may CREATE in the schema, and must not"),
        ("GRANT billing_worker TO billing_reader", "reader may ACT as billing_worker, and must not"),
        ("ALTER ROLE billing_reader BYPASSRLS", "reader may EVERYTHING as its attributes allow, and must not"),
        (
            "REVOKE UPDATE (planned_version) ON billing.facts FROM billing_relay",
            "relay cannot UPDATE facts.planned_version",
        ),
        ("REVOKE SELECT ON billing.work FROM billing_worker", "worker cannot SELECT work.attempts"),
    ],
)
def test_one_right_too_many_or_too_few_is_found(after, statement, found):
    assert found in after(statement)


def test_a_right_of_everybodys_is_found_in_every_kind(after):
    found = after("GRANT SELECT (answer) ON billing.idempotency_records TO PUBLIC")
    assert found == [f"{kind} may SELECT idempotency_records.answer, and must not" for kind in sorted(KINDS)]


def test_a_table_that_nobody_has_thought_about_is_found_once_somebody_may_use_it(after):
    assert after("CREATE TABLE billing.chargebacks (id text)") == []
    found = after(
        "CREATE TABLE billing.chargebacks (id text)", "GRANT INSERT ON billing.chargebacks TO billing_application"
    )
    assert found == ["application may INSERT chargebacks.id, and must not"]


def test_databases_of_a_new_cluster_may_be_migrated_at_once():
    """Roles belong to the cluster, and the lock of a migration to its database: all of them make the same six."""
    with Supervisor() as supervisor:
        postgres = Postgres(supervisor, durable=False, environment={})
        postgres.start()
        names = [f"shop_{n}" for n in range(4)]
        with psycopg.connect(postgres.url, autocommit=True) as admin:
            for name in names:
                admin.execute(f"CREATE DATABASE {name}")
        urls = [make_url(postgres.url).set(database=n).render_as_string(hide_password=False) for n in names]
        migrating = [_migrate(url) for url in urls]
        assert [process.communicate()[1] for process in migrating] == [""] * len(names)
        assert [wrong_grants(url) for url in urls] == [[]] * len(names)


def _migrate(url: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "BILLING_ENVIRONMENT": "test", "DATABASE_URL": url}
    program = [sys.executable, "-m", "jobs.cli", "migrate"]
    return subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", ["application", "relay", "worker", "archiver"])
def test_the_processes_of_every_other_test_are_held_to_their_kinds_too(service, kind):
    with (
        database.transaction(service.engines[kind]) as session,
        pytest.raises(ProgrammingError, match="permission denied"),
    ):
        session.execute(text("DELETE FROM billing.captures"))
