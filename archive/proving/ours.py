"""The export of what was asked of this service: each request with what its row says of its effect."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from archive.proving import invoiced
from archive.proving.exports import Line
from archive.proving.invoiced import PURGED
from archive.proving.kinds import DONE, KINDS, Kind
from billing import ids
from billing.database import Transact
from billing.tables.facts import Fact

PAGE = 1000
_CLOCKS = timedelta(hours=1)
"""Ids are made by the clock of the application, and `requested_at` by that of Postgres."""


def lines(transact: Transact, since: datetime) -> Iterator[Line]:
    """One for each request since then, by kind and id, and after an invoice its places that are a capture's. Each page
    is a short transaction of its own.

    `batch`: of the fact that tells of its effect. Null if no archiver has taken it yet, or there is no effect.
    """
    for kind in KINDS:
        after = ids.first(kind.operation.prefix, since - _CLOCKS)
        while page := transact(lambda session, kind=kind, after=after: _page(session, kind, after)):  # type: ignore[misc]
            yield from (line for lines, requested_at in page if requested_at >= since for line in lines)
            after = page[-1][0][0]["id"]


def _page(session: Session, kind: Kind, after: str) -> list[tuple[list[Line], datetime]]:
    table: Any = kind.operation.table
    rows = session.scalars(select(table).where(table.id > after).order_by(table.id).limit(PAGE)).all()
    batches = _batches(session, kind, [row.id for row in rows if kind.says(row) == DONE])
    # After the invoices: what an invoice is made of is written with it.
    places = invoiced.places(session, [row.id for row in rows]) if kind.name == invoiced.KIND else {}
    amount = kind.operation.amount
    assert amount is not None, "what has an effect at Stripe is about money"
    return [
        (
            [
                {
                    "kind": kind.name,
                    "id": row.id,
                    "account": row.account,
                    "object": getattr(row, kind.object),
                    # Several captures may share an intent.
                    "part": getattr(row, "capture_no", 1),
                    "minor": getattr(row, amount),
                    "currency": row.currency,
                    "state": row.state,
                    "says": kind.says(row),
                    "ended": row.state_since.isoformat(),
                    "batch": batches.get(row.id, PURGED) if kind.says(row) == DONE else None,
                },
                *places.get(row.id, ()),
            ],
            row.requested_at,
        )
        for row in rows
    ]


def _batches(session: Session, kind: Kind, ids: list[str]) -> Mapping[str, int | None]:
    told = select(Fact.entity_id, Fact.batch_no).where(
        Fact.entity_type == kind.name, Fact.entity_id.in_(ids), Fact.topic == kind.topic
    )
    return {row.entity_id: row.batch_no for row in session.execute(told)}
