"""A switch may have a time from which on it counts as released, and a relay records that release.

Why: a switch that is pulled for two hours should not wait for somebody who forgot it. Old rows have no such time. A
running older worker does not know the column: it obeys the switch until a relay of this version has recorded the
release. How long it may lock: only the catalog changes, for a moment, after at most 2 s of waiting.
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE billing.switches ADD COLUMN expires_at timestamptz")
    op.execute("GRANT INSERT (expires_at), UPDATE (expires_at) ON billing.switches TO billing_operator, billing_worker")
    op.execute("GRANT SELECT ON billing.switches TO billing_relay")
    op.execute("GRANT UPDATE (state, state_since, version) ON billing.switches TO billing_relay")
    op.execute(
        "GRANT INSERT (topic, entity_type, entity_id, entity_version, actor, correlation_id, payload)"
        " ON billing.facts TO billing_relay"
    )
