"""Documents: the PDF of each finalized invoice, and where it lies in the archive's bucket.

Why: a seller must keep what was sent. A row is written in the transaction that learns that an invoice is finalized, by
a worker, or later by a schedule or an operator. No column holds an address, a text or a link. Facts about documents,
and about what else belongs to an invoice, are archived in its class, because they say what the locked object must be;
no such fact exists yet. The index that finds what waits by class is built anew, CONCURRENTLY, as in migration 0037: it
waits for transactions that began before it, and gives up after 2 s of that; run it again then. Functions that repeat
the class change in the catalog, for a moment. An older worker writes no rows here, and the schedule finds what it left
out; an older relay leaves facts about documents to a newer one; an older archiver would archive them as `admin`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0058"
down_revision = "0057"
branch_labels = None
depends_on = None

ACCOUNT = r"^(?=.{1,255}$)(?!.*_secret)acct_[A-Za-z0-9_]+$"
CLASS = (
    "(CASE WHEN split_part(topic, '.', 2) IN ('attempted', 'attempt_lapsed', 'looked', 'late_answer') THEN 'attempt'"
    " WHEN entity_type IN ('capture', 'void', 'refund') THEN 'capture'"
    " WHEN entity_type IN ('invoice', 'invoice_action', 'credit_note', 'document') THEN 'invoice' ELSE 'admin' END)"
)
_OF_INVOICES = "ANY (ARRAY['invoice', 'invoice_action', 'credit_note', 'document'])"
CHANGES = {
    "remove_concluded": (
        (
            "    WHEN entity_type = 'invoice' THEN 'invoice'\n",
            f"    WHEN entity_type = {_OF_INVOICES} THEN 'invoice'\n",
        ),
    ),
    "purge_facts": (
        *(
            (
                f"WHEN {name}.entity_type = 'invoice'\n    THEN 'invoice'\n",
                f"WHEN {name}.entity_type = {_OF_INVOICES}\n    THEN 'invoice'\n",
            )
            for name in "fo"
        ),
        (
            "                         WHEN 'invoice' THEN EXISTS (\n",
            "                         WHEN 'document' THEN EXISTS (\n"
            "                           SELECT FROM billing.documents AS d WHERE d.id = f.entity_id"
            " AND d.state_since < before\n"
            "                              AND d.state = 'stored')\n"
            "                         WHEN 'invoice' THEN EXISTS (\n",
        ),
    ),
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS billing.facts_unarchived_by_new_class")
        op.create_index(
            "facts_unarchived_by_new_class",
            "facts",
            [sa.text(CLASS), "id"],
            schema="billing",
            postgresql_where=sa.text("batch_no IS NULL AND planned_version IS NOT NULL"),
            postgresql_concurrently=True,
        )
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS billing.facts_unarchived_by_class")
        op.execute("ALTER INDEX billing.facts_unarchived_by_new_class RENAME TO facts_unarchived_by_class")
    # Last, because what comes before is committed at once, and is done again if a later part fails.
    op.execute(f"""
        CREATE TABLE billing.documents (
            id varchar(40) NOT NULL,
            account varchar(255),
            correlation_id varchar(255),
            reason text,
            version bigint NOT NULL DEFAULT 0,
            state_since timestamptz NOT NULL DEFAULT now(),
            request_id varchar(255) NOT NULL,
            requested_at timestamptz NOT NULL DEFAULT now(),
            invoice_id varchar(40) NOT NULL,
            kind varchar(40) NOT NULL,
            stripe_object varchar(255) NOT NULL,
            state varchar(20) NOT NULL DEFAULT 'requested',
            sha256 varchar(64),
            size_bytes bigint,
            object_key varchar(255),
            object_version varchar(255),
            lock_mode varchar(20),
            locked_until timestamptz,
            CONSTRAINT documents_pkey PRIMARY KEY (id),
            CONSTRAINT documents_account_request_id_key UNIQUE NULLS NOT DISTINCT (account, request_id),
            CONSTRAINT documents_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES billing.invoices (id),
            CONSTRAINT documents_id_shape CHECK (id ~ '^doc_[0-9a-z]+$'),
            CONSTRAINT documents_account_shape CHECK (account ~ '{ACCOUNT}'),
            CONSTRAINT documents_kind_known CHECK (kind IN ('invoice_pdf', 'credit_note_pdf')),
            CONSTRAINT documents_stripe_object_shape CHECK (stripe_object ~ '^(in|cn)_[A-Za-z0-9_]{{1,250}}$'),
            CONSTRAINT documents_sha256_shape CHECK (sha256 ~ '^[0-9a-f]{{64}}$'),
            CONSTRAINT documents_size_positive CHECK (size_bytes > 0),
            CONSTRAINT documents_stored_is_known CHECK (state <> 'stored' OR num_nonnulls(
                sha256, size_bytes, object_key, object_version, lock_mode, locked_until) = 6),
            CONSTRAINT documents_state_known CHECK (state IN ('requested', 'stored', 'refused'))
        )""")
    op.execute("CREATE UNIQUE INDEX documents_one_per_stripe_object ON billing.documents (stripe_object)")
    op.execute("CREATE INDEX documents_by_invoice ON billing.documents (invoice_id)")
    op.execute(
        "CREATE INDEX documents_correlated ON billing.documents (correlation_id) WHERE correlation_id <> request_id"
    )
    op.execute("CREATE INDEX documents_not_stored ON billing.documents (state, id) WHERE state <> 'stored'")
    everybody = "billing_application, billing_operator, billing_worker, billing_reader"
    op.execute(f"GRANT SELECT ON billing.documents TO {everybody}")
    op.execute("GRANT SELECT (id, account, state, version, correlation_id) ON billing.documents TO billing_relay")
    op.execute(
        "GRANT INSERT (id, account, correlation_id, version, request_id, invoice_id, kind, stripe_object)"
        " ON billing.documents TO billing_worker, billing_operator"
    )
    stored = "sha256, size_bytes, object_key, object_version, lock_mode, locked_until"
    op.execute(f"GRANT UPDATE (state, state_since, reason, version, {stored}) ON billing.documents TO billing_worker")
    op.execute("GRANT UPDATE (state, state_since, reason, version) ON billing.documents TO billing_operator")
    for name, changes in CHANGES.items():
        _change(name, changes)


def _change(function: str, changes: tuple[tuple[str, str], ...]) -> None:
    """Replace parts of a function, whatever other migrations changed in it. Its rights and its owner stay."""
    found = sa.text("SELECT pg_get_functiondef(to_regproc(:name))")
    source = op.get_bind().execute(found, {"name": f"billing.{function}"}).scalar_one()
    for before, after in changes:
        if source.count(before) != 1:
            raise ValueError(f"billing.{function} is not as the migrations before this one have made it")
        source = source.replace(before, after)
    op.execute(source)
