"""Compare Postgres with the manifests. The quick verification does only this, over the verified copies."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from archive.copies.cache import Cache
from archive.errors import EvidenceDiffers
from archive.format import manifests
from archive.format.manifests import Manifest
from archive.policy.retention import CLASSES
from archive.signing import keyring
from archive.signing.keyring import Keyring
from archive.verifying.findings import Finding, Heads
from billing.database import Transact
from billing.states import BatchState
from billing.tables.facts import ArchiveBatch
from billing.tables.holds import ArchiveHold, HeldBatch, HeldDocument

T = TypeVar("T")
PAGE = 500
"""How many batches are read at a time: there may be a million."""


@dataclass(slots=True)
class Disposal:
    """What is gone of one class under one policy: the last lock of these objects ended at `ended`."""

    retention_class: str
    policy: str
    objects: int
    facts: int
    ended: datetime

    def __str__(self) -> str:
        return (
            f"{self.retention_class}: {self.objects} objects with {self.facts} facts under policy {self.policy!r}; the"
            f" last lock ended {self.ended:%Y-%m-%d %H:%M:%S} UTC"
        )


class Counts:
    """How much was checked.

    `facts` are those that manifests describe. `documents` are those of invoices. `unfinished` counts batches that an
    archiver is still writing: they are not evidence yet. `unsigned` counts manifests without a signature.
    """

    def __init__(self) -> None:
        self.facts = self.objects = self.documents = self.unfinished = self.unsigned = 0
        self.signed: dict[str, int] = {}
        """How many manifests each key has signed."""
        self._disposed: dict[tuple[str, str], Disposal] = {}

    @property
    def disposed(self) -> list[Disposal]:
        return list(self._disposed.values())

    def dispose(self, retention_class: str, policy: str, facts: int, ended: datetime) -> None:
        """Count an object that is gone because its lock had ended."""
        total = self._disposed.setdefault((retention_class, policy), Disposal(retention_class, policy, 0, 0, ended))
        total.objects += 1
        total.facts += facts
        total.ended = max(total.ended, ended)

    def note(self, manifest: Manifest) -> None:
        self.facts += manifest.rows
        if manifest.key_id is None:
            self.unsigned += 1
        else:
            self.signed[manifest.key_id] = self.signed.get(manifest.key_id, 0) + 1


def archived(session: Session) -> dict[str, int]:
    """The number of the newest archived batch of each class.

    Call it before the bucket is listed: every batch up to that number must then be in the bucket.
    """
    newest = select(func.max(ArchiveBatch.number)).where(ArchiveBatch.state == BatchState.ARCHIVED)
    # One class per statement: Postgres then reads one end of an index, and does not scan a million batches.
    return {name: session.scalar(newest.where(ArchiveBatch.retention_class == name)) or 0 for name in CLASSES}


def batches_after(session: Session, retention_class: str, number: int) -> Sequence[ArchiveBatch]:
    """The next page of batches, by number.

    Call it after the bucket was listed: every object in that list belongs to a batch that was claimed before.
    """
    query = select(ArchiveBatch).where(ArchiveBatch.retention_class == retention_class, ArchiveBatch.number > number)
    return session.scalars(query.order_by(ArchiveBatch.number).limit(PAGE)).all()


def held(session: Session, batches: Sequence[tuple[str, int]], *, but: str = "") -> set[tuple[str, int]]:
    """Which of these batches, by class and number, a hold in force needs, other than the hold `but`."""
    place = tuple_(HeldBatch.retention_class, HeldBatch.number)
    query = (
        select(HeldBatch.retention_class, HeldBatch.number)
        .join(ArchiveHold, ArchiveHold.name == HeldBatch.hold)
        .where(ArchiveHold.released_at.is_(None), HeldBatch.hold != but, place.in_(batches))
    )
    return {(name, number) for name, number in session.execute(query)}


def held_documents(session: Session, documents: Sequence[str], *, but: str = "") -> set[str]:
    """Which of these documents, by their ids, a hold in force needs, other than the hold `but`."""
    query = (
        select(HeldDocument.document_id)
        .join(ArchiveHold, ArchiveHold.name == HeldDocument.hold)
        .where(ArchiveHold.released_at.is_(None), HeldDocument.hold != but, HeldDocument.document_id.in_(documents))
    )
    return set(session.scalars(query))


def compare(batch: ArchiveBatch, manifest: Manifest, version: str | None = None) -> Iterator[Finding]:
    """Compare the row of a batch with its manifest, which has this version in S3. Yields at most one finding.

    Postgres knows the digests and the object's version only once a batch is confirmed.
    """
    ours: dict[str, object] = {
        "event_date": batch.event_date.isoformat(),
        "rows": batch.rows,
        "first_seq": batch.first_seq,
        "last_seq": batch.last_seq,
        "lock_mode": batch.lock_mode,
        "locked_until": batch.locked_until.astimezone(UTC).isoformat(),
    }
    if batch.policy is not None and manifest.policy is not None:
        ours["policy"] = batch.policy
    theirs = {field: getattr(manifest, field) for field in ours}
    if batch.manifest_sha256 is not None:
        ours |= {"sha256": batch.object_sha256, "version": batch.object_version, "digest": batch.manifest_sha256}
        ours |= {"key_id": batch.manifest_key_id}
        digest = manifests.digest(manifest.body())
        theirs |= {"sha256": manifest.sha256, "version": manifest.version, "digest": digest, "key_id": manifest.key_id}
    if differing := [field for field in ours if ours[field] != theirs[field]]:
        key = manifests.key(batch.retention_class, batch.number)
        yield Finding(
            key,
            version,
            "as Postgres says " + ", ".join(f"{field} {ours[field]}" for field in differing),
            ", ".join(f"{field} {theirs[field]}" for field in differing),
        )


def unsigned_or_wrong(
    manifest: Manifest, keys: Keyring, version: str | None, *, must_be_signed: bool
) -> Iterator[Finding]:
    """A finding if its signature is wrong, or if it has none and one before it has."""
    where = manifests.key(manifest.retention_class, manifest.number)
    if manifest.key_id is None:
        if must_be_signed:
            yield Finding(where, version, "a signed manifest, as those before it", "one that is not signed")
    elif manifest.signature is not None and manifest.key_id not in keys.keys:
        pass  # `missing_keys` says it once
    elif trouble := keys.trouble(manifest.key_id, manifest.signature, manifest.line()):
        yield Finding(where, version, f"a signature by key {manifest.key_id}", trouble)


def missing_keys(counts: Counts, keys: Keyring) -> Iterator[Finding]:
    """One finding for each key that is not in the bucket, however many manifests it signed."""
    for key_id, count in counts.signed.items():
        if key_id not in keys.keys:
            yield Finding(keyring.place(key_id), None, f"the public key that signed {count} manifests", "no such key")


def from_copies(
    cache: Cache, ask: Transact, counts: Counts, heads: Heads, expected_keys: Collection[str] = ()
) -> Iterator[Finding]:
    """The quick verification: compare the chain, its digests and Postgres, using the copies on this machine.

    It reads from the bucket one listing, the public keys, the newest manifests, and the objects that have no copy yet.
    So it cannot see what was done to the bucket after the copies were made.
    """
    before = ask(archived)
    keys = Keyring(keyring.read(cache.store), expected_keys)
    try:
        evidence = {part.retention_class: part for part in cache.bring()}
    except EvidenceDiffers as error:
        yield Finding(error.key, None, "what its manifest and the chain say", error.what)
        return
    for name in CLASSES:
        copied = evidence[name].manifests if name in evidence else ()
        for manifest in copied:
            heads.note(name, manifest.number, manifests.digest(manifest.body()))
            counts.note(manifest)
            counts.objects += manifest.key is not None
            # The chain was checked while it was copied: from the first signature on, every manifest has one.
            yield from unsigned_or_wrong(manifest, keys, None, must_be_signed=False)
        number = 0
        while page := ask(lambda session, name=name, after=number: batches_after(session, name, after)):  # type: ignore[misc]
            for batch in page:
                number = batch.number
                if number <= len(copied):
                    yield from compare(batch, copied[number - 1])
                elif number <= before[name]:
                    yield missing(batch)
                else:
                    counts.unfinished += 1
        for manifest in copied[number:]:
            yield unknown(name, manifest.number)
    yield from missing_keys(counts, keys)
    yield from heads.findings()


def missing(batch: ArchiveBatch) -> Finding:
    key = manifests.key(batch.retention_class, batch.number)
    return Finding(key, None, f"the manifest with digest {batch.manifest_sha256}, as Postgres says", "none")


def unknown(retention_class: str, number: int, version: str | None = None) -> Finding:
    key = manifests.key(retention_class, number)
    return Finding(key, version, f"a batch {number} of {retention_class} in Postgres", "none")
