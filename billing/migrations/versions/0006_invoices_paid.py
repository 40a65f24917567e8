"""An invoice may end as paid: a customer's credit balance, or somebody elsewhere, paid it before it was sent.

Why: Stripe does not send what is paid, so such an invoice could never become `sent`. How long it may lock: the new
constraint is added without reading a row, under a lock that is held for milliseconds; the rows are then read in a
transaction of its own under a lock that stops no reader and no writer. Additive: every row of an older version is
still allowed, and an older version reads a state that it does not know as one that nothing is planned for.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATES = ("requested", "drafted", "lines_added", "lines_differ", "finalized", "sent", "paid", "refused")


def upgrade() -> None:
    listed = ", ".join(f"'{state}'" for state in STATES)
    op.execute("ALTER TABLE billing.invoices DROP CONSTRAINT IF EXISTS invoices_state_known")
    op.execute(
        f"ALTER TABLE billing.invoices ADD CONSTRAINT invoices_state_known CHECK (state IN ({listed})) NOT VALID"
    )
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE billing.invoices VALIDATE CONSTRAINT invoices_state_known")
