"""A batch of facts: claimed once, numbered without gaps, and with the same content whichever archiver finishes it.

A mark in each row says that it is archived. An exporter that remembers the last id it saw would lose rows whose
transaction commits late; here such a row is simply in a later batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

from sqlalchemy import Row, func, select, text, update
from sqlalchemy.orm import Session

from archive.errors import EvidenceDiffers
from archive.format import manifests, records
from archive.format.manifests import SIGNED, UNSIGNED, Manifest
from archive.policy.retention import CLASSES, Policy
from archive.writing.backlog import Found, quiet
from archive.writing.batch_size import BatchSize
from archive.writing.set_aside import PAYLOAD_TROUBLE
from billing import database
from billing.states import BATCH, BatchState
from billing.tables.facts import RETENTION_CLASS, ArchiveBatch

MOST_COUNTED = 1_000_000
"""Each count ends here: a caller should not wait for a million rows to be counted."""


def left_behind(session: Session, patience_s: float) -> list[ArchiveBatch]:
    """Batches that were claimed more than `patience_s` ago and are not archived: their archiver is dead or slow.

    Two archivers may finish the same batch, even at the same time, without harm. So the age alone is reason enough.
    """
    lapsed = ArchiveBatch.claimed_at < func.clock_timestamp() - text(f"interval '{patience_s} s'")
    query = select(ArchiveBatch).where(ArchiveBatch.state == BatchState.CLAIMED, lapsed)
    return list(session.scalars(query.order_by(ArchiveBatch.claimed_at)))


def claim(session: Session, policy: Policy, found: Found, *, most: int, signs: bool) -> ArchiveBatch | None:
    """Make a batch of the first `most` facts that were found: fix which facts, its number, and their numbers.

    None if another archiver is claiming, or has claimed a batch of this class since the search. After the commit the
    batch's content never changes; nor whether its manifest is signed (`signs`). Raises EvidenceDiffers if it would be
    the first without a signature.
    """
    if not session.scalar(_LOCK):
        return None
    retention_class, day, ids = found.due.retention_class, found.day, found.facts[:most]
    assert day is not None, "facts that were found are of a day"
    last = _newest(session, retention_class)
    number, last_seq = (last.number, last.last_seq) if last else (0, 0)
    if number != found.due.newest_batch:
        return None
    marked: Any = session.execute(_MARK, {"number": number + 1, "last_seq": last_seq, "ids": ids})
    if marked.rowcount != len(ids):
        # Another archiver has set one of them aside meanwhile; that takes no lock.
        session.rollback()
        return None
    return _added(session, policy, last, retention_class, day, ids, signs)


def claim_quiet_day(session: Session, policy: Policy, retention_class: str, *, signs: bool) -> ArchiveBatch | None:
    """Make a batch without facts for yesterday.

    None if another archiver is claiming, or has claimed it, or if a fact waits by now. Otherwise as `claim`.
    """
    if not session.scalar(_LOCK):
        return None
    due = quiet(session, [retention_class])
    if not due:
        return None
    return _added(session, policy, _newest(session, retention_class), retention_class, due[0].yesterday, [], signs)


def _newest(session: Session, retention_class: str) -> ArchiveBatch | None:
    query = select(ArchiveBatch).where(ArchiveBatch.retention_class == retention_class)
    return session.scalars(query.order_by(ArchiveBatch.number.desc()).limit(1)).one_or_none()


def _added(
    session: Session,
    policy: Policy,
    last: ArchiveBatch | None,
    retention_class: str,
    day: date,
    ids: Sequence[int],
    signs: bool,
) -> ArchiveBatch:
    number, last_seq, last_format = (last.number, last.last_seq, last.manifest_format) if last else (0, 0, UNSIGNED)
    if last_format == SIGNED and not signs:
        raise EvidenceDiffers(f"{retention_class} batch {number + 1}", _NEEDS_A_KEY)
    today = database.now(session).astimezone(UTC).date()
    lock, manifest_lock = policy.lock(retention_class, day, today), policy.manifest_lock(day, today)
    batch = ArchiveBatch(
        retention_class=retention_class,
        number=number + 1,
        event_date=day,
        rows=len(ids),
        first_seq=last_seq + 1,
        last_seq=last_seq + len(ids),
        first_fact=ids[0] if ids else 1,
        last_fact=ids[-1] if ids else 0,
        lock_mode=lock.mode,
        locked_until=lock.until,
        manifest_lock_mode=manifest_lock.mode,
        manifest_locked_until=manifest_lock.until,
        manifest_format=SIGNED if signs else UNSIGNED,
        previous_format=last_format,
        policy=policy.rules[retention_class].policy,
    )
    session.add(batch)
    session.flush()
    return batch


def check_key(batch: ArchiveBatch, *, signs: bool) -> None:
    """Raises EvidenceDiffers if this batch was claimed by an archiver with a signing key, and this one has none."""
    if batch.manifest_format == SIGNED and not signs:
        raise EvidenceDiffers(name(batch), _NEEDS_A_KEY)


def newest(session: Session) -> list[ArchiveBatch]:
    """The newest batch of each class that has one."""
    return [batch for name in CLASSES if (batch := _newest(session, name)) is not None]


def facts_of(batch_size: BatchSize, batch: ArchiveBatch) -> list[Row[Any]]:
    """The facts of this batch in the order of their numbers.

    They are read in several transactions, because what is claimed does not change. Raises EvidenceDiffers if they are
    not the facts that were claimed. An older version may have claimed a payload that cannot be archived: it is None
    here, and `trouble` says why.
    """
    rows: list[Row[Any]] = []
    after = batch.first_fact - 1
    while after < batch.last_fact:
        page, after = batch_size.read(partial(_page, batch=batch, after=after))
        rows += page
    if list(records.by_column(rows).get("archive_seq", ())) != list(range(batch.first_seq, batch.last_seq + 1)):
        raise EvidenceDiffers(name(batch), f"{batch.rows} facts were claimed, and Postgres now holds others")
    return rows


def _page(session: Session, most: int, *, batch: ArchiveBatch, after: int) -> tuple[list[Row[Any]], int]:
    """The batch's facts among the next `most` of all facts, and where those end. Numbers rise with ids."""
    bounds = {"after": after, "last": batch.last_fact}
    end: int = session.execute(_END, {**bounds, "skipped": most - 1}).scalar_one() or batch.last_fact
    mine = {"after": after, "end": end, "number": batch.number, "retention_class": batch.retention_class}
    return list(session.execute(_FACTS, mine)), end


