"""A fact and the work that is planned from it name the trace of the request.

Why: one trace then leads from the application's request through relay and worker to the archive. Old rows have none. A
running older version neither reads nor writes it; what it plans has no trace of the application's. How long it may
lock: only the catalog changes, for a moment, after at most 2 s of waiting.
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE billing.facts ADD COLUMN traceparent varchar(55)")
    op.execute("ALTER TABLE billing.work ADD COLUMN traceparent varchar(55)")
    op.execute(
        "GRANT INSERT (traceparent) ON billing.facts"
        " TO billing_application, billing_relay, billing_worker, billing_operator"
    )
    op.execute("GRANT INSERT (traceparent) ON billing.work TO billing_relay")
