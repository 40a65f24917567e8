"""An operator who discards work says since when its capture or invoice is refused.

Why: a status shows that time. How long it may lock: a grant changes the catalog only. An older version does not use it.
"""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("GRANT UPDATE (state_since) ON billing.captures, billing.invoices TO billing_operator")
