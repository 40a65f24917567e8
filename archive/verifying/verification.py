"""The whole verification: it reads every version, manifest, object and lock in S3.

An archiver may run meanwhile, and must not cause a false alarm. So the order is: first ask Postgres which batches are
archived (they must be in the bucket), then list the bucket, then ask Postgres again (everything listed was claimed
before). A batch between the two is being written: its manifest may be listed or not.

One finding does not hide the next: where the chain is broken, the verification goes on with what Postgres says.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from archive.errors import EvidenceDiffers
from archive.format import manifests
from archive.format.manifests import Manifest
from archive.policy.retention import CLASSES, Lock
from archive.s3.store import PROBES, Listed, Store, Stored
from archive.signing import keyring
from archive.signing.keyring import Keyring
from archive.signing.public_key import PublicKey
from archive.verifying import agreement, documents
from archive.verifying.agreement import PAGE, Counts
from archive.verifying.findings import Finding, Heads
from archive.verifying.inventory import Inventory
from archive.verifying.versions import PAUSES_S, Versions, Wanted, named
from billing import database
from billing.database import Transact
from billing.tables.facts import ArchiveBatch

DOWNLOADS = 8


def from_bucket(
    store: Store,
    ask: Transact,
    counts: Counts,
    heads: Heads,
    progress: Callable[[str], None] = lambda _: None,
    pauses_s: Sequence[float] = PAUSES_S,
    expected_keys: Collection[str] = (),
    clock: Callable[[Session], datetime] = database.now,
) -> Iterator[Finding]:
    """Every difference, as it is found. `progress` is called with a short text from time to time.

    `expected_keys`: the ids of the keys that may have signed; if it is empty, every key in the bucket may.
    `clock` says which locks have ended. Raises StoreAway, StoreRefused, and Postgres's errors.
    """
    archived, now = ask(lambda session: (agreement.archived(session), clock(session)))
    versions = Versions(store, now, pauses_s)
    with Inventory() as inventory, ThreadPoolExecutor(DOWNLOADS, thread_name_prefix="verify") as pool:
        _list(versions, inventory, progress)
        keys: dict[str, PublicKey] = {}
        yield from _keys(versions, inventory, keys)
        ring = Keyring(keys, expected_keys)
        for name in CLASSES:
            walk = _Walk(name, archived[name], versions, inventory, ask, counts, heads, ring)
            while links := walk.links():
                yield from walk.check(links, pool)
                progress(f"{name}: {links[-1].number} batches checked")
        yield from agreement.missing_keys(counts, ring)
        yield from documents.check(versions, inventory, ask, counts, pool)
        if counts.documents:
            progress(f"{counts.documents} documents checked")
        for entry in inventory.unaccounted():
            yield Finding(
                entry.key, entry.version, "nothing", f"{named(entry)} that no batch, no manifest and no document names"
            )
    yield from heads.findings()


def _list(versions: Versions, inventory: Inventory, progress: Callable[[str], None]) -> None:
    following, count = None, 0
    while True:
        page = versions.patiently(lambda: versions.store.versions(following))  # noqa: B023 - it is called at once
        inventory.add(entry for entry in page.entries if not entry.key.startswith(PROBES))
        count += len(page.entries)
        progress(f"{count} versions listed")
        following = page.following
        if following is None:
            return


def _keys(versions: Versions, inventory: Inventory, keys: dict[str, PublicKey]) -> Iterator[Finding]:
    """Collect the public keys of the bucket in `keys`; a finding for what is at such a place and is not the key."""
    for key in inventory.keys(keyring.PREFIX):
        listed = inventory.of(key)
        found = versions.public_key(key, listed)
        if found is not None:
            keys[found[0].key_id] = found[0]
        yield from versions.beside(key, found[1] if found else None, listed)


@dataclass(frozen=True, slots=True)
class _Link:
    """One number of a class: its batch in Postgres, and what is at its manifest's key. Either may be missing."""

    number: int
    batch: ArchiveBatch | None
    listed: list[Listed]
    held: bool

    @property
    def digest(self) -> str | None:
        """The digest of its manifest, as Postgres says; None if Postgres does not know it."""
        return self.batch.manifest_sha256 if self.batch else None


@dataclass(frozen=True, slots=True)
class _End:
    """The end of the chain so far. If bucket and Postgres differ, which is a finding already, either is accepted.

    The sets are empty if neither is known.
    """

    number: int
    digests: set[str | None]
    last_seqs: set[int]

    def leads_to(self, manifest: Manifest) -> bool:
        begins = not self.last_seqs or manifest.first_seq - 1 in self.last_seqs
        return begins and (not self.digests or manifest.previous in self.digests)


