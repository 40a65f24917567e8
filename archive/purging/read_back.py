"""The rows of an archived batch as the bucket returns them now, checked against Postgres and the manifest."""

from datetime import UTC

import pyarrow.compute as pc

from archive.errors import EvidenceDiffers
from archive.format import manifests, objects, records
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
    found.must_be_locked(key, Lock(batch.lock_mode, batch.locked_until.astimezone(UTC)))
    numbers = {"first_seq": batch.first_seq, "last_seq": batch.last_seq}
    return objects.rows_of(key, found, sha256=batch.object_sha256, **numbers)


def of_entity(rows: records.Rows, entity_type: str, entity_id: str) -> records.Rows:
    """Those that are about this entity."""
    is_its = pc.and_(pc.equal(rows.column("entity_type"), entity_type), pc.equal(rows.column("entity_id"), entity_id))
    return rows.filter(is_its)
