"""An index of the captures that a schedule warns of, and the constraints of 0041 hold for rows from before.

Why: among millions of captures the few whose authorization lapses soon are found at once. How long it may lock: the
index is built CONCURRENTLY, so captures are asked for and taken meanwhile; it waits for transactions that began before
it, and gives up after 2 s of that. Run it again then: what was left half done is dropped first. VALIDATE reads the
table, and nobody who reads or writes rows waits for it. An older version neither uses nor fills the column.
"""

from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

CONSTRAINTS = ("application_fee_minor_range", "transfer_minor_range", "fee_or_transfer", "callers_metadata_bounded")


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS billing.captures_to_warn_of")
        op.execute(
            "CREATE INDEX CONCURRENTLY captures_to_warn_of ON billing.captures (capture_before)"
            " WHERE state = 'requested' AND warned_at IS NULL AND capture_before IS NOT NULL"
        )
        for name in CONSTRAINTS:
            op.execute(f"ALTER TABLE billing.captures VALIDATE CONSTRAINT captures_{name}")