class _Walk:
    """Checks the chain of one class, a page at a time. Batches up to number `archived` must be in the bucket."""

    def __init__(
        self,
        name: str,
        archived: int,
        versions: Versions,
        inventory: Inventory,
        ask: Transact,
        counts: Counts,
        heads: Heads,
        keys: Keyring,
    ) -> None:
        self._name, self._archived = name, archived
        self._versions, self._inventory, self._ask = versions, inventory, ask
        self._counts, self._heads, self._keys = counts, heads, keys
        self._end = _End(0, {None}, {0})
        self._signed = False

    def links(self) -> list[_Link]:
        """The next page of numbers that Postgres or the bucket has."""
        after = self._end.number
        batches = self._ask(lambda session: agreement.batches_after(session, self._name, after))
        known = {batch.number: batch for batch in batches}
        numbers = sorted({*known, *self._inventory.manifest_numbers(self._name, after, PAGE)})[:PAGE]
        held = self._ask(lambda session: agreement.held(session, [(self._name, number) for number in numbers]))
        return [
            _Link(
                number,
                known.get(number),
                self._inventory.of(manifests.key(self._name, number)),
                (self._name, number) in held,
            )
            for number in numbers
        ]

    def check(self, links: Sequence[_Link], pool: Executor) -> Iterator[Finding]:
        """Check these manifests, then download and check their objects."""
        objects: list[tuple[Wanted, list[Listed]]] = []
        kept: list[_Kept] = []
        bodies = pool.map(lambda link: self._versions.manifest(link.listed, link.digest), links)
        for link, stored in zip(links, bodies, strict=True):
            manifest = _read(self._name, link, stored)
            wanted = None
            if link.batch and not link.listed and link.number > self._archived:
                self._counts.unfinished += 1
            else:
                yield from self._manifest(link, stored, manifest)
                wanted = _object(link, manifest)
            if wanted is not None:
                objects.append((wanted, self._inventory.of(wanted.key)))
                kept.append(_kept(link, manifest, wanted))
            elif link.batch is not None and link.batch.rows:
                # What an archiver has put there so far is not evidence yet, so it is accounted for unchecked.
                self._inventory.of(manifests.object_key(link.batch))
            digests = {manifests.digest(stored.body) if stored else None, link.digest} - {None}
            self._end = _End(link.number, digests, {each.last_seq for each in (manifest, link.batch) if each})
        for checked, (policy, facts, ended) in zip(
            pool.map(lambda each: self._versions.check(*each), objects), kept, strict=True
        ):
            if checked.disposed:
                self._counts.dispose(self._name, policy, facts, ended)
            else:
                self._counts.objects += not checked.findings
            yield from checked.findings

    def _manifest(self, link: _Link, stored: Stored | None, manifest: Manifest | None) -> Iterator[Finding]:
        key = manifests.key(self._name, link.number)
        expected = f"the manifest with digest {link.digest}, as Postgres says" if link.digest else "a manifest"
        follows = link.number == self._end.number + 1
        if not follows:
            yield Finding(
                key, None, f"batch {link.number - 1} before it", "none, neither in the bucket nor in Postgres"
            )
        if stored is None:
            yield Finding(key, None, expected, "none")
            yield from self._versions.beside(key, None, link.listed)
            return
        self._heads.note(self._name, link.number, manifests.digest(stored.body))
        yield from self._versions.beside(key, stored, link.listed)
        yield from self._versions.unlocked(key, stored, *_manifest_locks(link, manifest))
        if manifest is None:
            yield Finding(key, stored.version, expected, "other bytes, which are no manifest of this batch")
            return
        self._counts.note(manifest)
        yield from agreement.unsigned_or_wrong(manifest, self._keys, stored.version, must_be_signed=self._signed)
        self._signed = self._signed or manifest.key_id is not None
        if follows and not self._end.leads_to(manifest):
            yield Finding(
                key,
                stored.version,
                f"to follow from manifest {self._end.number}",
                f"first_seq {manifest.first_seq}, previous {manifest.previous}",
            )
        if link.batch is None:
            yield agreement.unknown(self._name, link.number, stored.version)
        else:
            yield from agreement.compare(link.batch, manifest, stored.version)


def _read(name: str, link: _Link, stored: Stored | None) -> Manifest | None:
    """None if nothing is there, or no manifest, or the manifest of another batch."""
    if stored is None:
        return None
    try:
        manifest = manifests.read(manifests.key(name, link.number), stored.body)
    except EvidenceDiffers:
        return None
    return manifest if (manifest.retention_class, manifest.number) == (name, link.number) else None


def _object(link: _Link, manifest: Manifest | None) -> Wanted | None:
    """The object that must exist, as Postgres says; if Postgres does not know, as the manifest says.

    None if neither knows one: the batch is being written, or has no facts.
    """
    batch = link.batch
    if batch is not None and batch.object_sha256 and batch.object_version:
        lock = Lock(batch.lock_mode, batch.locked_until)
        return Wanted(manifests.object_key(batch), batch.object_version, batch.object_sha256, lock, link.held)
    known_empty = batch is not None and batch.manifest_sha256 is not None
    if known_empty or manifest is None or manifest.key is None or not manifest.version or not manifest.sha256:
        return None
    return Wanted(manifest.key, manifest.version, manifest.sha256, manifest.lock, link.held)


_Kept = tuple[str, int, datetime]
"""The policy under which an object is kept, its number of facts, and when its lock ends."""


def _kept(link: _Link, manifest: Manifest | None, wanted: Wanted) -> _Kept:
    policy = (link.batch and link.batch.policy) or (manifest and manifest.policy)
    described = link.batch or manifest
    until = wanted.lock.until.astimezone(UTC)
    return policy or f"locked until {until:%Y-%m-%d}", described.rows if described else 0, until


def _manifest_locks(link: _Link, manifest: Manifest | None) -> Iterator[Lock]:
    """The locks that a manifest needs: at least its object's, and the longer one that only Postgres knows."""
    if link.batch is not None:
        yield Lock(link.batch.manifest_lock_mode, link.batch.manifest_locked_until)
    if manifest is not None:
        yield manifest.lock
