"""Columns bear the names that Stripe and the code give them: authorized, and the version of the contracts.

Why: one spelling and one word for one thing. How long it may lock: only the catalog changes, so each table is locked
for a moment, and the migration gives up after 2 s of waiting for that. A process of the version before meets columns
that it does not know: relays, workers and archivers wait and go on once they are replaced, and lose nothing; an
application that asks with the old version gets UndefinedColumn and writes nothing. So replace the application and the
processes together with this migration.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE billing.captures RENAME COLUMN authorised_minor TO authorized_minor")
    op.execute("ALTER TABLE billing.captures RENAME COLUMN authorised_currency TO authorized_currency")
    for rest in ("minor_range", "currency_shape"):
        old, new = f"captures_authorised_{rest}", f"captures_authorized_{rest}"
        op.execute(f"ALTER TABLE billing.captures RENAME CONSTRAINT {old} TO {new}")
    op.execute("ALTER INDEX billing.captures_one_per_authorisation RENAME TO captures_one_per_authorization")
    op.execute("ALTER TABLE billing.facts RENAME COLUMN menu TO planned_version")
    # A call in hand is found again by the name of its step; those that are concluded stay as they were.
    op.execute(
        "UPDATE billing.idempotency_records SET step = 'read_authorization'"
        " WHERE step = 'read_authorisation' AND concluded_at IS NULL"
    )
