"""Verified copies of the archive's objects on this machine: only bytes whose digest is in the chain are queried.

Objects never change, so a copy stays valid. A second run reads one listing and the newest manifest of each class from
S3; the chain that ends in those manifests proves every other byte.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import structlog

from archive.errors import EvidenceDiffers, ExposedCache
from archive.format import manifests
from archive.format.manifests import Manifest
from archive.policy.retention import CLASSES
from archive.s3.store import Store

log = structlog.get_logger()

DOWNLOADS = 8


@dataclass(frozen=True, slots=True)
class Evidence:
    """Copies of one class. Its whole chain was checked up to `head`, the digest of manifest number `last`.

    There is no file of an object that was disposed of.
    """

    retention_class: str
    last: int
    head: str
    manifests: tuple[Manifest, ...]
    files: tuple[Path, ...]


class Cache:
    """Copies of one bucket, below `directory`. Only this user may be able to write there."""

    def __init__(self, store: Store, directory: Path | None = None) -> None:
        self.store = store
        root = directory or Path(tempfile.gettempdir()) / f"billing-archive-{os.getuid()}"
        bucket = hashlib.sha256(f"{store.endpoint} {store.bucket}".encode()).hexdigest()[:16]
        self._root = _private(_private(root) / bucket)

    def bring(
        self, classes: Iterable[str] = tuple(CLASSES), *, since: date = date.min, until: date = date.max
    ) -> list[Evidence]:
        """Copy and verify the objects of these classes and of these UTC days, the last included.

        Raises EvidenceDiffers if the chain is broken or an object is not what its manifest says; ExposedCache,
        StoreAway, StoreRefused.
        """
        listed = self.store.keys(manifests.PREFIX)
        with ThreadPoolExecutor(DOWNLOADS, thread_name_prefix="cache") as pool:
            return [found for name in classes if (found := self._class(pool, name, listed, since, until)) is not None]

    def _class(
        self, pool: ThreadPoolExecutor, name: str, listed: list[str], since: date, until: date
    ) -> Evidence | None:
        numbers = {number: key for key in listed if (number := manifests.number_of(name, key)) is not None}
        if not numbers:
            return None
        last = max(numbers)
        head = self.store.get(numbers[last]).body
        local = {number: self._local(key) for number, key in numbers.items()}
        missing = [number for number, body in local.items() if body is None and number != last]
        bodies = {number: body for number, body in local.items() if body is not None} | {last: head}
        bodies |= zip(missing, pool.map(lambda n: self.store.get(numbers[n]).body, missing), strict=True)
        try:
            chain = list(manifests.chain(name, bodies))
        except EvidenceDiffers as error:
            # A copy is wrong, or the bucket is. Read all manifests from the bucket to know which.
            log.warning("cache.differs", key=error.key)
            bodies = dict(zip(numbers, pool.map(lambda key: self.store.get(key).body, numbers.values()), strict=True))
            chain = list(manifests.chain(name, bodies))
        for number, body in bodies.items():
            if body != local[number]:
                self._keep(numbers[number], body)
        wanted = [manifest for manifest in chain if since <= date.fromisoformat(manifest.event_date) <= until]
        files = tuple(path for path in pool.map(self._object, wanted) if path is not None)
        return Evidence(name, last, manifests.digest(bodies[last]), tuple(wanted), files)

    def _object(self, manifest: Manifest) -> Path | None:
        """None for a batch without facts, and where the bucket has disposed of the object after its lock ended."""
        if manifest.key is None:
            return None
        body = self._local(manifest.key)
        if body is not None and hashlib.sha256(body).hexdigest() == manifest.sha256:
            return self._root / manifest.key
        if body is not None:
            log.warning("cache.differs", key=manifest.key)
        try:
            found = self.store.get(manifest.key, manifest.version)
        except EvidenceDiffers:
            if manifest.lock.until <= datetime.now(UTC):
                return None
            raise
        if found.sha256 != manifest.sha256:
            raise EvidenceDiffers(manifest.key, "its bytes differ from what its manifest names")
        return self._keep(manifest.key, found.body)

    def _local(self, key: str) -> bytes | None:
        try:
            return (self._root / key).read_bytes()
        except FileNotFoundError:
            return None

    def _keep(self, key: str, body: bytes) -> Path:
        """Write the file at once: a reader at the same time sees the old file or the new one, never a part."""
        path = self._root / key
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(body)
        Path(unfinished).replace(path)
        return path


def _private(path: Path) -> Path:
    """Create the directory unless it exists. Raises ExposedCache if other users could put files into it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if path.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise ExposedCache(
            f"BILLING_CACHE_DIRECTORY: {path} must be a directory of this user that nobody else can write; chmod 700 it"
        )
    return path
