"""A service with a backup of its database, and with a bucket of its own."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from command import Run, run, settings
from databases import Database
from service import Service, drop_database, make_database
from set_back import Backup

from jobs.local.seaweed import SeaweedFS
from jobs.local.servers import LocalServers

__all__ = ["run", "settings"]


@pytest.fixture
def database(template: LocalServers) -> Iterator[Database]:
    """The test replaces it by a backup, so no other test has it or its connections."""
    name = f"test_{uuid4().hex}"
    yield Database(name, make_database(template, name), for_one_test=True)
    drop_database(template, name)


@pytest.fixture
def bucket(s3: SeaweedFS, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket for what this test's service archives."""
    name = f"recovery-{uuid4().hex}"
    values = {
        "BILLING_ARCHIVE_BUCKET": name,
        "BILLING_ARCHIVE_WAIT_S": "0",
        "S3_ENDPOINT_URL": s3.url,
        "BILLING_S3_ACCESS_KEY": s3.access_key,
        "BILLING_S3_SECRET_KEY": s3.secret_key,
    }
    for variable, value in values.items():
        monkeypatch.setenv(variable, value)
    store = s3.store(name)
    store.set_up("test")
    store.close()


@pytest.fixture
def backup(service: Service, template: LocalServers, run: Run) -> Iterator[Backup]:
    """Taken by the test; the database has written its identity down before."""
    assert run("migrate").status == 0
    backup = Backup(service, template)
    yield backup
    backup.remove()
