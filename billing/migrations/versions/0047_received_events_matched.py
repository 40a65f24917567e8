"""Events of the inbox are found by the operation that they were matched with.

Why: `billing explain` shows them on its timeline, and must answer at once among millions. What an event costs: one
entry when it is matched. How long it may lock: the index is built CONCURRENTLY, so events come in and are matched
meanwhile; it waits for transactions that began before it, and gives up after 2 s of that. Run it again then: what was
left half built is dropped first. Old events are in it, too. An older version neither needs nor breaks it.
"""

from alembic import op

revision = "0047"
down_revision = "0046"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS billing.received_events_matched")
        op.execute(
            "CREATE INDEX CONCURRENTLY received_events_matched ON billing.received_events (matched_with)"
            " WHERE matched_with IS NOT NULL"
        )
