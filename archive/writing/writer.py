"""One batch from its claim to its confirmation; after a crash the next archiver finishes it.

Claim (Postgres) → object → read back → manifest, signed → read back → confirm (Postgres). Two archivers may do the
same step: if a key exists already, the object is read and compared. Nothing is deleted from Postgres.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC
from functools import partial

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from archive.errors import EvidenceDiffers
from archive.format import comparing, manifests, records
from archive.format.manifests import Manifest, Source
from archive.policy.retention import Lock, Policy
from archive.s3.store import Store, Stored
from archive.signing.signatures import Signer
from archive.writing import backlog, batches, set_aside
from archive.writing.batch_size import BatchSize
from archive.writing.publishing import Publisher
from billing import database
from billing.tables.facts import ArchiveBatch
from billing.traceparent import Traced

log = structlog.get_logger()


@dataclass(slots=True)
class Round:
    """How many facts were archived, and the errors that stopped single batches."""

    archived: int = 0
    troubles: list[EvidenceDiffers | DBAPIError] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes batches to the bucket.

    `wait_s`: how long facts are gathered before a batch is made of them. `patience_s`: after which time another
    archiver finishes a claimed batch. With both at 0, everything is archived now. `batch_size`: the database, and how
    many facts are taken at once. `signer`: signs the manifests of batches that this archiver claims; without one they
    are not signed. `publisher`: publishes heads every day.
    """

    batch_size: BatchSize
    store: Store
    policy: Policy
    source: Source
    wait_s: float
    patience_s: float
    signer: Signer | None = None
    publisher: Publisher | None = None

    def round(self) -> Round:
        """Finish batches that other archivers left behind, then claim one batch and write it.

        A batch that differs, or a row that Postgres cannot read, stops only its own class. Raises StoreAway,
        StoreRefused, and Postgres's error if the connection is lost.
        """
        done = Round()
        with database.transaction(self.batch_size.engine) as session:
            found = batches.left_behind(session, self.patience_s)
        for batch in found:
            self._add(done, partial(self.finish, batch))
        before = done.archived
        for due in self.due():
            if done.archived == before:
                self._add(done, partial(self._next, due))
        return done

    def due(self) -> list[backlog.Due]:
        """Classes that need a batch; the class whose facts have waited longest is first."""
        return self.batch_size.read(lambda session, _: backlog.due(session, self.wait_s))

    def claim(self, due: backlog.Due) -> ArchiveBatch | None:
        """Claim the next batch of this class. Facts that cannot be archived are set aside.

        None if no fact has waited for `wait_s`, or another archiver is claiming.
        """
        found = self.batch_size.read(partial(backlog.search, due=due, wait_s=self.wait_s))
        set_aside.mark(self.batch_size, found.troubled)
        return self.batch_size.write(partial(self._claim, found=found)) if found.facts else None

    def put_back(self) -> int:
        """Put facts back that were set aside and can be archived now. Returns how many."""
        return set_aside.put_back(self.batch_size)

    def publish_key(self) -> None:
        """Put the public key into the bucket, for whoever checks a signature. Raises EvidenceDiffers."""
        if self.signer is None:
            return
        from archive.signing import keyring  # noqa: PLC0415 - lazy: as below

        with database.transaction(self.batch_size.engine) as session:
            today = database.now(session).astimezone(UTC).date()
        keyring.publish(self.store, self.signer, self.policy.manifest_lock(today, today))

    def daily(self) -> Round:
        """What each day needs once, however often this is called: a longer lock for the public key, a batch without
        facts for each class that had none yesterday (UTC), and then the heads published. Raises as `round`.
        """
        done = Round()
        try:
            self.publish_key()
        except EvidenceDiffers as error:
            done.troubles.append(error)
        for name in self.batch_size.read(lambda session, _: [each.retention_class for each in backlog.quiet(session)]):
            self._add(done, partial(self._quiet_day, name))
        if self.publisher is not None:
            self.publisher.publish()
        return done

    def finish(self, batch: ArchiveBatch) -> int:
        """Write the object and the manifest of a claimed batch unless they exist, and confirm it.

        Returns its number of facts.
        """
        began_ns = time.time_ns()
        batches.check_key(batch, signs=self.signer is not None)
        facts = batches.facts_of(self.batch_size, batch)
        told = records.by_column(facts)
        for fact_id, why in zip(told.get("id", ()), told.get("trouble", ()), strict=True):
            if why is not None:
                log.error("fact.unreadable", fact_id=fact_id, batch=batches.name(batch), why=why)
        rows = records.table(facts)
        with database.transaction(self.batch_size.engine) as session:
            previous = batches.previous_manifest(session, batch)
        found = self._put_object(batch, rows) if batch.rows else None
        manifest = self._put_manifest(
            batch,
            manifests.of(
                batch,
                self.source,
                sha256=found.sha256 if found else None,
                version=found.version if found else None,
                size=len(found.body) if found else 0,
                captured=records.captured(rows),
                previous=previous,
            ),
        )
        with database.transaction(self.batch_size.engine) as session:
            batches.confirm(session, batch, manifest)
        log.info(
            "batch.archived",
            batch=batches.name(batch),
            rows=batch.rows,
            key=manifest.key,
            bytes=manifest.size,
            trace=Traced(None, began_ns, facts),
        )
        return batch.rows

    def _put_object(self, batch: ArchiveBatch, rows: records.Rows) -> Stored:
        key, body = manifests.object_key(batch), records.parquet(rows)
        # SeaweedFS and S3 return the end of a lock as it was given to them: in UTC, in whole seconds.
        lock = Lock(batch.lock_mode, batch.locked_until.astimezone(UTC))
        self.batch_size.heartbeat()
        self.store.put_once(key, body, lock, self.policy.rules[batch.retention_class].storage)
        found = self._read_back(key, lock)
        if found.body != body:
            self._compare_rows(key, rows, found)
        return found

    def _put_manifest(self, batch: ArchiveBatch, manifest: Manifest) -> Manifest:
        """Sign it, if the batch was claimed so, and write it. Returns the manifest that is in the bucket then.

        Another archiver may have written it already, with the same key (a signature may have other bytes each time) or
        with another one.
        """
        key = manifests.key(batch.retention_class, batch.number)
        lock = Lock(batch.manifest_lock_mode, batch.manifest_locked_until.astimezone(UTC))
        if batch.manifest_format == manifests.SIGNED and self.signer is not None:
            manifest = manifest.signed(self.signer)
        self.batch_size.heartbeat()
        self.store.put_once(key, manifest.body(), lock)
        found = self._read_back(key, lock)
        if found.body == manifest.body():
            return manifest
        theirs = manifests.read(key, found.body)
        if not manifest.same_but_for_the_key(theirs) or theirs.key_id is None:
            raise EvidenceDiffers(key, "another manifest is there")
        self._check_signature(key, theirs, theirs.key_id)
        return theirs

    def _check_signature(self, key: str, theirs: Manifest, key_id: str) -> None:
        from archive.signing import keyring  # noqa: PLC0415 - lazy: an archiver without a key needs no cryptography

        keys = keyring.Keyring(keyring.read(self.store))
        if trouble := keys.trouble(key_id, theirs.signature, theirs.line()):
            raise EvidenceDiffers(key, f"another manifest is there, with {trouble}")

    def _claim(self, session: Session, rows: int, *, found: backlog.Found) -> ArchiveBatch | None:
        return batches.claim(session, self.policy, found, most=rows, signs=self.signer is not None)

    def _quiet_day(self, retention_class: str) -> int:
        claim = partial(batches.claim_quiet_day, signs=self.signer is not None)
        batch = self.batch_size.write(lambda session, _: claim(session, self.policy, retention_class))
        return 0 if batch is None else self.finish(batch)

    def _next(self, due: backlog.Due) -> int:
        batch = self.claim(due)
        return 0 if batch is None else self.finish(batch)

    def _add(self, done: Round, step: Callable[[], int]) -> None:
        self.batch_size.heartbeat()
        try:
            done.archived += step()
        except EvidenceDiffers as error:
            done.troubles.append(error)
        except DBAPIError as error:
            code = database.sqlstate(error)
            if code is None or (error.connection_invalidated and code not in database.TOO_SLOW):
                raise
            done.troubles.append(error)

    def _read_back(self, key: str, lock: Lock) -> Stored:
        self.batch_size.heartbeat()
        found = self.store.get(key)
        found.must_be_locked(key, lock)
        return found

    def _compare_rows(self, key: str, rows: records.Rows, found: Stored) -> None:
        """Compare rows, not bytes: another version of pyarrow writes other bytes for the same rows."""
        try:
            theirs = records.read(found.body)
        except ValueError as error:
            raise EvidenceDiffers(key, str(error)) from None
        if not comparing.same(theirs, rows):
            raise EvidenceDiffers(key, "its rows differ from those that Postgres holds for this batch")
