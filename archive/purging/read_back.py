"""The rows of an archived batch as the bucket returns them now, checked against Postgres and the manifest."""

from datetime import UTC

import pyarrow.compute as pc

from archive.errors import EvidenceDiffers
from archive.format import manifests, records
from archive.policy.retention import Lock
from archive.s3.store import Store
from billing.tables.facts import ArchiveBatch


def rows_of(store: Store, batch: ArchiveBatch) -> records.Rows:
    """All rows of this batch, in the order of their numbers.

    Raises EvidenceDiffers if the object or its manifest is missing, is not the one that Postgres knows, or is not
    locked as it must be; StoreAway, StoreRefused.
    """
    manifest_key = manifests.key(batch.retention_class, batch.number)
    manifest = manifests.read(manifest_key, store.get(manifest_key).body)
    if manifests.digest(manifest.body()) != batch.manifest_sha256:
        raise EvidenceDiffers(manifest_key, "it is not the manifest that Postgres knows")
    if (manifest.sha256, manifest.version) != (batch.object_sha256, batch.object_version):
        raise EvidenceDiffers(manifest_key, "it names another object than Postgres")
    key = manifests.object_key(batch)
    found = store.get(key, batch.object_version)
    if found.sha256 != batch.object_sha256:
        raise EvidenceDiffers(key, "its bytes are not those that were archived")
    lock = Lock(batch.lock_mode, batch.locked_until.astimezone(UTC))
    if found.lock is None or not found.lock.holds(lock):
        raise EvidenceDiffers(key, f"it is not locked as it must be ({lock.mode} until {lock.until:%Y-%m-%d})")
    try:
        rows = records.read(found.body)
    except ValueError as error:
        raise EvidenceDiffers(key, str(error)) from None
    if rows.column("archive_seq").to_pylist() != list(range(batch.first_seq, batch.last_seq + 1)):
        raise EvidenceDiffers(key, f"it has other rows than the {batch.rows} of this batch")
    return rows


def of_entity(rows: records.Rows, entity_type: str, entity_id: str) -> records.Rows:
    """Those that are about this entity."""
    is_its = pc.and_(pc.equal(rows.column("entity_type"), entity_type), pc.equal(rows.column("entity_id"), entity_id))
    return rows.filter(is_its)
