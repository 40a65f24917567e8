"""Which facts go into which batch: claimed by a mark, numbered once, the same for whoever finishes it.

The mark asks what is not archived, not what is new: a transaction that commits late is simply in a later batch.
Every exporter that remembers the last id it saw loses such rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, String, func, literal_column, select, text, update
from sqlalchemy.orm import Session

from archive.errors import EvidenceDiffers
from archive.retention import Policy
from billing import database
from billing.tables import ArchiveBatch, BatchState, Fact

MOST_ROWS = 10_000
"""A third of a second for the claim. More would come near the statement timeout, fewer make more objects."""

# The relay may stamp a later fact of an entity first, and a clock may step back over midnight: such a fact waits
# for the earlier one, so that an entity's facts have their numbers in their order.
_CLASS = (
    "CASE WHEN split_part(topic, '.', 2) IN ('attempted', 'attempt_lapsed', 'looked', 'late_answer') THEN 'attempt'"
    " WHEN entity_type IN ('capture', 'invoice') THEN entity_type ELSE 'admin' END"
)
_DAY = "(happened_at AT TIME ZONE 'UTC')::date"
_OLDEST = text(
    f"""
    WITH ready AS MATERIALIZED (
        SELECT id, {_CLASS} AS class, {_DAY} AS day, happened_at FROM billing.facts AS f
         WHERE batch_no IS NULL AND menu IS NOT NULL
           AND {_CLASS} NOT IN (SELECT class FROM billing.archive_batches WHERE state = 'claimed')
           AND NOT EXISTS (
               SELECT FROM billing.facts AS e
                WHERE e.entity_type = f.entity_type AND e.entity_id = f.entity_id
                  AND e.entity_version < f.entity_version AND e.batch_no IS NULL
                  AND (e.menu IS NULL OR (e.happened_at AT TIME ZONE 'UTC')::date
                                      <> (f.happened_at AT TIME ZONE 'UTC')::date))
         ORDER BY id LIMIT :scanned
    ), oldest AS (
        SELECT class, day, extract(epoch FROM clock_timestamp() - happened_at) AS age_s FROM ready ORDER BY id LIMIT 1
    )
    SELECT class, day, age_s, array_agg(id ORDER BY id) AS ids FROM ready JOIN oldest USING (class, day)
     GROUP BY class, day, age_s
    """
)
_MARK = text(
    "UPDATE billing.facts AS f SET batch_no = :number, archive_seq = :last_seq + c.place"
    "  FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS c(id, place) WHERE f.id = c.id AND f.batch_no IS NULL"
)
_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('billing.archive', 0))")


def left_behind(session: Session, patience_s: float) -> list[ArchiveBatch]:
    """Batches that were claimed so long ago and are not archived: whoever claimed them is dead or slow.

    Finishing a batch twice, even at once, does no harm: so an age is reason enough.
    """
    lapsed = ArchiveBatch.claimed_at < func.clock_timestamp() - text(f"interval '{patience_s} s'")
    query = select(ArchiveBatch).where(ArchiveBatch.state == BatchState.CLAIMED, lapsed)
    return list(session.scalars(query.order_by(ArchiveBatch.claimed_at)))


def claim(session: Session, policy: Policy, *, wait_s: float, most: int = MOST_ROWS) -> ArchiveBatch | None:
    """Fix the next batch: its facts, its number and theirs. None when no fact has waited for `wait_s`, or others claim.

    One batch holds one class and one UTC day. Commit, and from then on its content is the same for everybody.
    """
    if not session.scalar(_LOCK):
        return None
    found = session.execute(_OLDEST, {"scanned": 3 * most}).one_or_none()
    if found is None or (wait_s and found.age_s < wait_s):
        return None
    ids = found.ids[:most]
    last = session.scalars(
        select(ArchiveBatch)
        .where(ArchiveBatch.retention_class == found[0])
        .order_by(ArchiveBatch.number.desc())
        .limit(1)
    ).one_or_none()
    number, last_seq = (last.number, last.last_seq) if last else (0, 0)
    marked: Any = session.execute(_MARK, {"number": number + 1, "last_seq": last_seq, "ids": ids})
    assert marked.rowcount == len(ids), "under the lock nobody else marks facts"
    today = database.now(session).date()
    lock, manifest_lock = policy.lock(found[0], found.day, today), policy.manifest_lock(found.day, today)
    batch = ArchiveBatch(
        retention_class=found[0],
        number=number + 1,
        event_date=found.day,
        rows=len(ids),
        first_seq=last_seq + 1,
        last_seq=last_seq + len(ids),
        first_fact=ids[0],
        last_fact=ids[-1],
        lock_mode=lock.mode,
        locked_until=lock.until,
        manifest_lock_mode=manifest_lock.mode,
        manifest_locked_until=manifest_lock.until,
    )
    session.add(batch)
    session.flush()
    return batch


def facts_of(session: Session, batch: ArchiveBatch) -> Sequence[Row[Any]]:
    """The facts of this batch in the order of their numbers. Raises EvidenceDiffers if they are not those claimed."""
    rows = session.execute(
        select(*_COLUMNS)
        .where(
            Fact.id.between(batch.first_fact, batch.last_fact),
            Fact.batch_no == batch.number,
            literal_column(_CLASS, String) == batch.retention_class,
        )
        .order_by(Fact.archive_seq)
    ).all()
    if [row.archive_seq for row in rows] != list(range(batch.first_seq, batch.last_seq + 1)):
        raise EvidenceDiffers(name(batch), f"{batch.rows} facts were claimed, and Postgres now holds others")
    return rows


def confirm(session: Session, batch: ArchiveBatch, *, object_sha256: str, object_version: str, manifest: str) -> None:
    """Its object and manifest were read back. Raises EvidenceDiffers when somebody has confirmed something else."""
    digests = {"object_sha256": object_sha256, "object_version": object_version, "manifest_sha256": manifest}
    mine = (ArchiveBatch.retention_class == batch.retention_class, ArchiveBatch.number == batch.number)
    confirmed: Any = session.execute(
        update(ArchiveBatch)
        .where(*mine, ArchiveBatch.state == BatchState.CLAIMED)
        .values(state=BatchState.ARCHIVED, archived_at=func.clock_timestamp(), **digests)
        .execution_options(synchronize_session=False)
    )
    if confirmed.rowcount == 0:
        theirs = session.scalars(select(ArchiveBatch).where(*mine)).one()
        if {field: getattr(theirs, field) for field in digests} != digests:
            raise EvidenceDiffers(name(batch), "another archiver has confirmed it with other digests")


def name(batch: ArchiveBatch) -> str:
    return f"{batch.retention_class} batch {batch.number}"


def previous_manifest(session: Session, batch: ArchiveBatch) -> str | None:
    """The digest of the manifest before this one; None for the first."""
    if batch.number == 1:
        return None
    before = session.get_one(ArchiveBatch, (batch.retention_class, batch.number - 1))
    return before.manifest_sha256


@dataclass(frozen=True, slots=True)
class Standing:
    """How one class stands. `head` is the digest of its newest manifest: whoever keeps it can prove a later cut."""

    retention_class: str
    archived_batches: int
    archived_facts: int
    claimed_batches: int
    last_archived_at: datetime | None
    head: str | None


@dataclass(frozen=True, slots=True)
class Lag:
    """What is not archived: facts that a relay has planned, and those that wait for a relay first."""

    waiting: int
    oldest_age_s: float
    unplanned: int


def standing(session: Session) -> list[Standing]:
    """One line per class that has a batch."""
    return [Standing(*row) for row in session.execute(_STANDING)]


def lag(session: Session) -> Lag:
    """Counts facts that are claimed and not confirmed as waiting, too."""
    return Lag(*session.execute(_LAG).one())


_COLUMNS = (
    Fact.archive_seq,
    Fact.id,
    Fact.topic,
    Fact.version,
    Fact.entity_type,
    Fact.entity_id,
    Fact.entity_version,
    Fact.actor,
    Fact.correlation_id,
    Fact.happened_at,
    Fact.payload,
)
_STANDING = text(
    "SELECT class, count(*) FILTER (WHERE state = 'archived'),"
    "       coalesce(sum(rows) FILTER (WHERE state = 'archived'), 0)::bigint,"
    "       count(*) FILTER (WHERE state = 'claimed'), max(archived_at),"
    "       (array_agg(manifest_sha256 ORDER BY number DESC) FILTER (WHERE state = 'archived'))[1]"
    "  FROM billing.archive_batches GROUP BY class ORDER BY class"
)
_LAG = text(
    """
    SELECT waiting.facts + claimed.facts, greatest(waiting.age_s, claimed.age_s, 0)::float, unplanned.facts
      FROM (SELECT count(*) AS facts, extract(epoch FROM clock_timestamp() - min(happened_at)) AS age_s
              FROM billing.facts WHERE batch_no IS NULL AND menu IS NOT NULL) AS waiting,
           (SELECT coalesce(sum(rows), 0)::bigint AS facts,
                   extract(epoch FROM clock_timestamp() - min(claimed_at)) AS age_s
              FROM billing.archive_batches WHERE state = 'claimed') AS claimed,
           (SELECT count(*) AS facts FROM billing.facts WHERE menu IS NULL) AS unplanned
    """
)
