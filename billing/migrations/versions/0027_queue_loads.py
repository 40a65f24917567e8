"""How loaded each queue is, as a relay measures it.

Why: workers hold back work that may wait while other work is late, and an application asks for room before a bulk
request; both must read it without counting rows. Older workers and relays do not know the table: they hold nothing
back, and measure nothing. How long it may lock: a new table locks no other, and the grant only the catalog.
"""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE billing.queue_loads (
            queue varchar(40) NOT NULL,
            measured_at timestamptz NOT NULL,
            waiting bigint NOT NULL,
            lag_s double precision NOT NULL,
            started bigint NOT NULL,
            starts_per_s double precision NOT NULL,
            behind_since timestamptz,
            CONSTRAINT queue_loads_pkey PRIMARY KEY (queue)
        )
        """
    )
    columns = "queue, measured_at, waiting, lag_s, started, starts_per_s, behind_since"
    op.execute("GRANT SELECT ON billing.queue_loads TO billing_relay, billing_reader, billing_operator")
    op.execute(f"GRANT INSERT ({columns}), UPDATE ({columns}) ON billing.queue_loads TO billing_relay")
    op.execute("GRANT SELECT (queue, measured_at, behind_since) ON billing.queue_loads TO billing_worker")
    op.execute("GRANT SELECT (queue, measured_at, waiting, starts_per_s) ON billing.queue_loads TO billing_application")
    op.execute("GRANT SELECT (generation) ON billing.idempotency_records TO billing_relay")
