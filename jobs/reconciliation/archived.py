"""The third side: what the archive says was captured and given back, compared with our rows and Stripe's records.

The archive is read window by window, from a cursor beside those of Stripe's lists, and never further than it was
written. Each fact about money in it must agree with our row; a row that is lost is compared with what Stripe shows. And
what ended here in that time must be in it: known from the facts in Postgres and, where those have left, from Stripe's
ledger. What differs already is looked for by its id, however old it is.

This room knows nothing of S3: `Archive` reads it (`jobs.process.reading_archive`).
"""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Row
from sqlalchemy.orm import Session

from billing import ids, statements
from billing.database import Transact
from jobs.growth import tables
from jobs.reconciliation import findings

SQL = statements.beside(__file__)

MONEY = ("capture.captured", "refund.succeeded")
"""The topics that are compared: those by which money moved. What else is archived, `billing archive verify` and the
closing of a month compare, batch by batch."""
WINDOW = timedelta(days=1)
MARGIN = timedelta(minutes=5)
"""A row and its fact are written together, and have moments of two clock readings."""
LEDGER_LAG = timedelta(hours=2)
"""So long before a row ended here may its money have moved at Stripe."""
BATCH = 250
FACTS = 1000
RECHECKED = 100
"""So many of those that are open are looked for again in one pass."""


class Told(NamedTuple):
    """One fact of the archive. Amount in minor units; None in a fact of an older version."""

    id: str
    topic: str
    minor: int | None
    currency: str | None
    at: datetime


class Archive(Protocol):
    """Reads facts with these topics. Raises ArchiveNotRead."""

    def within(self, topics: Sequence[str], since: datetime, until: datetime) -> list[Told]: ...

    def of(self, topics: Sequence[str], operations: Sequence[str], since: datetime) -> list[Told]:
        """Those of these operations, from `since` on."""


class ArchiveNotRead(Exception):
    """The archive could not be read. The next pass goes on where this one stopped."""

    def __init__(self, why: str, *, too_much: bool = False) -> None:
        super().__init__(why)
        self.why, self.too_much = why, too_much


@dataclass(slots=True)
class ArchiveSide:
    """What a pass says of it. `facts`: so many were compared. `compared_until`: everything before is compared; None
    where it was not read. `why`: why it was not compared to its end; None if it was."""

    facts: int = 0
    compared_until: datetime | None = None
    why: str | None = "no archive is configured here"


@dataclass(slots=True)
class ArchiveComparison:
    transact: Transact
    archive: Archive
    accounts: Sequence[str]
    side: ArchiveSide = field(default_factory=lambda: ArchiveSide(why=None))
    found: int = 0
    gone: int = 0
    unread: str | None = None

    def compare(self, begin: datetime, until: datetime, left_s: Callable[[], float], *, again: bool) -> None:
        """From the cursor on, until then or as far as is archived; `again`: from `begin` on. `begin` is also where the
        first pass begins."""
        here = self.transact(partial(_begin, begin=begin, again=again))
        archived = self.transact(lambda session: statements.run(session, SQL["archived_until"]).scalar_one())
        self.side.compared_until = here
        try:
            self._look_again()
            until = min(until, archived - MARGIN) if archived is not None else here
            length = WINDOW
            while here < until:
                if left_s() <= 0:
                    self.side.why = "its time was over"
                    return
                end = min(until, here + length)
                try:
                    self._window(here, end)
                except ArchiveNotRead as error:
                    if not error.too_much or length <= 2 * MARGIN:
                        raise
                    length /= 4
                    continue
                self.transact(partial(_note, until=end))
                self.side.compared_until = here = end
        except ArchiveNotRead as error:
            self.unread = self.side.why = error.why

    def _look_again(self) -> None:
        """Those that are open, by their ids: what is not found any more ends."""
        values = {"most": RECHECKED}
        subjects = list(self.transact(lambda s: statements.run(s, SQL["open_subjects"], **values).scalars()))
        if not subjects:
            return
        made = [at for at in map(ids.made_at, subjects) if at is not None]
        told = self.archive.of(MONEY, subjects, min(made) - WINDOW) if made else []
        self._compare(told, {each.id for each in told}, subjects)

    def _window(self, begin: datetime, end: datetime) -> None:
        told = self.archive.within(MONEY, begin - MARGIN, end + MARGIN)
        inside = [each for each in told if begin <= each.at < end]
        self._compare(inside, {each.id for each in told}, list(self._ended(begin, end)))
        self.side.facts += len(inside)

    def _ended(self, begin: datetime, end: datetime) -> Iterator[str]:
        """What ended here in this time."""
        yield from self.transact(partial(self._moved, begin=begin, end=end))
        after, last = self.transact(
            lambda session: (tables.first_fact(session, begin), tables.first_fact(session, end))
        )
        while page := self.transact(partial(_facts, after=after, last=last)):
            yield from (row.entity_id for row in page if row.topic in MONEY)
            after = page[-1].id + 1

    def _moved(self, session: Session, begin: datetime, end: datetime) -> list[str]:
        span = {"since": begin, "until": end, "earlier": begin - LEDGER_LAG, "later": end + MARGIN}
        return list(statements.run(session, SQL["moved"], accounts=list(self.accounts), **span).scalars())

    def _compare(self, told: Sequence[Told], known: Collection[str], ended: Sequence[str]) -> None:
        """`known`: what the archive has, also beside these facts. `ended`: what it must have."""
        for begin in range(0, len(told), BATCH):
            self.transact(partial(self._says_otherwise, told=told[begin : begin + BATCH]))
        for begin in range(0, len(ended), BATCH):
            self.transact(partial(self._is_missing, ended=ended[begin : begin + BATCH], known=known))

    def _says_otherwise(self, session: Session, told: Sequence[Told]) -> None:
        facts = json.dumps([each._asdict() for each in told], default=datetime.isoformat)
        rows = statements.run(session, SQL["archive_differs"], told=facts).all()
        self._write(session, "archive_differs", [each.id for each in told], rows)

    def _is_missing(self, session: Session, ended: Sequence[str], known: Collection[str]) -> None:
        missing = [each for each in ended if each not in known]
        rows = statements.run(session, SQL["missing_in_archive"], subjects=missing).all()
        self._write(session, "missing_in_archive", ended, rows)

    def _write(self, session: Session, name: str, compared: Sequence[str], rows: Sequence[Row[Any]]) -> None:
        self.found += sum(findings.write(session, row.account, name, row) for row in rows)
        self.gone += findings.end(session, [name], compared, [(name, row.subject) for row in rows])


def _begin(session: Session, begin: datetime, again: bool) -> datetime:
    statements.run(session, SQL["begin"], begin=begin)
    if again:
        statements.run(session, SQL["begin_again"], since=begin)
    until: datetime = statements.run(session, SQL["cursor"]).scalar_one()
    return until


def _note(session: Session, until: datetime) -> None:
    statements.run(session, SQL["compared"], until=until)


def _facts(session: Session, after: int, last: int) -> Sequence[Any]:
    return statements.run(session, SQL["facts"], after=after, last=last, most=FACTS).all()
