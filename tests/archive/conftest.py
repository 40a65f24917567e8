"""A bucket of the test's own on a real S3 with Object Lock, and an archiver between it and a database."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from evidence import Archive
from house import House

from jobs.local.seaweed import SeaweedFS


@pytest.fixture
def archive(house: House, s3: SeaweedFS, tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(house, s3, tmp_path / "caches")
    yield archive
    archive.store.close()
