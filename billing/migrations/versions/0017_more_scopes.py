"""A worker may add to the scopes of a piece of work.

Why: switches stop contracts, queues and currencies, too, and an older relay does not name these on the work that it
plans. A worker that claims such work adds what is missing. Rows that exist stay as they are until then; a running older
version obeys the new scopes wherever they are named. How long it may lock: only the catalog changes, for a moment.
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("GRANT UPDATE (scopes) ON billing.work TO billing_worker")
