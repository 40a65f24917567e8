"""Work names its operation in `entity_id` alone; `arguments`, which repeated it, need not be written any more.

Why: nothing has ever read it. How long it may lock: only the catalog changes, for a moment, after at most 2 s of
waiting. The column stays, because a running older version selects and writes it; a later migration drops it.
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE billing.work ALTER COLUMN arguments SET DEFAULT '{}'")
