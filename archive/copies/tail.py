"""What the bucket holds beyond the newest batch that a database knows, verified: the end of each class's chain.

The digest of that newest manifest is in Postgres, so the chain is followed from there, and nothing before it is read.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from archive.errors import EvidenceDiffers
from archive.format import manifests, objects, records
from archive.format.manifests import Manifest
from archive.format.records import Rows
from archive.policy.retention import Lock
from archive.s3.store import Store
from archive.signing.keyring import Keyring


@dataclass(frozen=True, slots=True)
class Known:
    """The newest batch of a class that a database knows as archived. Number 0: it knows none."""

    number: int = 0
    last_seq: int = 0
    manifest_sha256: str | None = None
    manifest_format: int = manifests.UNSIGNED


@dataclass(frozen=True, slots=True)
class Part:
    """One batch: its manifest with its digest and its lock, the format of the manifest before it, and its rows in the
    order of their numbers."""

    manifest: Manifest
    previous_format: int
    digest: str
    lock: Lock | None
    rows: Rows


def beyond(store: Store, retention_class: str, known: Known, installation: str, keys: Keyring) -> Iterator[Part]:
    """Each batch of this class after `known`, in order; one object in memory at a time.

    Raises EvidenceDiffers at the first that does not follow from the one before it, was written by another
    installation, is not signed as it must be, or is not what its manifest says.
    """
    last_seq, digest, previous_format = known.last_seq, known.manifest_sha256, known.manifest_format
    for number in range(known.number + 1, _newest(store, retention_class, known.number) + 1):
        key = manifests.key(retention_class, number)
        stored = store.get(key)
        manifest = manifests.read(key, stored.body)
        named = (manifest.retention_class, manifest.number, manifest.previous, manifest.first_seq)
        if named != (retention_class, number, digest, last_seq + 1):
            raise EvidenceDiffers(key, "it does not follow from the manifest before it, which Postgres knows")
        if manifest.installation != installation:
            raise EvidenceDiffers(key, "another installation wrote it; this bucket is not this database's")
        if manifest.key_id is None and previous_format == manifests.SIGNED:
            raise EvidenceDiffers(key, "it is not signed, and must be")
        if manifest.key_id is not None:
            trouble = keys.trouble(manifest.key_id, manifest.signature, manifest.line())
            if trouble is not None:
                raise EvidenceDiffers(key, f"it has {trouble}")
        last_seq, digest = manifest.last_seq, manifests.digest(stored.body)
        yield Part(manifest, previous_format, digest, stored.lock, _rows(store, manifest))
        previous_format = manifests.SIGNED if manifest.key_id is not None else manifests.UNSIGNED


def _newest(store: Store, retention_class: str, after: int) -> int:
    listed = store.keys(f"{manifests.PREFIX}{retention_class}/", after=manifests.key(retention_class, after))
    numbers = (manifests.number_of(retention_class, key) for key in listed)
    return max((number for number in numbers if number is not None), default=after)


def _rows(store: Store, manifest: Manifest) -> Rows:
    if manifest.key is None:
        return records.SCHEMA.empty_table()  # a day without facts
    found = store.get(manifest.key, manifest.version)
    numbers = {"first_seq": manifest.first_seq, "last_seq": manifest.last_seq}
    return objects.rows_of(manifest.key, found, sha256=manifest.sha256, **numbers)
