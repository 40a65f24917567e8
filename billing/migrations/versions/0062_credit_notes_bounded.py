"""The bounds of what is credited are checked for old invoices.

Why: a constraint that is not checked is no promise. How long it may lock: checking reads all invoices, and stops
nobody; it waits for other changes of the table, and gives up after 2 s of that: run it again then. Old invoices
fulfill them: nothing was credited. An older version needs nothing.
"""

from alembic import op

revision = "0062"
down_revision = "0061"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("returned_bounded", "credited_bounded"):
        op.execute(f"ALTER TABLE billing.invoices VALIDATE CONSTRAINT invoices_{name}")
