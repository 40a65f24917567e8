"""In which objects of the bucket the facts of some batches lie, as Postgres knows it: nothing is read there."""

from collections.abc import Collection

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from archive.format.layout import object_key
from billing.states import BatchState
from billing.tables.facts import ArchiveBatch

Place = tuple[str, int]
"""The retention class of a batch, and its number in it."""


def objects(session: Session, batches: Collection[Place]) -> dict[Place, str]:
    """The key of the object of each of these batches that is archived."""
    mine = tuple_(ArchiveBatch.retention_class, ArchiveBatch.number).in_(list(batches))
    found = session.scalars(select(ArchiveBatch).where(mine, ArchiveBatch.state == BatchState.ARCHIVED))
    return {(batch.retention_class, batch.number): object_key(batch) for batch in (found if batches else ())}
