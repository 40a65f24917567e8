"""Under which policy a batch is kept, and legal holds.

Why: verification names the policy under which an object was disposed of, which the file of today may no longer say;
and a hold that is released frees only objects that no other hold needs. Older archivers leave the new column null, and
disposal of their batches is then reported by their lock. How long it may lock: the column is added without a default,
which changes only the catalog; new tables lock no other, except for a moment the batches that they refer to.
"""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE billing.archive_batches ADD COLUMN policy varchar(80)")
    op.execute("GRANT INSERT (policy) ON billing.archive_batches TO billing_archiver")
    op.execute(
        """
        CREATE TABLE billing.archive_holds (
            name varchar(60) NOT NULL,
            criteria text NOT NULL,
            placed_by varchar(255) NOT NULL,
            reason text NOT NULL,
            placed_at timestamptz DEFAULT now() NOT NULL,
            released_at timestamptz,
            CONSTRAINT archive_holds_pkey PRIMARY KEY (name),
            CONSTRAINT archive_holds_name_shape CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$')
        );
        CREATE TABLE billing.archive_held_batches (
            hold varchar(60) NOT NULL,
            class varchar(20) NOT NULL,
            number bigint NOT NULL,
            CONSTRAINT archive_held_batches_pkey PRIMARY KEY (hold, class, number),
            CONSTRAINT archive_held_batches_hold_fkey FOREIGN KEY (hold) REFERENCES billing.archive_holds (name),
            CONSTRAINT archive_held_batches_batch_fkey FOREIGN KEY (class, number)
                REFERENCES billing.archive_batches (class, number)
        );
        CREATE INDEX archive_held_batches_by_batch ON billing.archive_held_batches (class, number);
        """
    )
    for table in ("archive_holds", "archive_held_batches"):
        op.execute(f"GRANT SELECT ON billing.{table} TO billing_reader, billing_operator")
    op.execute("GRANT INSERT (name, criteria, placed_by, reason) ON billing.archive_holds TO billing_operator")
    op.execute("GRANT UPDATE (released_at) ON billing.archive_holds TO billing_operator")
    op.execute("GRANT INSERT (hold, class, number) ON billing.archive_held_batches TO billing_operator")
