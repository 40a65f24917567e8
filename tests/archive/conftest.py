"""A bucket of the test's own on a real S3 with Object Lock, and an archiver between it and a database.

One database and one S3 client serve all tests of this folder, because making them takes longer than most tests: the
database is emptied before each, and its numbers begin with 1 again.
"""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from command import run, settings
from evidence import Archive, Lines
from service import Service, drop_database, empty, make_database
from sqlalchemy import text

from archive.s3.store import Store
from archive.writing import batch_size, set_aside, writer
from jobs.local.seaweed import SeaweedFS
from jobs.local.servers import LocalServers
from jobs.process import archiving

__all__ = ["run", "settings"]


@pytest.fixture(scope="session")
def shared_house(template: LocalServers) -> Iterator[Service]:
    name = f"archive_{uuid4().hex}"
    service = Service(template, make_database(template, name))
    # Many tests fill and empty this table. What Postgres counts in it meanwhile would change the plans of the next.
    service.execute("ALTER TABLE billing.facts SET (autovacuum_enabled = off)")
    yield service
    service.close()
    drop_database(template, name)


@pytest.fixture
def service(shared_house: Service) -> Service:
    with shared_house.engine.begin() as connection:
        empty(connection)
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
        connection.execute(text("UPDATE billing.installation SET purged_upto = 0"))
    shared_house.standin.reset()
    shared_house.redis.flushall()
    return shared_house


@pytest.fixture(scope="session")
def shared_store(s3: SeaweedFS) -> Iterator[Store]:
    store = s3.store("ready")
    yield store
    store.close()


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    """What the archiver logs."""
    lines = Lines()
    for room in (batch_size, set_aside, writer, archiving):
        monkeypatch.setattr(room, "log", lines)
    return lines


@pytest.fixture
def archive(service: Service, s3: SeaweedFS, shared_store: Store, tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(service, s3, shared_store, tmp_path / "caches")
    yield archive
    archive.close()
