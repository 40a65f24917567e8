"""Finds the facts of one capture or invoice in the archive, after they left Postgres, in a few objects.

Which objects may hold them follows from `archive_batches`: a fact is claimed within minutes after it happened, so the
batches that were claimed since the request are read one after another until every fact is found.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from archive.format import manifests
from archive.policy.retention import CLASSES
from archive.purging import read_back
from archive.s3.store import Store
from billing.database import Transact
from billing.states import BatchState
from billing.tables.facts import ArchiveBatch

OBJECTS = 200
"""It ends after so many objects, about 300 MB, even if facts are missing."""


def facts_of(
    ask: Transact, store: Store, kind: str, entity_id: str, since: datetime, count: int
) -> list[dict[str, Any]]:
    """Up to `count` purged facts of this entity, which was requested at `since`, by `entity_version`: rows as
    `archive.format.records` has them, with the class, number and object key of their batch. Fewer if they are not in
    the first `OBJECTS` objects that may hold them.

    Raises EvidenceDiffers if an object is not what Postgres and its manifest say, StoreAway, StoreRefused.
    """
    found: list[dict[str, Any]] = []
    # The clocks of machines differ by less: the id has the application's time, the batch that of Postgres.
    earliest = since - timedelta(hours=1)
    for batch in ask(lambda session: _batches(session, kind, earliest)):
        if len(found) >= count:
            break
        rows = read_back.of_entity(read_back.rows_of(store, batch), kind, entity_id)
        place = {"retention_class": batch.retention_class, "batch": batch.number, "object": manifests.object_key(batch)}
        found += [row | place for row in rows.to_pylist()]
    return sorted(found, key=lambda row: row["entity_version"])


def _batches(session: Session, kind: str, earliest: datetime) -> Sequence[ArchiveBatch]:
    """Those of which facts were purged. A batch holds facts of one UTC day, and only those were claimed late that had
    been set aside."""
    place = (ArchiveBatch.event_date, ArchiveBatch.number)
    query = select(ArchiveBatch).where(
        ArchiveBatch.state == BatchState.ARCHIVED,
        ArchiveBatch.purged_rows > 0,
        # Voids and refunds are in the class of their captures.
        ArchiveBatch.retention_class.in_((kind, "attempt") if kind in CLASSES else CLASSES),
        ArchiveBatch.claimed_at >= earliest,
        tuple_(*place) >= (earliest.astimezone(UTC).date(), 0),
    )
    return session.scalars(query.order_by(*place).limit(OBJECTS)).all()
