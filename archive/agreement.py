"""Whether the bucket and Postgres tell the same: every chain, every digest, every number, every head."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from archive import manifests
from archive.cache import Evidence
from archive.manifests import Manifest
from archive.retention import CLASSES
from billing.tables import ArchiveBatch, BatchState


def differences(session: Session, evidence: list[Evidence]) -> list[str]:
    """One line for each difference; nothing, if they agree. `evidence` is all of it, as `Cache.bring` has verified it.

    A batch that is claimed and not confirmed may be in the bucket or not.
    """
    by_class = {part.retention_class: part for part in evidence}
    found: list[str] = []
    for name in CLASSES:
        query = select(ArchiveBatch).where(ArchiveBatch.retention_class == name).order_by(ArchiveBatch.number)
        known = list(session.scalars(query))
        there = by_class[name].manifests if name in by_class else ()
        archived = [batch for batch in known if batch.state == BatchState.ARCHIVED]
        if len(there) < len(archived):
            found.append(f"{name}: Postgres has {len(archived)} archived batches, the bucket {len(there)} manifests")
        if len(there) > len(known):
            found.append(f"{name}: the bucket has {len(there)} manifests, Postgres {len(known)} batches")
        for batch, manifest in zip(archived, there, strict=False):
            found += _compare(batch, manifest)
    return found


def _compare(batch: ArchiveBatch, manifest: Manifest) -> list[str]:
    theirs = (
        manifest.number,
        manifest.first_seq,
        manifest.last_seq,
        manifest.rows,
        manifest.sha256,
        manifest.version,
        manifests.digest(manifest.body()),
    )
    ours = (
        batch.number,
        batch.first_seq,
        batch.last_seq,
        batch.rows,
        batch.object_sha256,
        batch.object_version,
        batch.manifest_sha256,
    )
    return [] if ours == theirs else [f"{batch.retention_class}: batch {batch.number} is another one in the bucket"]
