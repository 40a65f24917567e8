"""Raise the locks of what is archived from GOVERNANCE to COMPLIANCE, which nobody can take back: of objects and their
manifests, and with the class of invoices, of the documents of invoices.

It may die anywhere and run again: a version that has COMPLIANCE already is left alone. Manifests are raised with
their objects, because without them nobody could see that an object is missing.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from archive.documents import stored
from archive.errors import EvidenceDiffers
from archive.format import manifests
from archive.policy.retention import Lock, Mode
from archive.s3.configuration import raise_lock
from archive.s3.store import Store
from archive.verifying.agreement import PAGE, batches_after
from archive.verifying.versions import PAUSES_S, patiently
from billing import database
from billing.database import Transact
from billing.states import BatchState, DocumentState
from billing.tables.documents import Document
from billing.tables.facts import ArchiveBatch

REQUESTS = 8


class Became(StrEnum):
    RAISED = "raised"
    WAS_COMPLIANCE = "was_compliance"
    ENDED = "ended"
    """Its lock had ended: it may go at any time, and stays so."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is archived of some classes, and until when nobody could delete the last of it."""

    batches: int
    facts: int
    documents: int
    until: datetime | None


def extent(session: Session, classes: Sequence[str]) -> Extent:
    ends = func.max(func.greatest(ArchiveBatch.locked_until, ArchiveBatch.manifest_locked_until))
    query = select(func.count(), func.coalesce(func.sum(ArchiveBatch.rows), 0), ends).where(
        ArchiveBatch.retention_class.in_(classes), ArchiveBatch.state == BatchState.ARCHIVED
    )
    batches, facts, until = session.execute(query).one()
    documents = None
    if stored.RETENTION_CLASS in classes:
        count = select(func.count(), func.max(Document.locked_until)).where(Document.state == DocumentState.STORED)
        documents, last = session.execute(count).one()
        until = max((each for each in (until, last) if each is not None), default=None)
    return Extent(batches, int(facts), documents or 0, until)


def raise_locks(
    store: Store,
    ask: Transact,
    classes: Sequence[str],
    progress: Callable[[str], None] = lambda _: None,
    pauses_s: Sequence[float] = PAUSES_S,
) -> dict[Became, int]:
    """Raise every object, manifest and document of these classes. Returns how many versions became what.

    Raises EvidenceDiffers at what is not in the bucket as Postgres says; StoreAway; and StoreRefused where this login
    may not bypass a lock.
    """
    now = ask(database.now)
    raiser = _Raiser(store, now, pauses_s)
    counts = dict.fromkeys(Became, 0)
    with ThreadPoolExecutor(REQUESTS, thread_name_prefix="raise") as pool:
        for name in classes:
            number = 0
            while page := ask(lambda session, name=name, after=number: batches_after(session, name, after)):  # type: ignore[misc]
                number = page[-1].number
                archived = [batch for batch in page if batch.state == BatchState.ARCHIVED]
                for became in pool.map(lambda batch: list(raiser.batch(batch)), archived):
                    for each in became:
                        counts[each] += 1
                progress(f"{name}: {number} batches, {counts[Became.RAISED]} locks raised")
        after = ""
        while documents := ask(lambda session, after=after: _documents(session, classes, after)):  # type: ignore[misc]
            after = documents[-1].id
            for one in pool.map(raiser.document, documents):
                counts[one] += 1
            progress(f"documents: {counts[Became.RAISED]} locks raised in all")
    return counts


def _documents(session: Session, classes: Sequence[str], after: str) -> Sequence[Document]:
    if stored.RETENTION_CLASS not in classes:
        return ()
    found = select(Document).where(Document.state == DocumentState.STORED, Document.id > after)
    return session.scalars(found.order_by(Document.id).limit(PAGE)).all()


@dataclass(frozen=True, slots=True)
class _Raiser:
    store: Store
    now: datetime
    pauses_s: Sequence[float]

    def batch(self, batch: ArchiveBatch) -> Iterator[Became]:
        key = manifests.key(batch.retention_class, batch.number)
        manifest = patiently(lambda: self.store.get(key), self.pauses_s)
        if manifests.digest(manifest.body) != batch.manifest_sha256:
            raise EvidenceDiffers(key, "other bytes than Postgres says; run `billing archive verify`")
        if batch.object_version is not None:
            yield self._version(manifests.object_key(batch), batch.object_version, batch.locked_until)
        yield self._version(key, manifest.version, batch.manifest_locked_until)

    def document(self, row: Document) -> Became:
        assert row.locked_until is not None, "the table's constraint"
        return self._version(stored.key(row.kind, row.id), str(row.object_version), row.locked_until)

    def _version(self, key: str, version: str, until: datetime) -> Became:
        if until <= self.now:
            return Became.ENDED
        has = patiently(lambda: self.store.lock(key, version), self.pauses_s)
        if has is not None and has.mode == Mode.COMPLIANCE and has.until >= until:
            return Became.WAS_COMPLIANCE
        lock = Lock(Mode.COMPLIANCE, max(until, has.until) if has else until)
        wanted = Lock(lock.mode, lock.until.astimezone(UTC))
        patiently(lambda: raise_lock(self.store, key, version, wanted), self.pauses_s)
        return Became.RAISED
