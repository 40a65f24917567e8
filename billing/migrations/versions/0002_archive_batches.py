"""The archive's batches, and an index over what is not archived yet.

Why: the archiver claims facts by a mark, and looks for facts without one all the time. How long it may lock: the
index is built CONCURRENTLY, so facts are written meanwhile; it waits for transactions that began before it, and
gives up after 2 s of that. Run it again then: what was left half built is dropped first. The table is new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS billing.facts_unarchived")
        op.create_index(
            "facts_unarchived",
            "facts",
            ["id"],
            schema="billing",
            postgresql_where=sa.text("batch_no IS NULL AND menu IS NOT NULL"),
            postgresql_concurrently=True,
        )
    op.create_table(
        "archive_batches",
        sa.Column("class", sa.String(length=20), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "previous_number", sa.BigInteger(), sa.Computed("NULLIF(number - 1, 0)", persisted=True), nullable=True
        ),
        sa.Column("previous_seq", sa.BigInteger(), sa.Computed("first_seq - 1", persisted=True), nullable=False),
        sa.Column("event_date", sa.Date(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("first_fact", sa.BigInteger(), nullable=False),
        sa.Column("last_fact", sa.BigInteger(), nullable=False),
        sa.Column("lock_mode", sa.String(length=10), nullable=False),
        sa.Column("locked_until", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("manifest_lock_mode", sa.String(length=10), nullable=False),
        sa.Column("manifest_locked_until", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=20), server_default="claimed", nullable=False),
        sa.Column("claimed_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("object_sha256", sa.String(length=64), nullable=True),
        sa.Column("object_version", sa.Text(), nullable=True),
        sa.Column("manifest_sha256", sa.String(length=64), nullable=True),
        sa.Column("archived_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint(
            "number > 1 OR (number = 1 AND first_seq = 1)", name=op.f("archive_batches_begins_with_one")
        ),
        sa.CheckConstraint("rows = last_seq - first_seq + 1 AND rows > 0", name=op.f("archive_batches_rows_counted")),
        sa.CheckConstraint(
            "state = 'claimed' OR (object_sha256 IS NOT NULL AND object_version IS NOT NULL"
            " AND manifest_sha256 IS NOT NULL AND archived_at IS NOT NULL)",
            name=op.f("archive_batches_archived_with_digests"),
        ),
        sa.CheckConstraint("state IN ('claimed', 'archived')", name=op.f("archive_batches_state_known")),
        sa.ForeignKeyConstraint(
            ["class", "previous_number", "previous_seq"],
            ["billing.archive_batches.class", "billing.archive_batches.number", "billing.archive_batches.last_seq"],
            name=op.f("archive_batches_follows"),
        ),
        sa.PrimaryKeyConstraint("class", "number", name=op.f("archive_batches_pkey")),
        sa.UniqueConstraint("class", "number", "last_seq", name=op.f("archive_batches_class_number_last_seq_key")),
        schema="billing",
    )
    op.create_index(
        "archive_batches_one_open",
        "archive_batches",
        ["class"],
        unique=True,
        schema="billing",
        postgresql_where=sa.text("state = 'claimed'"),
    )
