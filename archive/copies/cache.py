"""Verified copies of the archive's objects on this machine: only bytes whose digest is in the chain are queried.

Objects never change, so a copy stays valid. A second run reads one listing and the newest manifest of each class from
S3; the chain that ends in those manifests proves every other byte.

A copy is hashed when it is downloaded, and again before it is read, unless the file system says that nothing has
written to it since it was last hashed, and that was less than a day ago. Another user cannot write to it; a program of
this user could, but it could as well change the answer. If one id is sought, an object whose filter shows that it does
not hold it needs no copy.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from uuid import uuid4

import structlog

from archive.copies import files, filters
from archive.copies.filters import Sought
from archive.copies.shelf import Hashed, Reader, Shelf, Stamp
from archive.errors import EvidenceDiffers
from archive.format import manifests
from archive.format.manifests import Manifest
from archive.policy.retention import CLASSES
from archive.s3.store import Store

log = structlog.get_logger()

DOWNLOADS = 8
MOST_MB = 10_000
"""Some sixty million facts of 170 bytes."""
NOTED = 200
"""So many copies are remembered at once: their filters, some kilobytes each, are in memory until then."""
EVERY_CLASS = tuple(CLASSES)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Copies of one class. Its whole chain was checked up to `head`, the digest of manifest number `last`.

    `hashed`: how many of the copies were hashed for this; nothing has written to the others since they were. There is
    no file of an object that was disposed of. `passed_over`: how many objects hold none of the values that were sought,
    and so are not among the manifests.
    """

    retention_class: str
    last: int
    head: str
    manifests: tuple[Manifest, ...]
    files: tuple[Path, ...]
    hashed: int = 0
    passed_over: int = 0

    def copies(self) -> Iterator[tuple[Manifest, Path]]:
        """Each manifest with the copy of its object, if there is one."""
        files = {path.name: path for path in self.files}
        for manifest in self.manifests:
            if manifest.key is not None and (path := files.get(PurePosixPath(manifest.key).name)):
                yield manifest, path


@dataclass(frozen=True, slots=True)
class Copies:
    """What a query may read. `scratch` is a private directory, which is removed afterwards. `bring` copies and verifies
    more, up to the same manifests: the objects that may hold something else, for as long as these are read."""

    evidence: list[Evidence]
    scratch: Path
    bring: Callable[[Sought], list[Evidence]]


@dataclass(frozen=True, slots=True)
class _Copy:
    """The right copy of an object. `hashed` is None if its bytes need not be."""

    hashed: Hashed | None


@dataclass(frozen=True, slots=True)
class _Chain:
    """The checked manifests of one class, and the bodies of those that have no right copy yet."""

    name: str
    manifests: list[Manifest]
    head: str
    sizes: dict[str, int]
    new: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class _End:
    """The keys of the manifests of one class by number, and the newest of them."""

    name: str
    keys: dict[int, str]
    head: bytes


