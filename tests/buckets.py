"""A bucket for the archive's commands, and what is in it."""

from pathlib import Path
from uuid import uuid4

import boto3
import pytest
from service import Service

from archive.s3.store import Store
from jobs.local.seaweed import SeaweedFS


@pytest.fixture
def bucket(settings: dict[str, str], s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Its name; the settings lead to it, and it does not exist yet."""
    name = f"test-{uuid4().hex}"
    more = {
        "S3_ENDPOINT_URL": s3.url,
        "BILLING_S3_ACCESS_KEY": s3.access_key,
        "BILLING_S3_SECRET_KEY": s3.secret_key,
        "BILLING_ARCHIVE_BUCKET": name,
        "BILLING_ARCHIVE_WAIT_S": "0",
        "BILLING_CACHE_DIRECTORY": str(tmp_path / "cache"),
    }
    for variable, value in more.items():
        monkeypatch.setenv(variable, value)
    return name


@pytest.fixture
def made(bucket: str, s3: SeaweedFS) -> str:
    """The same, set up by no command: no fact is about it."""
    store = Store(bucket, endpoint=s3.url, region="us-east-1", access_key=s3.access_key, secret_key=s3.secret_key)
    store.set_up("test")
    store.close()
    return bucket


@pytest.fixture
def taken(service: Service) -> str:
    """A capture whose money was taken and whose facts are all planned."""
    capture = service.ask_for_capture()
    assert service.settle(capture) == ["captured"]
    service.plan()
    return capture


@pytest.fixture
def administrator(s3):
    """Whoever holds the bucket's root account."""
    session = boto3.session.Session(s3.access_key, s3.secret_key, region_name="us-east-1")
    client = session.client("s3", endpoint_url=s3.url)
    yield client
    client.close()
