"""Work has seven states: `failed` was never written, because what a machine gives up on is quarantined.

Why: a state that nothing comes to is a question to every reader. How long it may lock: the new constraint is added
without reading a row, under a lock that is held for milliseconds; the rows are then read in a transaction of its own
under a lock that stops no reader and no writer. No version has ever written the state, so old rows and a running older
version hold the new constraint.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

STATES = ("ready", "running", "waiting", "held", "parked", "quarantined", "done")


def upgrade() -> None:
    listed = ", ".join(f"'{state}'" for state in STATES)
    op.execute("ALTER TABLE billing.work DROP CONSTRAINT IF EXISTS work_state_known")
    op.execute(f"ALTER TABLE billing.work ADD CONSTRAINT work_state_known CHECK (state IN ({listed})) NOT VALID")
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE billing.work VALIDATE CONSTRAINT work_state_known")