class Cache:
    """Copies of one bucket, below `directory`, of at most `most_mb` megabytes; those that were not used for longest go
    first. Only this user may be able to write there. Any number of processes may share it."""

    def __init__(self, store: Store, directory: Path | None = None, *, most_mb: int = MOST_MB) -> None:
        self.store = store
        root = directory or Path(tempfile.gettempdir()) / f"billing-archive-{os.getuid()}"
        bucket = hashlib.sha256(f"{store.endpoint} {store.bucket}".encode()).hexdigest()[:16]
        self._root = files.private(files.private(root) / bucket)
        self._shelf = Shelf(self._root, most_mb * 1_000_000)
        self._known: dict[str, _Chain] = {}

    def bring(
        self, classes: Iterable[str] = EVERY_CLASS, *, since: date = date.min, until: date = date.max
    ) -> list[Evidence]:
        """As `reading`, but every copy is hashed, and none is kept for the caller afterwards."""
        with self.reading(classes, since=since, until=until, rehash=True) as copies:
            return copies.evidence

    @contextmanager
    def reading(
        self,
        classes: Iterable[str] = EVERY_CLASS,
        *,
        since: date = date.min,
        until: date = date.max,
        newest: Mapping[str, int] | None = None,
        rehash: bool = False,
        sought: Sought | None = None,
    ) -> Iterator[Copies]:
        """Copy and verify the objects of these classes and of these UTC days, the last included. Nobody removes them
        until the end of the `with`. `newest`: for each class the number of the last manifest whose object is meant; of
        a class that is not there, none. `rehash`: hash every copy, also one that nothing has written to, and
        see whether the bucket still has every manifest. `sought`: of
        the objects, only those that may hold it.

        Raises EvidenceDiffers if the chain is broken or an object is not what its manifest says; TooLarge if the copies
        need more room than they may have; ExposedCache, StoreAway, StoreRefused.
        """
        with self._shelf.reader() as reader:
            with _threads() as pool:
                ends = [end for end in pool.map(partial(self._end, whole=rehash), classes) if end is not None]
                chains = [self._chain(pool, end) for end in ends]
            last = {chain.name: len(chain.manifests) for chain in chains} if newest is None else newest
            of_days = [
                [m for m in chain.manifests[: last.get(chain.name, 0)] if _in(m, since, until)] for chain in chains
            ]
            bring = partial(self._bring, reader, chains, of_days)
            yield Copies(bring(sought, rehash=rehash), reader.directory, bring)

    def _bring(
        self,
        reader: Reader,
        chains: list[_Chain],
        of_days: list[list[Manifest]],
        sought: Sought | None,
        *,
        rehash: bool = False,
    ) -> list[Evidence]:
        wanted = of_days if rehash or sought is None else _may_hold(reader, sought, of_days)
        sizes = {key: size for chain in chains for key, size in chain.sizes.items()}
        sizes |= {m.key: m.size for of_class in wanted for m in of_class if m.key is not None}
        stamps = reader.take(sizes)
        for chain in chains:
            for key, body in chain.new.items():
                self._keep_manifest(reader, key, body)
            chain.new.clear()  # more may be brought later
        with _threads() as pool:
            evidence = [
                self._class(pool, reader, chain, of_class, {} if rehash else stamps)
                for chain, of_class in zip(chains, wanted, strict=True)
            ]
        if sought is None:
            return evidence
        if rehash or any(part.hashed for part in evidence):
            # The filters of those that were hashed just now are known only now.
            wanted = _may_hold(reader, sought, wanted)
        return list(map(self._narrowed, evidence, wanted, of_days))

    def _chain(self, pool: ThreadPoolExecutor, end: _End) -> _Chain:
        name, numbers, last, head = end.name, end.keys, max(end.keys), end.head
        known = self._known.get(name)
        if known is not None and len(known.manifests) == len(numbers) == last and known.manifests[-1].body() == head:
            return known
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
        sizes = {numbers[number]: len(body) for number, body in bodies.items()}
        self._known[name] = _Chain(name, chain, manifests.digest(bodies[last]), sizes, {})
        return replace(self._known[name], new={numbers[n]: body for n, body in bodies.items() if body != local[n]})

    def _end(self, name: str, *, whole: bool) -> _End | None:
        """How far the chain of this class reaches. Manifests before the newest of which there is a copy are not listed,
        unless the whole chain must be there: it names the digest of each."""
        known = self._known.get(name)
        here = 0 if whole else len(known.manifests) if known else self._newest_here(name)
        prefix = f"{manifests.PREFIX}{name}/"
        before = {number: manifests.key(name, number) for number in range(1, here)}
        listed = self.store.keys(prefix, after=before.get(here - 1))
        if before and manifests.key(name, here) not in listed:
            # The bucket has fewer than it had.
            before, listed = {}, self.store.keys(prefix)
        keys = before | {number: key for key in listed if (number := manifests.number_of(name, key)) is not None}
        return _End(name, keys, self.store.get(keys[max(keys)]).body) if keys else None

    def _newest_here(self, name: str) -> int:
        try:
            names = os.listdir(self._root / manifests.PREFIX / name)
        except OSError:
            return 0
        numbers = (manifests.number_of(name, f"{manifests.PREFIX}{name}/{each}") for each in names)
        return max((number for number in numbers if number is not None), default=0)

    def _class(
        self, pool: ThreadPoolExecutor, reader: Reader, chain: _Chain, wanted: list[Manifest], stamps: dict[str, str]
    ) -> Evidence:
        # A batch without facts has no object.
        objects = {manifest.key: manifest for manifest in wanted if manifest.key is not None}
        checked = pool.map(lambda key: self._object(reader, key, objects[key], stamps.get(key)), objects)
        paths: list[Path] = []
        hashed: dict[str, Hashed] = {}
        count = 0
        for key, copy in zip(objects, checked, strict=True):
            if copy is not None:
                paths.append(self._root / key)
            if copy is not None and copy.hashed is not None:
                hashed[key] = copy.hashed
                count += 1
            if len(hashed) >= NOTED:
                reader.note(hashed)
                hashed = {}
        if hashed:
            reader.note(hashed)
        return Evidence(chain.name, len(chain.manifests), chain.head, tuple(wanted), tuple(paths), count)

    def _narrowed(self, part: Evidence, kept: list[Manifest], of_days: list[Manifest]) -> Evidence:
        paths = {self._root / manifest.key for manifest in kept if manifest.key is not None}
        return replace(
            part,
            manifests=tuple(kept),
            files=tuple(path for path in part.files if path in paths),
            passed_over=sum(manifest.key is not None for manifest in of_days) - len(kept),
        )

    def _object(self, reader: Reader, key: str, manifest: Manifest, stamp: str | None) -> _Copy | None:
        """Make sure that the right copy is there. None if the bucket disposed of the object after its lock ended."""
        path = self._root / key
        now = time.time_ns()
        try:
            with files.opened(path) as file:
                found = Stamp.of(os.fstat(file.fileno()))
                if str(found) == stamp:
                    return _Copy(None)
                if found.size == manifest.size and hashlib.file_digest(file, "sha256").hexdigest() == manifest.sha256:
                    return _Copy(Hashed(found, now, manifest.sha256, filters.of(file)))
            log.warning("cache.differs", key=key)
        except FileNotFoundError:
            pass
        except OSError:
            # A link, a directory, or a file that cannot be read: none of these is a copy of ours.
            log.warning("cache.differs", key=key)
        unfinished = reader.directory / uuid4().hex
        try:
            with files.room(), unfinished.open("xb") as file:
                sha256 = self.store.download(key, manifest.version, file)
        except EvidenceDiffers:
            if manifest.lock.until <= datetime.now(UTC):
                return None
            raise
        if sha256 != manifest.sha256:
            raise EvidenceDiffers(key, "its bytes differ from what its manifest names")
        files.put(unfinished, path)
        with files.opened(path) as file:
            return _Copy(Hashed(Stamp.of(os.fstat(file.fileno())), now, sha256, filters.of(file)))

    def _local(self, key: str) -> bytes | None:
        try:
            with files.opened(self._root / key) as file:
                return file.read()
        except OSError:
            return None

    def _keep_manifest(self, reader: Reader, key: str, body: bytes) -> None:
        unfinished = reader.directory / uuid4().hex
        with files.room():
            unfinished.write_bytes(body)
        files.put(unfinished, self._root / key)


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(DOWNLOADS, thread_name_prefix="cache")


def _may_hold(reader: Reader, sought: Sought, classes: Sequence[Sequence[Manifest]]) -> list[list[Manifest]]:
    """Those manifests of each class whose object may hold what is sought."""
    digests = {m.key: m.sha256 for of_class in classes for m in of_class if m.key is not None and m.sha256 is not None}
    may = digests.keys() - reader.hold_none(sought, digests)
    return [[manifest for manifest in of_class if manifest.key in may] for of_class in classes]


def _in(manifest: Manifest, since: date, until: date) -> bool:
    return since <= date.fromisoformat(manifest.event_date) <= until
