"""A switch may be released at a rate: so many pieces of held work continue in an hour.

Why: after an hour of holding, all of it at once is a burst for Stripe and for whoever watches. Old rows have no rate. A
running older relay does not know the columns and makes all held work ready at once, so replace the relays before you
release at a rate. How long it may lock: `work` is not locked, because its index, by which the most urgent held work is
found, is built CONCURRENTLY: it waits for transactions that began before it, and gives up after 2 s of that. Run it
again then: what was left half built is dropped first. On `switches`, which has few rows, all is done in a moment.
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_COLUMNS = "release_per_hour, release_next_at"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS billing.work_held")
        op.create_index(
            "work_held",
            "work",
            ["urgency", "id"],
            schema="billing",
            postgresql_where=sa.text("state = 'held'"),
            postgresql_concurrently=True,
        )
    op.execute(
        "ALTER TABLE billing.switches ADD COLUMN release_per_hour bigint, ADD COLUMN release_next_at timestamptz,"
        " ADD CONSTRAINT switches_paced_if_released CHECK (release_per_hour IS NULL"
        " OR release_per_hour > 0 AND release_next_at IS NOT NULL AND state = 'released')"
    )
    op.execute("CREATE INDEX switches_paced ON billing.switches (id) WHERE release_per_hour IS NOT NULL")
    op.execute(f"GRANT UPDATE ({_COLUMNS}) ON billing.switches TO billing_operator, billing_worker, billing_relay")
