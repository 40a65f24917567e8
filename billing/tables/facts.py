"""Facts, which record what happened, and the batches in which they are archived."""

from datetime import date, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    CheckConstraint,
    Computed,
    ForeignKeyConstraint,
    Identity,
    Index,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from billing import states
from billing.states import Life
from billing.tables.schema import Table, known_state
from billing.traceparent import LENGTH

# Facts that are kept for different times are in different batches of the archive. Voids and refunds are kept as long as
# the capture whose money they are about, and what belongs to an invoice as long as that. Written as Postgres prints it,
# because the index below is compared with the migrations' by its text.
RETENTION_CLASS = """
CASE
    WHEN split_part(topic, '.', 2) = ANY (ARRAY['attempted', 'attempt_lapsed', 'looked', 'late_answer']) THEN 'attempt'
    WHEN entity_type = ANY (ARRAY['capture', 'void', 'refund']) THEN 'capture'
    WHEN entity_type = ANY (ARRAY['invoice', 'invoice_action', 'credit_note', 'document']) THEN 'invoice'
    ELSE 'admin'
END"""
SET_ASIDE = 0
"""The value of `batch_no` of a fact that cannot be archived: it is in no batch."""


class Fact(Table):
    """Something that happened. Never changed, and removed only once the archive holds it; no personal data."""

    __tablename__ = "facts"
    __table_args__ = (
        UniqueConstraint("entity_type", "entity_id", "entity_version"),
        Index("facts_unplanned", "id", postgresql_where=text("planned_version IS NULL")),
        # By class, because one class may be unable to go on while the others can.
        Index(
            "facts_unarchived_by_class",
            text(f"({RETENTION_CLASS})"),
            "id",
            postgresql_where=text("batch_no IS NULL AND planned_version IS NOT NULL"),
        ),
        Index("facts_unarchivable", "id", postgresql_where=text(f"batch_no = {SET_ASIDE}")),
        Index("facts_set_aside", "id", postgresql_where=text("planned_version < 0")),
        # Only for facts that are not planned yet, so that older rows which break these rules can be stamped and
        # archived.
        CheckConstraint(
            "planned_version IS NOT NULL OR (jsonb_typeof(payload) = 'object' AND length(payload::text) <= 16384)",
            name="payload_bounded",
        ),
        CheckConstraint(
            "planned_version IS NOT NULL OR (topic ~ '^[a-z_]+[.][a-z_]+$' AND entity_type ~ '^[a-z_]+$'"
            " AND entity_id ~ '^[a-z]+_[A-Za-z0-9_]+$')",
            name="names_shaped",
        ),
        # Each row is updated twice, when it is planned and when it is archived: leave room in the page.
        {"postgresql_with": {"fillfactor": "85"}},
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    topic: Mapped[str] = mapped_column(String(60))
    version: Mapped[int] = mapped_column(server_default=text("1"))
    entity_type: Mapped[str] = mapped_column(String(20))
    entity_id: Mapped[str] = mapped_column(String(40))
    entity_version: Mapped[int]
    actor: Mapped[str] = mapped_column(String(255))
    correlation_id: Mapped[str | None] = mapped_column(String(255))
    # The trace that its request belongs to, if the application named one (`billing.traceparent`).
    traceparent: Mapped[str | None] = mapped_column(String(LENGTH))
    payload: Mapped[dict[str, Any]]
    happened_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    # The contracts' version of the relay that planned it; negative if it could not be planned and was set aside.
    planned_version: Mapped[int | None]
    # Which batch of its retention class it is archived in (0: none, it is set aside), and its number in that class.
    batch_no: Mapped[int | None]
    archive_seq: Mapped[int | None]


class ArchiveBatch(Table):
    """One batch of facts: of one retention class and one UTC day, numbered without gaps, and so are its facts.

    A batch without facts stands for a day in which its class had none: it has a manifest and no object, and its
    `last_seq` is `first_seq` - 1.
    """

    life: ClassVar[Life] = states.BATCH
    __tablename__ = "archive_batches"
    __table_args__ = (
        UniqueConstraint("class", "number", "last_seq", "manifest_format"),
        # A batch follows the one before it: neither a batch nor a fact is left out in between, and after a signed
        # manifest comes no unsigned one.
        ForeignKeyConstraint(
            ["class", "previous_number", "previous_seq", "previous_format"],
            [f"billing.archive_batches.{name}" for name in ("class", "number", "last_seq", "manifest_format")],
            name="archive_batches_follows",
        ),
        CheckConstraint("manifest_format >= previous_format", name="stays_signed"),
        CheckConstraint("number > 1 OR (number = 1 AND first_seq = 1)", name="begins_with_one"),
        CheckConstraint("rows = last_seq - first_seq + 1 AND rows >= 0", name="rows_counted"),
        # One at a time, because manifest n names the digest of manifest n - 1.
        Index("archive_batches_one_open", "class", unique=True, postgresql_where=text("state = 'claimed'")),
        CheckConstraint(
            "state = 'claimed' OR (manifest_sha256 IS NOT NULL AND archived_at IS NOT NULL"
            " AND (rows = 0 OR (object_sha256 IS NOT NULL AND object_version IS NOT NULL))"
            " AND (manifest_format = 1 OR manifest_key_id IS NOT NULL))",
            name="archived_with_digests",
        ),
        CheckConstraint("purged_rows >= 0 AND purged_rows <= rows", name="purged_of_rows"),
        Index("archive_batches_by_day", "event_date", "class", "number"),
        known_state(states.BATCH),
    )

    retention_class: Mapped[str] = mapped_column("class", String(20), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    previous_number: Mapped[int | None] = mapped_column(Computed("NULLIF(number - 1, 0)", persisted=True))
    previous_seq: Mapped[int] = mapped_column(Computed("first_seq - 1", persisted=True))
    event_date: Mapped[date]
    rows: Mapped[int]
    first_seq: Mapped[int]
    last_seq: Mapped[int]
    # The ids of its first and its last fact (1 and 0 if it has none). Its facts are between them, so that reading them
    # needs no other index.
    first_fact: Mapped[int]
    last_fact: Mapped[int]
    # Decided at the claim, so that another archiver that finishes the batch locks it in the same way.
    lock_mode: Mapped[str] = mapped_column(String(10))
    locked_until: Mapped[datetime]
    manifest_lock_mode: Mapped[str] = mapped_column(String(10))
    manifest_locked_until: Mapped[datetime]
    # 1: not signed, 2: signed. Decided at the claim, too.
    manifest_format: Mapped[int] = mapped_column(server_default=text("1"))
    previous_format: Mapped[int] = mapped_column(server_default=text("1"))
    # Under which policy its object is kept, and will be disposed of. Null if an older archiver claimed it.
    policy: Mapped[str | None] = mapped_column(String(80))

    state: Mapped[str] = mapped_column(String(20), server_default=states.BATCH.first)
    claimed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    object_sha256: Mapped[str | None] = mapped_column(String(64))
    object_version: Mapped[str | None] = mapped_column(Text)
    manifest_sha256: Mapped[str | None] = mapped_column(String(64))
    manifest_key_id: Mapped[str | None] = mapped_column(String(16))
    archived_at: Mapped[datetime | None]
    # How many of its facts are no longer in Postgres (`archive.purging`).
    purged_rows: Mapped[int] = mapped_column(server_default=text("0"))
