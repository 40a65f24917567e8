"""A worker's login may record that somebody touched work in quarantine, and list by it.

Why: `billing quarantine replay --dry-run` and `--approve` run with a worker's login, because they do what a worker
does. How long it may lock: a grant changes the catalog only. Old rows need nothing, and an older version does not use
it.
"""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "GRANT SELECT, INSERT (work_id, since, touched_by, assignee) ON billing.quarantine_touches TO billing_worker"
    )
