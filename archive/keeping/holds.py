"""Legal holds: no end of a lock and no rule of expiry removes what a case needs, until somebody releases it.

Which object a hold needs is known in Postgres; S3 knows only whether an object is held. Two holds may need the same
object, and be placed and released at the same time. So what is needed is written first, and whoever lifts a hold in S3
looks again afterwards, and puts it back if another hold needs the object by then.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, select, text, tuple_, update
from sqlalchemy.orm import Session

from archive.documents import stored
from archive.errors import BadHold
from archive.format import manifests
from archive.keeping.search import Criteria
from archive.s3.configuration import set_hold
from archive.s3.store import Store
from archive.verifying.agreement import PAGE, held, held_documents
from archive.verifying.versions import PAUSES_S, patiently
from billing.database import Transact
from billing.tables.documents import Document
from billing.tables.facts import ArchiveBatch
from billing.tables.holds import ArchiveHold, HeldBatch, HeldDocument

REQUESTS = 8
MOST_LISTED = 1000

Batch = tuple[str, int]
"""Class and number."""


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold as it is listed: `objects` with so many `facts`, and so many `documents`."""

    name: str
    criteria: str
    placed_by: str
    reason: str
    placed_at: datetime
    released_at: datetime | None
    objects: int
    facts: int
    documents: int


@dataclass(frozen=True, slots=True)
class _Object:
    """A version in the bucket that a hold needs. `of`: its batch, or the id of its document."""

    of: Batch | str
    key: str
    version: str


def listed(session: Session, name: str | None = None) -> list[Hold]:
    """The holds in force first, then the released ones; the newest first."""
    documents = select(func.count()).where(HeldDocument.hold == ArchiveHold.name).scalar_subquery()
    counts = (func.count(ArchiveBatch.number), func.coalesce(func.sum(ArchiveBatch.rows), 0), documents)
    query = (
        select(ArchiveHold, *counts)
        .outerjoin(HeldBatch, HeldBatch.hold == ArchiveHold.name)
        .outerjoin(ArchiveBatch, _OF_A_HOLD)
        .group_by(ArchiveHold.name)
        .order_by(ArchiveHold.released_at.isnot(None), ArchiveHold.placed_at.desc())
        .limit(MOST_LISTED)
    )
    if name is not None:
        query = query.where(ArchiveHold.name == name)
    return [
        Hold(
            *(hold.name, hold.criteria, hold.placed_by, hold.reason, hold.placed_at, hold.released_at),
            *(objects, int(facts), held),
        )
        for hold, objects, facts, held in session.execute(query)
    ]


def check_name(session: Session, name: str, criteria: Criteria) -> None:
    """Raises BadHold if a hold of this name asks for something else, or was released."""
    hold = session.get(ArchiveHold, name)
    if hold is not None and hold.released_at is not None:
        raise BadHold(f"{name} was released on {hold.released_at:%Y-%m-%d}; place a hold with another name")
    if hold is not None and hold.criteria != criteria.as_json():
        raise BadHold(f"{name} holds {hold.criteria}; place a hold with another name for something else")


def remember(
    session: Session,
    name: str,
    criteria: Criteria,
    batches: Sequence[Batch],
    documents: Sequence[str] = (),
    *,
    placed_by: str,
    reason: str,
) -> None:
    """Write down what this hold needs, before S3 is asked. Placed again, it needs what was found since, too."""
    check_name(session, name, criteria)
    found = {"hold": name, "classes": [each[0] for each in batches], "numbers": [each[1] for each in batches]}
    if unknown := session.execute(_UNKNOWN, found).first():
        where = f"batch {unknown.number} of {unknown.name}"
        raise BadHold(f"the bucket has {where}, and Postgres does not; run `billing archive verify`")
    kept = {"hold": name, "documents": list(documents)}
    if unknown := session.execute(_UNKNOWN_DOCUMENT, kept).first():
        raise BadHold(f"{unknown.id} is archived as stored, and is not so in Postgres; run `billing archive verify`")
    session.execute(
        _REMEMBER_HOLD,
        {"name": name, "criteria": criteria.as_json(), "placed_by": placed_by, "reason": reason},
    )
    session.execute(_REMEMBER_BATCHES, found)
    session.execute(_REMEMBER_DOCUMENTS, kept)


def hold_all(
    store: Store,
    ask: Transact,
    name: str,
    progress: Callable[[str], None] = lambda _: None,
    pauses_s: Sequence[float] = PAUSES_S,
) -> int:
    """Set the hold in S3 on every object that this hold needs. Returns how many. Safe to repeat."""
    held = 0
    with _Switch(store, pauses_s) as switch:
        for page in _pages(ask, name):
            switch.put(page, on=True)
            held += len(page)
            progress(f"{held} objects held")
    return held


def release(
    store: Store,
    ask: Transact,
    name: str,
    progress: Callable[[str], None] = lambda _: None,
    pauses_s: Sequence[float] = PAUSES_S,
) -> int:
    """Lift the hold in S3 from every object that no other hold needs. Returns from how many.

    Its row still says that it holds until `mark_released`, so that a release that died is run again. Objects that
    another hold needs are held again: one may have been placed meanwhile, or a release may have died in between.
    """
    lifted = 0
    with _Switch(store, pauses_s) as switch:
        for page in _pages(ask, name):
            free = _split(ask, name, page)[0]
            switch.put(free, on=False)
            switch.put(_split(ask, name, page)[1], on=True)
            lifted += len(free)
            progress(f"{lifted} objects released")
    return lifted