def confirm(session: Session, batch: ArchiveBatch, manifest: Manifest) -> None:
    """Mark the batch as archived, after its object and this manifest were read back.

    Raises EvidenceDiffers if another archiver has confirmed it with other digests.
    """
    digests = {
        "object_sha256": manifest.sha256,
        "object_version": manifest.version,
        "manifest_sha256": manifests.digest(manifest.body()),
        "manifest_key_id": manifest.key_id,
    }
    mine = (ArchiveBatch.retention_class == batch.retention_class, ArchiveBatch.number == batch.number)
    confirmed: Any = session.execute(
        update(ArchiveBatch)
        .where(*mine, ArchiveBatch.state.in_(BATCH.before(BatchState.ARCHIVED)))
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


def as_archived(facts: str) -> str:
    """SQL that reads rows of `billing.facts` as `records.table` takes them, in the order of their numbers. Times are in
    UTC, whatever the time zone of the session is. A payload that cannot be archived is null; `trouble` says why."""
    return f"""
        SELECT archive_seq, id, topic, version, entity_type, entity_id, entity_version, actor, correlation_id,
               traceparent, happened_at AT TIME ZONE 'UTC' AS happened_at, trouble,
               CASE WHEN trouble IS NULL THEN payload END AS payload
          FROM (SELECT *, {PAYLOAD_TROUBLE} AS trouble FROM {facts} OFFSET 0) AS f
         ORDER BY archive_seq"""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is archived of one class.

    `head` is the digest of its newest manifest: kept elsewhere, it shows a later cut. `key_id` is the key that signed
    that manifest; None if it is not signed.
    """

    retention_class: str
    archived_batches: int
    archived_facts: int
    claimed_batches: int
    last_archived_at: datetime | None
    head: str | None
    key_id: str | None


@dataclass(frozen=True, slots=True)
class Lag:
    """What is not archived: `waiting` counts facts that a relay has planned, `unplanned` those that it has not."""

    waiting: int
    oldest_age_s: float
    unplanned: int


@dataclass(frozen=True, slots=True)
class KeyUse:
    """Which manifests of a class a key has signed: from number `first`, claimed at `since`, to number `last`."""

    key_id: str
    retention_class: str
    first: int
    last: int
    since: datetime


def key_uses(session: Session) -> list[KeyUse]:
    """By key and class, the key that was used first first."""
    return [KeyUse(*row) for row in session.execute(_KEY_USES)]


def standing(session: Session) -> list[Standing]:
    """One entry per class that has a batch."""
    return [Standing(*row) for row in session.execute(_STANDING)]


def lag(session: Session) -> Lag:
    """Facts that are claimed and not confirmed count as waiting, too. Each count ends at `MOST_COUNTED`."""
    return Lag(*session.execute(_LAG, {"classes": list(CLASSES), "most": MOST_COUNTED}).one())


_NEEDS_A_KEY = "the manifests of this class are signed, and this archiver has no key; set BILLING_SIGNING_KEY"
_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('billing.archive', 0))")
_MARK = text(
    "UPDATE billing.facts AS f SET batch_no = :number, archive_seq = :last_seq + c.place"
    "  FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS c(id, place) WHERE f.id = c.id AND f.batch_no IS NULL"
)
# An OFFSET and not a range of ids: a sequence may have jumped by billions.
_END = text(
    "SELECT (SELECT id FROM billing.facts WHERE id > :after AND id <= :last ORDER BY id OFFSET :skipped LIMIT 1)"
)
_FACTS = text(
    as_archived(
        "billing.facts"
        f" WHERE id > :after AND id <= :end AND batch_no = :number AND {RETENTION_CLASS} = :retention_class"
    )
)
_STANDING = text(
    "SELECT class, count(*) FILTER (WHERE state = 'archived'),"
    "       coalesce(sum(rows) FILTER (WHERE state = 'archived'), 0)::bigint,"
    "       count(*) FILTER (WHERE state = 'claimed'), max(archived_at),"
    "       (array_agg(manifest_sha256 ORDER BY number DESC) FILTER (WHERE state = 'archived'))[1],"
    "       (array_agg(manifest_key_id ORDER BY number DESC) FILTER (WHERE state = 'archived'))[1]"
    "  FROM billing.archive_batches GROUP BY class ORDER BY class"
)
_KEY_USES = text(
    "SELECT manifest_key_id, class, min(number), max(number), min(claimed_at) FROM billing.archive_batches"
    " WHERE manifest_key_id IS NOT NULL GROUP BY manifest_key_id, class"
    " ORDER BY min(min(claimed_at)) OVER (PARTITION BY manifest_key_id), manifest_key_id, class"
)
# The oldest fact of a class is the one with the smallest id. An infinite time has no age.
_LAG = text(
    f"""
    SELECT least(waiting.facts + claimed.facts, :most), greatest(oldest.age_s, claimed.age_s, 0)::float, unplanned.facts
      FROM (SELECT count(*) AS facts FROM (SELECT FROM billing.facts
                                            WHERE batch_no IS NULL AND planned_version IS NOT NULL
                                            LIMIT :most) AS f) AS waiting,
           (SELECT extract(epoch FROM clock_timestamp() - min(first.happened_at)) AS age_s
              FROM unnest(CAST(:classes AS text[])) AS c (class),
                   LATERAL (SELECT happened_at FROM billing.facts WHERE batch_no IS NULL AND planned_version IS NOT NULL
                               AND {RETENTION_CLASS} = c.class ORDER BY id LIMIT 1) AS first
             WHERE isfinite(first.happened_at)) AS oldest,
           (SELECT coalesce(sum(rows), 0)::bigint AS facts,
                   extract(epoch FROM clock_timestamp() - min(claimed_at)) AS age_s
              FROM billing.archive_batches WHERE state = 'claimed') AS claimed,
           (SELECT count(*) AS facts FROM (SELECT FROM billing.facts
                                            WHERE planned_version IS NULL LIMIT :most) AS f) AS unplanned
    """
)
