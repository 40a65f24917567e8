"""Which manifests are signed, and by which key; batches without facts.

Why: a class whose manifests are signed must never get an unsigned one again. The format is decided at the claim, and
each batch names the format of the one before it, so Postgres itself refuses to go back. A batch without facts stands
for a day without facts. How long it may lock: `archive_batches` alone, for as long as it takes to index and to check
its rows, of which there are a few hundred a day at most; archivers wait meanwhile, and nobody else writes there. Old
rows are not signed (format 1). A running older archiver goes on as long as nothing is signed; after that Postgres
refuses its claims. It would finish a signed batch that a newer one left behind without a signature: so update all
archivers first, and then set BILLING_SIGNING_KEY.
"""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE billing.archive_batches
            ADD COLUMN manifest_format bigint NOT NULL DEFAULT 1,
            ADD COLUMN previous_format bigint NOT NULL DEFAULT 1,
            ADD COLUMN manifest_key_id varchar(16),
            DROP CONSTRAINT archive_batches_follows,
            DROP CONSTRAINT archive_batches_class_number_last_seq_key,
            DROP CONSTRAINT archive_batches_rows_counted,
            DROP CONSTRAINT archive_batches_archived_with_digests
        """
    )
    op.execute(
        """
        ALTER TABLE billing.archive_batches
            ADD CONSTRAINT archive_batches_class_number_last_seq_manifest_format_key
                UNIQUE (class, number, last_seq, manifest_format),
            ADD CONSTRAINT archive_batches_follows
                FOREIGN KEY (class, previous_number, previous_seq, previous_format)
                REFERENCES billing.archive_batches (class, number, last_seq, manifest_format),
            ADD CONSTRAINT archive_batches_stays_signed CHECK (manifest_format >= previous_format),
            ADD CONSTRAINT archive_batches_rows_counted CHECK (rows = last_seq - first_seq + 1 AND rows >= 0),
            ADD CONSTRAINT archive_batches_archived_with_digests CHECK (
                state = 'claimed' OR (manifest_sha256 IS NOT NULL AND archived_at IS NOT NULL
                AND (rows = 0 OR (object_sha256 IS NOT NULL AND object_version IS NOT NULL))
                AND (manifest_format = 1 OR manifest_key_id IS NOT NULL)))
        """
    )
    op.execute(
        "GRANT INSERT (manifest_format, previous_format, manifest_key_id), UPDATE (manifest_key_id)"
        " ON billing.archive_batches TO billing_archiver"
    )
