"""Our rows and the mirror are compared, an hour at a time, and each difference is written as a row, or ends by itself.

What is compared in an hour are *subjects*, ids of ours: of every operation about which a fact was written in it, of
everything that Stripe dates into it, and of every difference that is open. So an operation is compared after each of
its changes, a difference that disappears is found to be gone, and what Stripe shows late is found when it comes.

Normal lag is no difference. Nothing is compared before it is as old as the settle window: neither a fact, nor what
Stripe dates. What has changed since is left for the hour of that change. And an operation with a call that is in
flight, in doubt or undecided is left alone until it is decided, which is a fact: it is named as such.

Where Stripe shows the effect of an operation that is not over here, that is noticed (`billing.observing`): a worker
looks at Stripe, and settles it by the protocol.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from billing import observing, row_io, statements
from billing.database import Transact
from billing.operations import OPERATIONS, by_id
from jobs.growth import tables
from jobs.reconciliation import classes, findings
from jobs.reconciliation.classes import CLASSES, DifferenceClass
from jobs.reconciliation.lists import INVOICE_PAYMENTS, LEDGER, Listed

SQL = statements.beside(__file__)

SLICE = timedelta(hours=1)
"""So much is compared before how far it came is noted: a pass that dies repeats no more."""
BATCH = 250
"""Subjects of one transaction. A statement takes some milliseconds for them, along indexes."""
FACTS = 1000
"""Facts of one page; a capture has four or five, one after the other."""

BEHIND = "state"
"""The class of what Stripe shows to be over, and is not over here."""

COMPARED = [each.name for each in CLASSES]


@dataclass(slots=True)
class Counted:
    """`compared`: subjects. `found`: differences that were not open before. `gone`: those that are over. `noticed`:
    those that are not over here and whose effect Stripe shows; a worker looks at them now."""

    compared: int = 0
    found: int = 0
    gone: int = 0
    noticed: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """One account and list. `covered_from`: Stripe's records were read from then on; what was asked for before may have
    had its effect before."""

    transact: Transact
    account: str
    listed: Listed
    covered_from: datetime
    counted: Counted = field(default_factory=Counted)

    def compare(self, since: datetime, until: datetime, left_s: Callable[[], float]) -> bool:
        """Compare what belongs into this time. False: the time was over; whatever was compared is written."""
        begin = since
        while begin < until:
            end = min(until, begin + SLICE)
            coming = self._subjects(begin, end)
            while subjects := list(islice(coming, BATCH)):
                if left_s() <= 0:
                    return False
                self.transact(partial(self._compare, subjects=subjects, until=until))
            self.transact(partial(self._note, until=end))
            begin = end
        return True

    def _note(self, session: Session, until: datetime) -> None:
        values = {"account": self.account, "list": self.listed.name, "until": until}
        statements.run(session, SQL["compared"], **values)

    def _subjects(self, begin: datetime, end: datetime) -> Iterator[str]:
        shown = self.transact(partial(self._shown_or_open, begin=begin, end=end))
        yield from shown
        if not self.listed.whole:
            return
        after, last = self.transact(
            lambda session: (tables.first_fact(session, begin), tables.first_fact(session, end))
        )
        while page := self.transact(partial(self._changed, after=after, last=last)):
            yield from {row.subject for row in page} - shown - {None}
            after = page[-1].id + 1

    def _shown_or_open(self, session: Session, begin: datetime, end: datetime) -> set[str]:
        values = {
            "account": self.account,
            "since": begin,
            "until": end,
            "own": [*(OPERATIONS[kind].prefix for kind in self.listed.kinds), *self.listed.of_nobody],
            "known": [operation.prefix for operation in OPERATIONS.values()],
            "others": self.listed is LEDGER,
            "whole": self.listed.whole,
            "payments": self.listed is INVOICE_PAYMENTS,
        }
        return set(statements.run(session, SQL["shown_or_open"], **values).scalars())

    def _changed(self, session: Session, after: int, last: int) -> Sequence[Row[Any]]:
        kinds = list(self.listed.kinds)
        values = {"account": self.account, "after": after, "last": last, "most": FACTS, "kinds": kinds}
        return statements.run(session, SQL["changed"], **values).all()

    def _compare(self, session: Session, subjects: list[str], until: datetime) -> None:
        values = {"subjects": subjects, "until": until}
        settled = list(statements.run(session, SQL["settled"], **values).scalars())
        behind = list(statements.run(session, SQL["in_doubt_and_shown"], subjects=subjects).scalars())
        named: list[tuple[str, str]] = []
        for each in CLASSES:
            rows = self._rows(session, each, settled, until)
            named += [(each.name, row.subject) for row in rows]
            self.counted.found += sum(findings.write(session, self.account, each.name, row) for row in rows)
            behind += [row.subject for row in rows] if each.name == BEHIND else []
        self.counted.gone += findings.end(session, COMPARED, settled, named)
        self.counted.compared += len(settled)
        self.counted.noticed += self._notice(session, behind)

    def _notice(self, session: Session, behind: list[str]) -> int:
        """One that a worker has locked is left to the next pass: it may be over by then."""
        noticed = 0
        for operation in map(OPERATIONS.__getitem__, self.listed.kinds):
            table, mine = operation.table, [each for each in behind if by_id(each) is operation]
            locking = select(table).where(table.id.in_(mine)).order_by(table.id).with_for_update(skip_locked=True)
            rows = [row for row in session.scalars(locking) if observing.may_have_changed(row)] if mine else []
            row_io.save(session, rows, [observing.notice(row, source=observing.RECONCILIATION) for row in rows])
            noticed += len(rows)
        return noticed

    def _rows(self, session: Session, each: DifferenceClass, subjects: list[str], until: datetime) -> list[Row[Any]]:
        """Of each subject one row: of several entries that do not add up, the first names the charge."""
        values = {"subjects": subjects, "until": until, "covered_from": self.covered_from}
        once = {row.subject: row for row in reversed(statements.run(session, classes.SQL[each.name], **values).all())}
        return list(once.values())
