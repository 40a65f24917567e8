"""The heads of each day, and where they were published.

Why: an archiver makes one document a day and brings it to places outside; what is missing there is tried again after a
restart, and by any other archiver. How long it may lock: new tables lock no other. Old rows are not concerned. An older
archiver publishes nothing.
"""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE billing.archive_heads (
            date date NOT NULL,
            document text NOT NULL,
            made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            CONSTRAINT archive_heads_pkey PRIMARY KEY (date),
            CONSTRAINT archive_heads_document_bounded CHECK (length(document) <= 16384)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE billing.archive_head_copies (
            date date NOT NULL,
            place varchar(20) NOT NULL,
            published_at timestamptz,
            tried_at timestamptz,
            problem text,
            CONSTRAINT archive_head_copies_pkey PRIMARY KEY (date, place),
            CONSTRAINT archive_head_copies_date_fkey FOREIGN KEY (date) REFERENCES billing.archive_heads (date)
        )
        """
    )
    op.execute(
        "GRANT SELECT ON billing.archive_heads, billing.archive_head_copies"
        " TO billing_archiver, billing_reader, billing_operator"
    )
    op.execute("GRANT INSERT (date, document) ON billing.archive_heads TO billing_archiver")
    op.execute("GRANT INSERT (date, place) ON billing.archive_head_copies TO billing_archiver")
    op.execute("GRANT UPDATE (published_at, tried_at, problem) ON billing.archive_head_copies TO billing_archiver")
