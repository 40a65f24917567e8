"""A relay may read what its metrics are about: amounts, currencies and deadlines, and how long a call is in doubt.

Why: it counts the money that is in doubt, held or at risk (jobs/metrics/reading.sql). How long it may lock: grants take
no lock that a statement waits for. A relay of the version before does not use them; a newer one on a database without
them counts what it could not read, and works.
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("GRANT SELECT (id, state, amount_minor, currency, capture_before) ON billing.captures TO billing_relay")
    op.execute("GRANT SELECT (id, total_minor, currency) ON billing.invoices TO billing_relay")
    op.execute("GRANT SELECT (operation_id, first_sent_at, parked_at) ON billing.idempotency_records TO billing_relay")
