"""What a list of duplicate drafts found is a column, its steps bear that name, and a fingerprint may be missing.

Why: the ids stood in the text of a conclusion, to be parsed, and one thing had two names. The fingerprint of a request
repeated what stands beside it, and nothing read it: it is no longer written, and a later migration drops it.

How long it may lock: the table of records for a moment, because only the catalog changes; it gives up after 2 s of
waiting for that. Then the records of invoices that are not final are renamed in one statement, by way of the invoices;
only a worker that settles one of these waits. Records of final invoices, and facts, keep the old names.

What a running worker of the version before sees: an open step whose name it does not know quarantines its invoice, and
`billing quarantine replay` puts it back. It does not find a concluded list either, so it lists and deletes again, which
changes nothing at Stripe. It goes on writing fingerprints.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

COLUMNS = """
    ALTER TABLE billing.idempotency_records
        ADD COLUMN IF NOT EXISTS found_objects text[], ALTER COLUMN fingerprint DROP NOT NULL
    """
GRANTS = """
    GRANT SELECT (found_objects) ON billing.idempotency_records TO billing_operator, billing_worker, billing_reader;
    GRANT UPDATE (found_objects) ON billing.idempotency_records TO billing_worker
    """
RENAME = r"""
    UPDATE billing.idempotency_records AS record
       SET step = replace(replace(step, 'list_strays_', 'list_duplicate_drafts_'),
                          'delete_stray:', 'delete_duplicate_draft:'),
           found_objects = CASE WHEN conclusion LIKE 'strays:%'
                                THEN string_to_array(substr(conclusion, length('strays:') + 1), ' ') END,
           conclusion = CASE WHEN conclusion LIKE 'strays:%' THEN 'succeeded' ELSE conclusion END
      FROM billing.invoices AS invoice
     WHERE invoice.id = operation_id
       AND (invoice.state NOT IN ('sent', 'paid', 'refused') OR concluded_at IS NULL)
       AND (step LIKE 'list\_strays\_%' OR step LIKE 'delete\_stray:%')
    """


def upgrade() -> None:
    # In transactions of their own: the lock on the whole table ends before rows are looked for.
    with op.get_context().autocommit_block():
        op.execute(COLUMNS)
        for grant in GRANTS.split(";"):
            op.execute(grant)
    op.execute(RENAME)
