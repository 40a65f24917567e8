"""What becomes of an invoice after it is final: unpaid, given up, voided; what was paid of it, and how often it was
tried.

Why: an invoice may be charged instead of sent, and what happens to any at Stripe afterwards is observed. Old rows: they
have none of these states, and the two new columns are null, so no row is rewritten. An older worker knows no invoice
that is charged: its fact and its work are of version 2, which an older relay leaves unplanned and an older worker does
not claim. It reads a state that it does not know as one that nothing is planned for. How long it may lock: the
constraint is exchanged without reading a row, under a lock that is held for milliseconds; rows are read afterwards,
while others read and write. A function is replaced, by which facts of invoices that ended long ago leave Postgres.
"""

from alembic import op

revision = "0054"
down_revision = "0053"
branch_labels = None
depends_on = None

STATES = (
    *("requested", "drafted", "lines_added", "lines_differ", "finalized", "sent", "unpaid", "paid"),
    *("uncollectible", "voided", "refused"),
)


def upgrade() -> None:
    listed = ", ".join(f"'{state}'" for state in STATES)
    # Each statement is a transaction of its own, and may be run again.
    with op.get_context().autocommit_block():
        op.execute(
            "ALTER TABLE billing.invoices ADD COLUMN IF NOT EXISTS paid_minor bigint,"
            " ADD COLUMN IF NOT EXISTS attempts bigint,"
            " DROP CONSTRAINT IF EXISTS invoices_state_known,"
            " DROP CONSTRAINT IF EXISTS invoices_paid_minor_range"
        )
        op.execute(
            "ALTER TABLE billing.invoices"
            f" ADD CONSTRAINT invoices_state_known CHECK (state IN ({listed})) NOT VALID,"
            " ADD CONSTRAINT invoices_paid_minor_range CHECK (paid_minor <= 999999999999) NOT VALID"
        )
        op.execute("ALTER TABLE billing.invoices VALIDATE CONSTRAINT invoices_state_known")
        op.execute("ALTER TABLE billing.invoices VALIDATE CONSTRAINT invoices_paid_minor_range")
    op.execute("GRANT UPDATE (paid_minor, attempts) ON billing.invoices TO billing_worker")
    for role in ("application", "worker", "reader", "operator"):
        op.execute(f"GRANT SELECT (paid_minor, attempts) ON billing.invoices TO billing_{role}")
    _change_purge()


def _change_purge() -> None:
    """Facts of these invoices may leave Postgres, too. Only this part of the function is replaced."""
    connection = op.get_bind()
    text = connection.exec_driver_sql("SELECT pg_get_functiondef('billing.purge_facts'::regproc)").scalar_one()
    before = "e.state IN ('sent', 'paid')"
    if "'uncollectible'" in text:
        return
    if text.count(before) != 1:
        raise RuntimeError("billing.purge_facts is not as the migrations before this one have made it")
    text = text.replace(before, "e.state IN ('sent', 'unpaid', 'paid', 'uncollectible', 'voided')")
    # Doubled, because the driver takes a single % for the begin of a parameter.
    connection.exec_driver_sql(text.replace("%", "%%"))
