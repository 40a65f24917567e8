"""Writes the fact `booked` about each operation whose money went to the bank: its entry in Stripe's ledger, with fee,
net and payout. So finance reads them in the archive, beside what was captured and given back.

An entry has one fact, written when its payout is known: some days after the money moved. An account whose payouts are
made by hand has none that Stripe could explain; its entries are told after `KEPT`, without a payout.

An entry is marked in the transaction that writes its fact, so a pass that dies, or runs beside another, tells nothing
twice. One whose operation a worker has locked, or has not ended yet, is told by a later pass. What others move at
Stripe is marked, and told to nobody.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from billing import row_io, statements
from billing.database import Transact
from billing.facts import OWN, new_fact
from billing.operations import OPERATIONS, by_id
from billing.tables.entities import Entity
from billing.tables.facts import Fact

SQL = statements.beside(__file__)

BATCH = 250
"""Entries of one transaction."""
KEPT = timedelta(days=35)
"""Automatic payouts come every day, week or month. Source: docs.stripe.com/payouts#payout-schedule."""

_LOADED = ("id", "account", "state", "correlation_id", "version")


_FIRST: Mapping[str, Any] = {"paid_out": "", "kept": datetime.min.replace(tzinfo=UTC)}
"""The statements that find what can be told, each with the place before its first page."""


@dataclass(slots=True)
class Booking:
    """The entries of one account. `booked`: of so many a fact was written."""

    transact: Transact
    account: str
    booked: int = 0

    def tell(self, now: datetime, left_s: Callable[[], float]) -> bool:
        """Tell whatever can be told. False: the time was over."""
        for name, place in _FIRST.items():
            values = {"account": self.account, "before": now - KEPT, "most": BATCH, "place": place, "id": ""}
            while page := self.transact(partial(_page, name=name, values=values)):
                if left_s() <= 0:
                    return False
                self.booked += self.transact(partial(_tell, entries=[row.id for row in page]))
                values |= {"place": page[-1].place, "id": page[-1].id}
        return True


def _page(session: Session, name: str, values: Mapping[str, Any]) -> Sequence[Row[Any]]:
    return statements.run(session, SQL[name], **values).all()


def _tell(session: Session, entries: list[str]) -> int:
    """Write the facts of these entries, and mark them. Returns how many facts."""
    mine = list(statements.run(session, SQL["lock"], ids=entries).scalars())
    found = statements.run(session, SQL["to_tell"], ids=mine).all()
    ready = [row for row in found if row.operation_id is not None and not row.waits]
    rows = _free(session, {row.operation_id for row in ready})
    facts = [_fact(rows[row.operation_id], row) for row in ready if row.operation_id in rows]
    row_io.save(session, rows.values(), facts)
    later = {row.id for row in found if row.waits} | {row.id for row in ready if row.operation_id not in rows}
    statements.run(session, SQL["told"], ids=[entry for entry in mine if entry not in later])
    return len(facts)


def _free(session: Session, wanted: set[str]) -> dict[str, Entity]:
    """These operations, locked, without those that another transaction has locked."""
    rows: dict[str, Entity] = {}
    for operation in OPERATIONS.values():
        if mine := [each for each in wanted if by_id(each) is operation]:
            rows |= {row.id: row for row in row_io.locked_where_free(session, operation.table, mine, _LOADED)}
    return rows


def _fact(row: Entity, entry: Row[Any]) -> Fact:
    return new_fact(
        row,
        "booked",
        account=row.account or OWN,
        minor=entry.amount_minor,
        currency=entry.currency,
        fee_minor=entry.fee_minor,
        net_minor=entry.net_minor,
        entry=entry.id,
        booked_at=entry.created_at.isoformat(),
        available_on=entry.available_at and entry.available_at.isoformat(),
        payout=entry.payout,
        payout_minor=entry.payout_minor,
    )
