"""Legal holds hold documents, too.

Why: the PDF of an invoice is evidence as the facts about it are, and the hold of a case must keep it beyond its lock.
An older version places holds without documents; placed again by this one, they hold them. How long it may lock: a new
table locks no other, except for a moment the two that it refers to.
"""

from alembic import op

revision = "0068"
down_revision = "0064"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE billing.archive_held_documents (
            hold varchar(60) NOT NULL,
            document_id varchar(40) NOT NULL,
            CONSTRAINT archive_held_documents_pkey PRIMARY KEY (hold, document_id),
            CONSTRAINT archive_held_documents_hold_fkey FOREIGN KEY (hold) REFERENCES billing.archive_holds (name),
            CONSTRAINT archive_held_documents_document_id_fkey FOREIGN KEY (document_id)
                REFERENCES billing.documents (id)
        );
        CREATE INDEX archive_held_documents_by_document ON billing.archive_held_documents (document_id);
        """
    )
    op.execute("GRANT SELECT ON billing.archive_held_documents TO billing_reader, billing_operator")
    op.execute("GRANT INSERT (hold, document_id) ON billing.archive_held_documents TO billing_operator")
