"""A credit note is voided on request: one more action about an invoice, which names the note.

Why: it is a request with a row, a record and a key of its own, as the other actions are. How long it may lock:
`invoice_actions` and `credit_notes`, while constraints are checked; both tables are of this release, and hold little or
nothing. Old rows name no note, and stay as they are. A running older version knows no such action: its worker
quarantines the work, so replace all workers of `invoices` before the first is asked for.
"""

from alembic import op

revision = "0064"
down_revision = "0063"
branch_labels = None
depends_on = None

SHAPE = "^(?=.{1,255}$)(?!.*_secret)cn_[A-Za-z0-9_]+$"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE billing.invoice_actions"
        " ADD COLUMN credit_note_id varchar(40), ADD COLUMN stripe_credit_note varchar(255),"
        " DROP CONSTRAINT invoice_actions_action_known,"
        " ADD CONSTRAINT invoice_actions_action_known"
        " CHECK (action IN ('pay', 'mark_paid', 'void', 'mark_uncollectible', 'void_credit_note')),"
        " ADD CONSTRAINT invoice_actions_note_if_voided"
        " CHECK (num_nonnulls(credit_note_id, stripe_credit_note)"
        " = CASE WHEN action = 'void_credit_note' THEN 2 ELSE 0 END),"
        f" ADD CONSTRAINT invoice_actions_stripe_credit_note_shape CHECK (stripe_credit_note ~ '{SHAPE}'),"
        " ADD CONSTRAINT invoice_actions_credit_note_id_fkey"
        " FOREIGN KEY (credit_note_id) REFERENCES billing.credit_notes (id)"
    )
    op.execute(
        "CREATE INDEX invoice_actions_by_stripe_credit_note ON billing.invoice_actions (stripe_credit_note)"
        " WHERE stripe_credit_note IS NOT NULL"
    )
    op.execute("GRANT SELECT (stripe_credit_note) ON billing.invoice_actions TO billing_relay")
    op.execute(
        "GRANT INSERT (credit_note_id, stripe_credit_note) ON billing.invoice_actions"
        " TO billing_application, billing_operator"
    )
