"""One batch from its claim to its confirmation; a crash anywhere is finished by whoever comes next.

Claim (Postgres) → object → read back → manifest → read back → confirm (Postgres). Each step may be done twice, by
anybody: a key that is taken is read and compared. Nothing is deleted from Postgres.
"""

from dataclasses import dataclass
from datetime import UTC

import structlog
from sqlalchemy import Engine

from archive import batches, manifests, records
from archive.errors import EvidenceDiffers
from archive.manifests import Source
from archive.retention import Lock, Policy
from archive.store import Store, Stored
from billing import database
from billing.tables import ArchiveBatch

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Writer:
    """`wait_s`: how long facts are gathered before a batch is made of them. `patience_s`: how long a batch is left to
    whoever claimed it. Both are 0 for somebody who wants everything archived now.
    """

    engine: Engine
    store: Store
    policy: Policy
    source: Source
    wait_s: float
    patience_s: float

    def round(self) -> int:
        """Finish what others have left behind, then claim one batch and write it. Returns how many facts that were.

        Raises EvidenceDiffers when a batch cannot be finished, after everything else was done: each class goes on
        by itself. Raises StoreAway and StoreRefused at once.
        """
        archived, differs = 0, None
        with database.transaction(self.engine) as session:
            found = batches.left_behind(session, self.patience_s)
        for batch in found:
            try:
                archived += self.finish(batch)
            except EvidenceDiffers as error:
                differs = error
        with database.transaction(self.engine) as session:
            claimed = batches.claim(session, self.policy, wait_s=self.wait_s)
        if claimed is not None:
            archived += self.finish(claimed)
        if differs is not None:
            raise differs
        return archived

    def finish(self, batch: ArchiveBatch) -> int:
        """Write what is missing of a claimed batch, and confirm it. Returns its number of facts."""
        with database.transaction(self.engine) as session:
            rows = records.table(batches.facts_of(session, batch))
            previous = batches.previous_manifest(session, batch)
        key = manifests.object_key(batch)
        body = records.parquet(rows)
        # SeaweedFS and S3 give the lock's end back in whole seconds of UTC, as it was given to them.
        lock = Lock(batch.lock_mode, batch.locked_until.astimezone(UTC))
        self.store.put_once(key, body, lock)
        found = self._read_back(key, lock)
        if found.body != body:
            self._compare_rows(key, rows, found)
        manifest = manifests.of(
            batch,
            self.source,
            sha256=found.sha256,
            version=found.version,
            size=len(found.body),
            captured=records.captured(rows),
            previous=previous,
        ).body()
        manifest_key = manifests.key(batch.retention_class, batch.number)
        manifest_lock = Lock(batch.manifest_lock_mode, batch.manifest_locked_until.astimezone(UTC))
        self.store.put_once(manifest_key, manifest, manifest_lock)
        if self._read_back(manifest_key, manifest_lock).body != manifest:
            raise EvidenceDiffers(manifest_key, "another manifest lies there")
        with database.transaction(self.engine) as session:
            batches.confirm(
                session,
                batch,
                object_sha256=found.sha256,
                object_version=found.version,
                manifest=manifests.digest(manifest),
            )
        log.info("batch.archived", batch=batches.name(batch), rows=batch.rows, key=key, bytes=len(found.body))
        return batch.rows

    def _read_back(self, key: str, lock: Lock) -> Stored:
        found = self.store.get(key)
        if found.lock is None or not found.lock.holds(lock):
            raise EvidenceDiffers(key, f"it is not locked as it must be ({lock.mode} until {lock.until:%Y-%m-%d})")
        return found

    def _compare_rows(self, key: str, rows: records.Rows, found: Stored) -> None:
        """Another version of pyarrow writes other bytes for the same rows: the rows are what counts."""
        try:
            theirs = records.read(found.body)
        except ValueError as error:
            raise EvidenceDiffers(key, str(error)) from None
        if not records.same(theirs, rows):
            raise EvidenceDiffers(key, "other rows lie there than Postgres holds for this batch")
