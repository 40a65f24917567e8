"""An application asks through a pooler in transaction mode; a process of the service says that it needs a session.

The stand-in of `pooler` always, and the real PgBouncer wherever one is on the PATH.
"""

import psycopg
import pytest
from command import run, run_apart, settings
from pooler import POOLERS
from service import Service
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

import billing
from billing import database
from billing.errors import WrongDatabase
from billing.timing import SHORT
from jobs.access import migrate

__all__ = ["run", "run_apart", "settings"]

NEEDS = "this address is a connection pooler's that does not keep the settings of a session"


@pytest.fixture(params=POOLERS)
def pooled(request: pytest.FixtureRequest, service: Service):
    """The service's database, behind a pooler that refuses what only a session has."""
    with POOLERS[request.param](service.url) as url:
        yield url


def test_the_pooler_does_lend_another_connection_to_the_next_transaction(pooled):
    """The control: else the next test would show nothing."""
    with psycopg.connect(pooled) as one, psycopg.connect(pooled) as other:
        first = one.execute("SELECT pg_backend_pid()").fetchone()
        one.rollback()
        other.execute("SELECT 1")
        assert one.execute("SELECT pg_backend_pid()").fetchone() != first
    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter"):
        psycopg.connect(pooled, options="-c lock_timeout=1s")


# As for everything that an application does behind a pooler that follows no prepared statements.
ENGINES = {
    "defaults, and a connection for each": {"poolclass": NullPool},
    "a pool of its own": {"connect_args": {"prepare_threshold": None}},
}


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_an_application_asks_through_it_with_its_own_engine(pooled, service, engine):
    """Captures are asked for, asked for again, refused, looked at, and taken by workers that have a session."""
    application = create_engine(make_url(pooled).set(drivername="postgresql+psycopg"), **engine)
    receipts = []
    for number in range(12):
        asked = {
            "payment_intent": service.intents()[0],
            "amount": billing.Money(1999, "USD"),
            "request_id": f"order-{number}",
        }
        with Session(application) as session, session.begin():
            receipts.append(billing.request_capture(session, **asked))
            assert billing.request_capture(session, **asked).capture_id == receipts[-1].capture_id
            with pytest.raises(billing.AuthorizationTaken):
                billing.request_capture(session, **asked | {"request_id": "another"})
    with Session(application) as session:
        assert {billing.status(session, receipt.capture_id).state for receipt in receipts} == {"requested"}
    application.dispose()
    assert service.settle(*(receipt.capture_id for receipt in receipts)) == ["captured"] * 12


@pytest.mark.parametrize("options_dropped", [False, True], ids=["refused", "dropped"])
@pytest.mark.parametrize("pooler", POOLERS)
def test_a_process_and_a_migration_behind_it_say_that_they_need_a_session(service, pooler, options_dropped):
    """Also where it is told to take a session's settings and not to keep them, which nobody would see."""
    with POOLERS[pooler](service.url, options_dropped=options_dropped) as url:
        engine = database.open_engine(url, SHORT, name="test")
        with pytest.raises(WrongDatabase, match=f"^{NEEDS}"):
            engine.connect()
        engine.dispose()
        with pytest.raises(WrongDatabase, match=f"^{NEEDS}"):
            migrate.upgrade(url, environment="test", livemode=False)


@pytest.mark.parametrize(
    "command", [("relay",), ("worker", "captures"), ("migrate",), ("status", "cap_1")], ids=" ".join
)
def test_every_command_behind_it_says_so_in_one_line(pooled, run_apart, monkeypatch, command):
    monkeypatch.setenv("DATABASE_URL", pooled)
    ran = run_apart(*command)
    assert ran.status == 2
    assert ran.err.startswith(f"billing: DATABASE_URL: {NEEDS}"), ran.err
    assert len(ran.err.splitlines()) == 1


def test_the_doctor_behind_it_names_the_pooler(pooled, run, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", pooled)
    ran = run("doctor")
    assert ran.status == 1
    assert f"cannot be tried -> DATABASE_URL: {NEEDS}" in ran.out


def test_a_database_url_with_options_keeps_them_before_our_own(service):
    given = make_url(service.url).update_query_dict({"options": "-c work_mem=5MB -c lock_timeout=9s"})
    engine = database.open_engine(given.render_as_string(hide_password=False), SHORT, name="test")
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW work_mem")) == "5MB"
        assert connection.scalar(text("SHOW lock_timeout")) == "200ms"
        assert connection.scalar(text("SHOW default_transaction_isolation")) == "read committed"
    engine.dispose()