def in_force(session: Session, name: str) -> Hold:
    """Raises BadHold if there is no such hold, or it was released."""
    found = listed(session, name)
    if not found:
        raise BadHold(f"there is no hold {name}; `billing archive hold list` names them")
    if found[0].released_at is not None:
        raise BadHold(f"{name} was released on {found[0].released_at:%Y-%m-%d}")
    return found[0]


def mark_released(session: Session, name: str) -> None:
    mine = (ArchiveHold.name == name, ArchiveHold.released_at.is_(None))
    session.execute(update(ArchiveHold).where(*mine).values(released_at=func.clock_timestamp()))


class _Switch:
    """Sets and lifts holds in S3, some at a time."""

    def __init__(self, store: Store, pauses_s: Sequence[float]) -> None:
        self._store, self._pauses_s = store, pauses_s
        self._pool = ThreadPoolExecutor(REQUESTS, thread_name_prefix="hold")

    def __enter__(self) -> "_Switch":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def put(self, objects: Sequence[_Object], *, on: bool) -> None:
        list(self._pool.map(lambda each: self._put(each, on), objects))

    def _put(self, each: _Object, on: bool) -> None:
        patiently(lambda: set_hold(self._store, each.key, each.version, on=on), self._pauses_s)


def _pages(ask: Transact, name: str) -> Iterator[list[_Object]]:
    pages: tuple[tuple[Callable[..., list[_Object]], Any], ...] = ((_batches, ("", 0)), (_documents, ""))
    for read, first in pages:
        after = first
        while page := ask(lambda session, read=read, after=after: read(session, name, after)):  # type: ignore[misc]
            after = page[-1].of
            yield page


def _batches(session: Session, name: str, after: Batch) -> list[_Object]:
    place = tuple_(HeldBatch.retention_class, HeldBatch.number)
    query = select(ArchiveBatch).join(HeldBatch, _OF_A_HOLD).where(HeldBatch.hold == name, place > after)
    found = session.scalars(query.order_by(HeldBatch.retention_class, HeldBatch.number).limit(PAGE))
    return [
        _Object((each.retention_class, each.number), manifests.object_key(each), each.object_version or "")
        for each in found
    ]


def _documents(session: Session, name: str, after: str) -> list[_Object]:
    query = select(Document).join(HeldDocument, HeldDocument.document_id == Document.id)
    wanted = query.where(HeldDocument.hold == name, HeldDocument.document_id > after)
    found = session.scalars(wanted.order_by(HeldDocument.document_id).limit(PAGE))
    return [_Object(each.id, stored.key(each.kind, each.id), str(each.object_version)) for each in found]


def _split(ask: Transact, name: str, page: list[_Object]) -> tuple[list[_Object], list[_Object]]:
    """Those that no other hold needs now, and those that one does."""
    needed = ask(lambda session: _needed(session, page, but=name))
    return [each for each in page if each.of not in needed], [each for each in page if each.of in needed]


def _needed(session: Session, page: list[_Object], *, but: str) -> set[Batch | str]:
    batches = [each.of for each in page if isinstance(each.of, tuple)]
    documents = [each.of for each in page if isinstance(each.of, str)]
    return {*held(session, batches, but=but), *held_documents(session, documents, but=but)}


_OF_A_HOLD = and_(HeldBatch.retention_class == ArchiveBatch.retention_class, HeldBatch.number == ArchiveBatch.number)
_REMEMBER_HOLD = text(
    "INSERT INTO billing.archive_holds (name, criteria, placed_by, reason)"
    " VALUES (:name, :criteria, :placed_by, :reason) ON CONFLICT (name) DO NOTHING"
)
# By arrays, because a year may have more batches than a statement may have parameters.
_UNKNOWN = text(
    "SELECT f.name, f.number FROM unnest(CAST(:classes AS text[]), CAST(:numbers AS bigint[])) AS f (name, number)"
    " WHERE NOT EXISTS (SELECT FROM billing.archive_batches AS b WHERE b.class = f.name AND b.number = f.number)"
    " LIMIT 1"
)
_REMEMBER_BATCHES = text(
    "INSERT INTO billing.archive_held_batches (hold, class, number)"
    " SELECT :hold, f.name, f.number"
    "  FROM unnest(CAST(:classes AS text[]), CAST(:numbers AS bigint[])) AS f (name, number) ON CONFLICT DO NOTHING"
)
_UNKNOWN_DOCUMENT = text(
    "SELECT f.id FROM unnest(CAST(:documents AS text[])) AS f (id)"
    " WHERE NOT EXISTS (SELECT FROM billing.documents AS d WHERE d.id = f.id"
    " AND d.state = 'stored') LIMIT 1"
)
_REMEMBER_DOCUMENTS = text(
    "INSERT INTO billing.archive_held_documents (hold, document_id)"
    " SELECT :hold, f.id FROM unnest(CAST(:documents AS text[])) AS f (id) ON CONFLICT DO NOTHING"
)
