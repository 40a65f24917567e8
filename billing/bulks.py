"""The progress of a bulk: one row for each file of requests, changed in the transaction of every batch of its rows.

So a bulk that died is continued by the same file, exactly where it stands, and two processes with the same file cannot
both ask for a row.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing.errors import BulkReused, BulkTaken, InvalidText
from billing.tables.bulks import Bulk
from billing.texts import opaque_id

ID_MOST = 80
"""Characters of a bulk's id. With a line's number behind it, it is a request id."""


@dataclass(frozen=True, slots=True)
class Given:
    """What is to be asked for: a file, by the SHA-256 of its bytes, and how many `rows` of it are left to ask for."""

    id: str
    kind: str
    digest: str
    account: str | None
    rows: int
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a bulk is. `done_upto`: the line of the file up to which it is done. The counts are of rows."""

    id: str
    kind: str
    digest: str
    account: str | None
    rows: int
    actor: str
    reason: str
    begun_at: datetime
    done_upto: int
    asked: int
    asked_before: int
    refused: int
    ended_at: datetime | None

    @property
    def done(self) -> int:
        return self.asked + self.asked_before + self.refused


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of the rows up to this line."""

    upto: int
    asked: int
    asked_before: int
    refused: int


def bulk_id(given: str) -> str:
    """The id that an operator chose. Raises InvalidText."""
    checked = opaque_id("bulk_id", given, ID_MOST)
    if ":" in checked:
        raise InvalidText("bulk_id", "must be without a colon, which separates it from the line in request ids")
    return checked


def default_id(kind: str, digest: str) -> str:
    """The id of a bulk for which none was chosen: the same for the same file, and another for another kind."""
    return f"bulk_{hashlib.sha256(f'{kind} {digest}'.encode()).hexdigest()[:32]}"


def find(session: Session, bulk: str, *, kind: str, digest: str, account: str | None) -> Progress | None:
    """How far the bulk with this id is; None if it was never begun.

    Raises BulkReused if the id stands for another file, or this file for another id.
    """
    # The id first: it is what the operator named.
    found = session.execute(
        select(*_COLUMNS)
        .where((Bulk.id == bulk) | (Bulk.kind == kind) & (Bulk.digest == digest))
        .order_by(Bulk.id != bulk)
    ).first()
    if found is None:
        return None
    if found.id != bulk:
        raise BulkReused(bulk, f"this file is the bulk {found.id}, begun by {found.actor}; continue it under that id")
    differences = {
        "kind": (found.kind, kind),
        "account": (found.account or "our own", account or "our own"),
        "file": (f"sha256 {found.digest[:16]}", f"sha256 {digest[:16]}"),
    }
    told = [f"{name}: first {first}, now {now}" for name, (first, now) in differences.items() if first != now]
    if told:
        raise BulkReused(bulk, f"it was begun with another one ({', '.join(told)}); give this file an id of its own")
    return Progress(**found._mapping)


def begin(session: Session, given: Given) -> Progress:
    """Write down that it begins, or goes on. Raises as `find`."""
    values = {name: getattr(given, name) for name in Given.__slots__}
    session.execute(insert(Bulk).values(values).on_conflict_do_nothing())
    find(session, given.id, kind=given.kind, digest=given.digest, account=given.account)
    session.execute(
        update(Bulk)
        .where(Bulk.id == given.id, Bulk.ended_at.is_(None))
        # Of what is left some may have become good or bad since it began.
        .values(rows=Bulk.asked + Bulk.asked_before + Bulk.refused + given.rows)
        .execution_options(synchronize_session=False)
    )
    return _read(session, given.id)


def hold(session: Session, bulk: str, *, done_upto: int) -> None:
    """Before a batch is written: from here to the end of the transaction nobody else carries this bulk on. Raises
    BulkTaken if somebody has since this line."""
    at = session.scalar(select(Bulk.done_upto).where(Bulk.id == bulk).with_for_update(key_share=True))
    if at != done_upto:
        raise BulkTaken(bulk)


def advance(session: Session, bulk: str, batch: Batch) -> None:
    """After a batch was written, in its transaction."""
    session.execute(
        update(Bulk)
        .where(Bulk.id == bulk)
        .values(
            done_upto=batch.upto,
            asked=Bulk.asked + batch.asked,
            asked_before=Bulk.asked_before + batch.asked_before,
            refused=Bulk.refused + batch.refused,
        )
        .execution_options(synchronize_session=False)
    )


def end(session: Session, bulk: str) -> Progress:
    """Every row is done."""
    session.execute(
        update(Bulk)
        .where(Bulk.id == bulk, Bulk.ended_at.is_(None))
        .values(ended_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )
    return _read(session, bulk)


def _read(session: Session, bulk: str) -> Progress:
    return Progress(**session.execute(select(*_COLUMNS).where(Bulk.id == bulk)).one()._mapping)


def listed(session: Session, most: int) -> list[Progress]:
    """The newest first."""
    found = session.execute(select(*_COLUMNS).order_by(Bulk.begun_at.desc(), Bulk.id).limit(most))
    return [Progress(**row._mapping) for row in found]


_COLUMNS = [getattr(Bulk, name) for name in Progress.__slots__]
