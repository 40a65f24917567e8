"""A migrated database, and a session in the caller's own transaction, as an application has it."""

from collections.abc import Iterator

import pytest
from service import drop_database, empty, make_database, patient_engine
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobs.local.servers import LocalServers

DATABASE = "face"


@pytest.fixture(scope="session")
def _engine(template: LocalServers) -> Iterator[Engine]:
    """A database of these tests' own, which they share."""
    engine = patient_engine(make_database(template, DATABASE), name="face")
    yield engine
    engine.dispose()
    drop_database(template, DATABASE)


@pytest.fixture
def engine(_engine: Engine) -> Engine:
    """Empty."""
    with _engine.begin() as connection:
        empty(connection)
        connection.execute(text("DROP TABLE IF EXISTS public.orders"))
        connection.execute(text("CREATE TABLE public.orders (id text PRIMARY KEY)"))
    return _engine


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session
