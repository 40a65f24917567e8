"""The bound of refunds is checked for old captures.

Why: a constraint that is not checked is no promise. How long it may lock: checking reads all captures and stops nobody;
it waits for other changes of the table, and gives up after 2 s of that: run it again then. Old captures have the sum 0.
An older version needs nothing.
"""

from alembic import op

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE billing.captures VALIDATE CONSTRAINT captures_refunds_bounded")
