"""Legal holds: no end of a lock and no rule of expiry removes what a case needs, until somebody releases it.

Which object a hold needs is known in Postgres; S3 knows only whether an object is held. Two holds may need the same
object, and be placed and released at the same time. So what is needed is written first, and whoever lifts a hold in S3
looks again afterwards, and puts it back if another hold needs the object by then.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, func, select, text, tuple_, update
from sqlalchemy.orm import Session

from archive.errors import BadHold
from archive.format import manifests
from archive.keeping.search import Criteria
from archive.s3.configuration import set_hold
from archive.s3.store import Store
from archive.verifying.agreement import PAGE, held
from archive.verifying.versions import PAUSES_S, patiently
from billing.database import Transact
from billing.tables.facts import ArchiveBatch
from billing.tables.holds import ArchiveHold, HeldBatch

REQUESTS = 8
MOST_LISTED = 1000

Batch = tuple[str, int]
"""Class and number."""


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold as it is listed: `objects` with so many `facts`."""

    name: str
    criteria: str
    placed_by: str
    reason: str
    placed_at: datetime
    released_at: datetime | None
    objects: int
    facts: int


def listed(session: Session, name: str | None = None) -> list[Hold]:
    """The holds in force first, then the released ones; the newest first."""
    counts = (func.count(ArchiveBatch.number), func.coalesce(func.sum(ArchiveBatch.rows), 0))
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
            *(objects, int(facts)),
        )
        for hold, objects, facts in session.execute(query)
    ]


def check_name(session: Session, name: str, criteria: Criteria) -> None:
    """Raises BadHold if a hold of this name asks for something else, or was released."""
    hold = session.get(ArchiveHold, name)
    if hold is not None and hold.released_at is not None:
        raise BadHold(f"{name} was released on {hold.released_at:%Y-%m-%d}; place a hold with another name")
    if hold is not None and hold.criteria != criteria.as_json():
        raise BadHold(f"{name} holds {hold.criteria}; place a hold with another name for something else")


def remember(
    session: Session, name: str, criteria: Criteria, batches: Sequence[Batch], *, placed_by: str, reason: str
) -> None:
    """Write down what this hold needs, before S3 is asked. Placed again, it needs what was found since, too."""
    check_name(session, name, criteria)
    found = {"hold": name, "classes": [each[0] for each in batches], "numbers": [each[1] for each in batches]}
    if unknown := session.execute(_UNKNOWN, found).first():
        where = f"batch {unknown.number} of {unknown.name}"
        raise BadHold(f"the bucket has {where}, and Postgres does not; run `billing archive verify`")
    session.execute(
        _REMEMBER_HOLD,
        {"name": name, "criteria": criteria.as_json(), "placed_by": placed_by, "reason": reason},
    )
    session.execute(_REMEMBER_BATCHES, found)


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

    def put(self, batches: Sequence[ArchiveBatch], *, on: bool) -> None:
        list(self._pool.map(lambda batch: self._put(batch, on), batches))

    def _put(self, batch: ArchiveBatch, on: bool) -> None:
        key, version = manifests.object_key(batch), batch.object_version or ""
        patiently(lambda: set_hold(self._store, key, version, on=on), self._pauses_s)


def _pages(ask: Transact, name: str) -> Iterator[list[ArchiveBatch]]:
    after = ("", 0)
    while page := ask(lambda session, after=after: _page(session, name, after)):  # type: ignore[misc]
        after = (page[-1].retention_class, page[-1].number)
        yield page


def _page(session: Session, name: str, after: Batch) -> list[ArchiveBatch]:
    place = tuple_(HeldBatch.retention_class, HeldBatch.number)
    query = select(ArchiveBatch).join(HeldBatch, _OF_A_HOLD).where(HeldBatch.hold == name, place > after)
    return list(session.scalars(query.order_by(HeldBatch.retention_class, HeldBatch.number).limit(PAGE)))


def _split(ask: Transact, name: str, page: list[ArchiveBatch]) -> tuple[list[ArchiveBatch], list[ArchiveBatch]]:
    """Those that no other hold needs now, and those that one does."""
    needed = ask(lambda session: held(session, [_named(batch) for batch in page], but=name))
    free = [batch for batch in page if _named(batch) not in needed]
    return free, [batch for batch in page if _named(batch) in needed]


def _named(batch: ArchiveBatch) -> Batch:
    return batch.retention_class, batch.number


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
