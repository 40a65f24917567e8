"""Removes facts from Postgres that the archive holds: one batch at a time, the oldest day first.

The batch is read back from the bucket. Then, page by page, one transaction deletes facts, compares each deleted row
with the row in the object, compares their number and sums with those in the fact `batch.purged` that was written with
the deletion, and commits only if all of them agree. Nothing is deleted first and looked for afterwards.

The function `billing.purge_facts` decides which facts may go. A run may die anywhere, and any number of runs may be at
work at once: each page is there or not there, and a batch that somebody holds is skipped.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from typing import Any

import structlog
from sqlalchemy import Engine, Row, select, text, tuple_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from archive.errors import EvidenceDiffers, StoreRefused
from archive.format import comparing, manifests, records
from archive.purging import read_back
from archive.s3.store import Store
from archive.writing import batches
from billing import database
from billing.audit import SERVICE
from billing.batch_limit import BatchLimit
from billing.states import BatchState
from billing.tables.facts import RETENTION_CLASS, ArchiveBatch

log = structlog.get_logger()

CLASSES = ("attempt", "capture", "invoice")
"""What people did is little, and its reasons are not archived: the class `admin` stays in Postgres."""
PAGE = 500
"""Facts that one transaction deletes, in some 50 ms. With 2,000, and a rest of 1, the slowest commits of captures took
twice as long meanwhile (`python -m bench.purge`)."""
REST = 2.0
"""After each page it rests for so many times as long as the page took."""
LOCKED_FOR = timedelta(days=1)
"""Where the lock of the copy ends sooner, the copy may go at any moment: then the facts stay."""
BATCHES = 500
"""So many rows of `archive_batches` are read at a time."""

Trouble = EvidenceDiffers | DBAPIError
Place = tuple[date, str, int]
"""Day, class and number of a batch: the order in which they are purged."""


@dataclass(frozen=True, slots=True)
class Purged:
    """What left Postgres, or would: `facts` of `batches`. `captured`: the money that they say was taken, in minor units
    by currency. `unprotected`: batches that stay because the lock of their copy ends. `troubles`: what stopped single
    batches; nothing of a page that differs was deleted. `complete`: False if it ended early, and there may be more."""

    batches: int = 0
    facts: int = 0
    captured: Mapping[str, int] = field(default_factory=dict)
    unprotected: int = 0
    troubles: tuple[Trouble, ...] = ()
    complete: bool = True

    def __add__(self, other: "Purged") -> "Purged":
        return Purged(
            self.batches + other.batches,
            self.facts + other.facts,
            dict(sorted((Counter(self.captured) + Counter(other.captured)).items())),
            self.unprotected + other.unprotected,
            self.troubles + other.troubles,
            self.complete and other.complete,
        )


@dataclass(slots=True)
class Purger:
    """Walks over the batches; `keep`: how long ago an operation must have ended, at least 90 days.

    `by`: the actor in the facts `batch.purged`. With `only_count`, every transaction is the same and is rolled back.
    `heartbeat` is called after each page.
    """

    engine: Engine
    store: Store
    keep: timedelta
    by: str = SERVICE
    only_count: bool = False
    heartbeat: Callable[[], None] = lambda: None
    _limit: BatchLimit = field(default_factory=lambda: BatchLimit(PAGE))
    _after: Place = (date.min, "", 0)
    _found: list[ArchiveBatch] = field(default_factory=list)
    _unprotected: int = 0

    def run(
        self,
        *,
        most: float = float("inf"),
        within_s: float = float("inf"),
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> Purged:
        """One walk over all batches. It begins no batch after `most` facts, after `within_s` seconds, or when it is
        asked to stop. Raises StoreAway, and Postgres's error if the connection is lost."""
        purged, began = Purged(), time.monotonic()
        while not (stop_requested() or purged.facts >= most or time.monotonic() - began > within_s):
            step = self.next()
            if step is None:
                return purged
            purged += step
        return purged + Purged(complete=False)

    def next(self) -> Purged | None:
        """Purge the next batch; None at the end of a walk, and the call after that begins again. Raises as `run`."""
        if not self._found:
            with database.transaction(self.engine) as session:
                self._found = self._batches(session)
        if not self._found:
            if self._unprotected:
                log.warning("batches.unprotected", batches=self._unprotected)
            self._after, self._unprotected = (date.min, "", 0), 0
            return None
        batch = self._found.pop(0)
        self._after = (batch.event_date, batch.retention_class, batch.number)
        try:
            return self._batch(batch)
        except EvidenceDiffers as error:
            return Purged(troubles=(error,))
        except StoreRefused as error:
            # Whoever may not read the copy cannot compare it.
            return Purged(troubles=(EvidenceDiffers(manifests.object_key(batch), str(error)),))
        except DBAPIError as error:
            code = database.sqlstate(error)
            if code is None or (error.connection_invalidated and code not in database.TOO_SLOW):
                raise
            return Purged(troubles=(error,))

    def _batches(self, session: Session) -> list[ArchiveBatch]:
        """The next ones that are old enough and have facts in Postgres. Whether those may go is asked for each."""
        last_day = (database.now(session) - self.keep).astimezone(UTC).date()
        place = (ArchiveBatch.event_date, ArchiveBatch.retention_class, ArchiveBatch.number)
        query = select(ArchiveBatch).where(
            ArchiveBatch.state == BatchState.ARCHIVED,
            ArchiveBatch.purged_rows < ArchiveBatch.rows,
            ArchiveBatch.retention_class.in_(CLASSES),
            ArchiveBatch.event_date <= last_day,
            tuple_(*place) > self._after,
        )
        return list(session.scalars(query.order_by(*place).limit(BATCHES)))

    def _batch(self, batch: ArchiveBatch) -> Purged:
        with database.transaction(self.engine) as session:
            any_may_go = self._delete(session, batch, batch.first_fact - 1, most=1)
            session.rollback()
        if not any_may_go:
            return Purged()
        with database.transaction(self.engine) as session:
            now, accounted = database.now(session), session.scalar(_ACCOUNTED, _named(batch))
        if batch.locked_until < now + LOCKED_FOR:
            self._unprotected += 1
            return Purged(unprotected=1)
        if accounted != batch.rows:
            raise EvidenceDiffers(
                batches.name(batch), f"of its {batch.rows} facts, {accounted} are in Postgres or were purged"
            )
        archived = read_back.rows_of(self.store, batch)
        purged, after = Purged(), batch.first_fact - 1
        while page := self._page(batch, archived, after):
            purged += page.purged
            after = page.last
        if purged.facts:
            log.info(
                "batch.purged",
                batch=batches.name(batch),
                rows=purged.facts,
                captured=dict(purged.captured),
                dry_run=self.only_count,
            )
        return purged + Purged(batches=1) if purged.facts else purged

    def _page(self, batch: ArchiveBatch, archived: records.Rows, after: int) -> "_Page | None":
        """None if no fact with a greater id may go, or somebody else holds the batch."""
        while True:
            began = time.monotonic()
            try:
                with database.transaction(self.engine) as session:
                    facts = self._delete(session, batch, after, most=self._limit.rows)
                    captured = self._compare(session, batch, facts, archived) if facts else {}
                    if self.only_count:
                        session.rollback()
            except DBAPIError as error:
                if database.sqlstate(error) not in database.TOO_SLOW or self._limit.rows == 1:
                    raise
                self._limit.halve()
                continue
            self._limit.fit()
            self.heartbeat()
            if not facts:
                return None
            time.sleep(REST * (time.monotonic() - began))
            return _Page(Purged(facts=len(facts), captured=captured), facts[-1].id)

    def _delete(self, session: Session, batch: ArchiveBatch, after: int, *, most: int) -> Sequence[Row[Any]]:
        values = {"keep": self.keep, "after": after, "most": most, "by": self.by, **_named(batch)}
        return session.execute(_DELETE, values).all()

    def _compare(
        self, session: Session, batch: ArchiveBatch, facts: Sequence[Row[Any]], archived: records.Rows
    ) -> dict[str, int]:
        """The money that these facts say was taken. Raises EvidenceDiffers, and so undoes their deletion, unless each
        is the same as its row in the object, and the fact about the deletion has the same number and sums."""
        key = manifests.object_key(batch)
        for fact in facts:
            if fact.trouble is not None:
                raise EvidenceDiffers(key, f"it lacks the payload of fact {fact.id}, which could not be archived")
            if not batch.first_seq <= fact.archive_seq <= batch.last_seq:
                raise EvidenceDiffers(key, f"Postgres has fact {fact.id} in it, under another number")
        ours = records.table(facts)
        theirs = archived.take([fact.archive_seq - batch.first_seq for fact in facts])
        if not comparing.same(theirs, ours):
            differing = (n for n in range(len(facts)) if not comparing.same(theirs.slice(n, 1), ours.slice(n, 1)))
            raise EvidenceDiffers(key, f"its row of fact {facts[next(differing)].id} differs from the one in Postgres")
        captured = records.captured(theirs)
        written: dict[str, Any] = session.execute(_WRITTEN, _named(batch)).scalar_one()
        if (written["count"], written["captured"]) != (len(facts), captured):
            raise EvidenceDiffers(
                key, f"{len(facts)} of its facts have captured {captured}, and Postgres deleted {written}"
            )
        return captured


@dataclass(frozen=True, slots=True)
class _Page:
    purged: Purged
    last: int


def _named(batch: ArchiveBatch) -> dict[str, Any]:
    return {"retention_class": batch.retention_class, "number": batch.number}


_DELETE = text(
    batches.as_archived("billing.purge_facts(:retention_class, :number, CAST(:keep AS interval), :after, :most, :by)")
)
# In one statement, so that a purge meanwhile is seen in both or in neither.
_ACCOUNTED = text(
    f"""
    SELECT b.purged_rows + (SELECT count(*) FROM billing.facts
                             WHERE id BETWEEN b.first_fact AND b.last_fact AND batch_no = b.number
                               AND {RETENTION_CLASS} = b.class)
      FROM billing.archive_batches AS b WHERE b.class = :retention_class AND b.number = :number
    """
)
_WRITTEN = text(
    "SELECT payload FROM billing.facts WHERE entity_type = 'batch'"
    " AND entity_id = 'batch_' || :retention_class || '_' || :number ORDER BY entity_version DESC LIMIT 1"
)
