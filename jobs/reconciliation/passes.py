"""One pass of reconciliation: for each account, Stripe's lists are read on, and what has come is compared; then the
archive.

A pass may die at any line, run twice, or end because its time is over: pages, payouts and compared hours are each noted
in the transaction that stores them, so the next pass goes on from there. An account that cannot be read stops nobody
else's.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import database, statements
from billing.accounts import accounts
from billing.database import Transact
from billing.facts import OWN
from billing.gateway import Gateway
from billing.tables.schema import Installation
from jobs.reconciliation.archived import Archive, ArchiveComparison, ArchiveSide
from jobs.reconciliation.booking import Booking
from jobs.reconciliation.comparing import Comparison, Counted
from jobs.reconciliation.lists import LEDGER, LISTS, Listed
from jobs.reconciliation.mirror import Mirror, NotRead

SQL = statements.beside(__file__)

SETTLE = timedelta(hours=2)
"""What is younger is not compared: an hour in which Stripe may still make the entry of an asynchronous capture, and an
hour for looks, which come at least once in that time."""
SETTLE_SHORT = timedelta(seconds=10)
"""With BILLING_TIMING=short, for the demo and tests: the stand-in makes such an entry within five seconds."""
BACK = timedelta(days=30)
"""The first pass begins with the installation, and at most so long ago: `--since` reads what is older."""
BEFORE = timedelta(hours=1)
"""The installation's database and Stripe have different clocks."""


@dataclass(frozen=True, slots=True)
class Unread:
    """An account that could not be read to the end, and why."""

    account: str
    why: str


@dataclass(slots=True)
class Report:
    """What a pass did, and what is open after it.

    `compared_until`: everything before is compared, for every account; None if no pass ever read anything. `open`: by
    class, how many differences. `in_doubt`: operations with a call that is in flight, in doubt or undecided, which are
    not compared. `booked`: facts about money that went to the bank. `archive`: the third side. `complete`: False if its
    time was over before the end.
    """

    pages: int = 0
    counted: Counted = field(default_factory=Counted)
    compared_until: datetime | None = None
    in_doubt: int = 0
    open: dict[str, int] = field(default_factory=dict)
    unread: list[Unread] = field(default_factory=list)
    booked: int = 0
    archive: ArchiveSide = field(default_factory=ArchiveSide)
    complete: bool = True

    def as_result(self) -> dict[str, Any]:
        """As the fact of a scheduled run keeps it."""
        return {
            "pages": self.pages,
            **asdict(self.counted),
            "booked": self.booked,
            "compared_until": self.compared_until and self.compared_until.isoformat(),
            "in_doubt": self.in_doubt,
            "open": self.open,
            "unread": [asdict(each) for each in self.unread[:20]],
            "archive": {
                "facts": self.archive.facts,
                "compared_until": self.archive.compared_until and self.archive.compared_until.isoformat(),
                "why": self.archive.why,
            },
            "complete": self.complete,
        }


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """`gateway` only reads. `settle`: the settle window. `tell` gets a line of progress now and then. `archive`: None
    where none is configured."""

    gateway: Gateway
    transact: Transact
    settle: timedelta = SETTLE
    tell: Callable[[str], object] = lambda _: None
    archive: Archive | None = None

    def run(
        self, left_s: Callable[[], float], *, since: datetime | None = None, until: datetime | None = None
    ) -> Report:
        """Read and compare, until `until`, which must not lie in the future, or until now. `since`: from then on, what
        was read and compared before is read and compared again."""
        report = Report()
        now, begin, every = self.transact(_standing)
        end = until or now
        if since is not None:
            for listed in LISTS:
                self.transact(partial(_begin_again, listed=listed, since=listed.reaches(since, now)))
        for account in every:
            mirror = Mirror(self.gateway, self.transact, account)
            try:
                for listed in LISTS:
                    first = listed.reaches(since or begin, now)
                    report.complete &= self._one(mirror, listed, first, end, left_s, report)
            except NotRead as error:
                report.unread.append(Unread(error.account, error.why))
            report.pages += mirror.pages
        if self.archive is not None:
            third = ArchiveComparison(self.transact, self.archive, [each or OWN for each in every])
            third.compare(since or begin, end - self.settle, left_s, again=since is not None)
            _add(report, third)
        self.transact(lambda session: _stand(session, report))
        return report

    def _one(
        self,
        mirror: Mirror,
        listed: Listed,
        begin: datetime,
        until: datetime,
        left_s: Callable[[], float],
        report: Report,
    ) -> bool:
        """Window by window: read it, then compare what is settled of it. False: the time was over. Raises NotRead."""
        while True:
            cursor = mirror.cursor(listed, begin)
            if cursor.covered_until < until or cursor.window_until is not None:
                if not mirror.read_window(listed, cursor, until, left_s):
                    return False
                cursor = mirror.cursor(listed, begin)
            if listed is LEDGER and not self._follow_the_money(mirror, cursor.covered_until, left_s, report):
                return False
            self.tell(f"{mirror.name}: {listed.name} is read until {cursor.covered_until:%Y-%m-%d %H:%M} UTC")
            comparison = Comparison(self.transact, mirror.name, listed, cursor.covered_from, report.counted)
            settled = cursor.covered_until - self.settle
            if not comparison.compare(cursor.compared_until, settled, left_s):
                return False
            if cursor.covered_until >= until:
                return True

    def _follow_the_money(self, mirror: Mirror, until: datetime, left_s: Callable[[], float], report: Report) -> bool:
        """Read what went to the bank, and write the facts about it. False: the time was over. Raises NotRead."""
        if not mirror.read_payouts(left_s):
            return False
        booking = Booking(self.transact, mirror.name)
        in_time = booking.tell(until, left_s)
        report.booked += booking.booked
        return in_time


def _standing(session: Session) -> tuple[datetime, datetime, list[str | None]]:
    """Now; when the first pass begins; every account that something was asked for."""
    now = database.now(session)
    installed = session.scalars(select(Installation.created_at)).one()
    return now, max(installed - BEFORE, now - BACK), accounts(session)


def _begin_again(session: Session, listed: Listed, since: datetime) -> None:
    statements.run(session, SQL["begin_again"], list=listed.name, since=since)


def _add(report: Report, third: ArchiveComparison) -> None:
    report.archive = third.side
    report.counted.found += third.found
    report.counted.gone += third.gone
    if third.unread is not None:
        report.unread.append(Unread("archive", third.unread))


def _stand(session: Session, report: Report) -> None:
    row = statements.run(session, SQL["stand"]).one()
    report.compared_until, report.in_doubt = row.compared_until, row.in_doubt
    report.open = {each.name: each.differences for each in statements.run(session, SQL["open"])}
