"""What Stripe's ledger says becomes facts: which of its entries were told, and from when on each can be paid out.

Why: finance reads the archive, and fees, net amounts and payouts were in Postgres alone. The cursor of the archive lies
beside those of Stripe's lists, and a relay tells them apart. How long it may lock: the columns are empty, so adding
them takes an instant; the indexes are built CONCURRENTLY and wait for transactions that began before them, both for 2 s
at most. Run it again then: what was left half done is dropped first. Old rows are told by the next pass. An older
version neither reads nor fills the columns; what it mirrors meanwhile is told by a newer one.
"""

from alembic import op

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None

INDEXES = {
    "stripe_records_paid_out": ("account, payout, id", "payout IS NOT NULL"),
    "stripe_records_kept": ("account, created_at, id", "payout IS NULL"),
}


def upgrade() -> None:
    op.execute(
        "ALTER TABLE billing.stripe_records ADD COLUMN IF NOT EXISTS available_at timestamptz,"
        " ADD COLUMN IF NOT EXISTS told_at timestamptz"
    )
    for kind in ("worker", "operator"):
        op.execute(f"GRANT UPDATE (available_at, told_at) ON billing.stripe_records TO billing_{kind}")
    op.execute("GRANT SELECT (list) ON billing.stripe_cursors TO billing_relay")
    with op.get_context().autocommit_block():
        for name, (columns, only) in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS billing.{name}")
            op.execute(
                f"CREATE INDEX CONCURRENTLY {name} ON billing.stripe_records ({columns})"
                f" WHERE object = 'balance_transaction' AND told_at IS NULL AND {only}"
            )
