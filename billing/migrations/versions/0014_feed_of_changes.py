"""An application may read of a fact what the feed of changes tells it: which operation came to which state, and when.

Why: `billing.changes`. Neither payload nor actor is among it. How long it may lock: a grant takes no lock that a reader
or writer waits for. Additive: a running older version has its rights, and only its doctor finds one too many.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

SEEN = "id, topic, entity_type, entity_id, entity_version, correlation_id, happened_at"


def upgrade() -> None:
    op.execute(f"GRANT SELECT ({SEEN}) ON billing.facts TO billing_application")
