"""An index of the events that name an operation which is not known here.

Why: a relay counts those of the last day for an alarm, among all events of thirty days. How long it may lock: the index
is built CONCURRENTLY, so webhooks are taken meanwhile; it waits for transactions that began before it, and gives up
after 2 s of that. Run it again then: what was left half done is dropped first. An older version does not use it.
"""

from alembic import op

revision = "0049"
down_revision = "0048"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS billing.received_events_strange")
        op.execute(
            "CREATE INDEX CONCURRENTLY received_events_strange ON billing.received_events (received_at)"
            " WHERE state = 'unknown' AND (operation_id IS NOT NULL OR caused_by IS NOT NULL)"
        )
