"""A refund may undo a capture that is not over yet: it waits for the end of that, and gives back what was taken.

Why: such a refund must not be sent before its capture has taken the money, and a worker has to see that in its row. Old
refunds compensate nothing. How long it may lock: `refunds`, to add a column with a constant, which changes only the
catalog. A running older version writes refunds without it; the fact of one with it has version 2, which older relays
leave to newer ones, so no older worker carries it out.
"""

from alembic import op

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE billing.refunds ADD COLUMN compensates boolean NOT NULL DEFAULT false")
    op.execute("GRANT INSERT (compensates) ON billing.refunds TO billing_application, billing_operator")
