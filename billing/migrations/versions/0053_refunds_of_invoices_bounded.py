"""The rules about refunds of invoices are checked for old rows.

Why: a constraint that is not checked is no promise. How long it may lock: checking reads all refunds and all invoices,
and stops nobody; it waits for other changes of the tables, and gives up after 2 s of that: run it again then. Old rows
fulfill them: refunds of captures, and invoices of which nothing was given back. An older version needs nothing.
"""

from alembic import op

revision = "0053"
down_revision = "0052"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("invoice_id_fkey", "stripe_invoice_shape", "of_one"):
        op.execute(f"ALTER TABLE billing.refunds VALIDATE CONSTRAINT refunds_{name}")
    op.execute("ALTER TABLE billing.invoices VALIDATE CONSTRAINT invoices_returned_bounded")
