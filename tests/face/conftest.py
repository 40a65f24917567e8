"""A migrated database, and a session in the caller's own transaction, as an application has it."""

from collections.abc import Iterator

import pytest
from house import be_patient
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from billing.database import open_engine
from billing.tables import Table
from billing.timing import SHORT
from jobs.access import migrate
from jobs.local.servers import LocalServers

DATABASE = "face"


@pytest.fixture(scope="session")
def _engine(stack: LocalServers) -> Iterator[Engine]:
    """A database of these tests' own on the server of all."""
    url = stack.environment["DATABASE_URL"]
    admin = open_engine(url, SHORT, name="face-admin", pooled=False)
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"))
        # Its statement timeout is the protocol's; making a database may take longer.
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text(f"CREATE DATABASE {DATABASE}"))
    mine = url.rpartition("/")[0] + f"/{DATABASE}"
    migrate.upgrade(mine, environment="test", livemode=False)
    engine = open_engine(mine, SHORT, name="face")
    be_patient(engine)
    yield engine
    engine.dispose()
    admin.dispose()


@pytest.fixture
def engine(_engine: Engine) -> Engine:
    """Empty."""
    tables = ", ".join(f"billing.{name.name}" for name in Table.metadata.sorted_tables if name.name != "installation")
    with _engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
        connection.execute(text("DROP TABLE IF EXISTS public.orders"))
        connection.execute(text("CREATE TABLE public.orders (id text PRIMARY KEY)"))
    return _engine


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session
