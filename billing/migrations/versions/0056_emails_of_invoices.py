"""Workers write the e-mail of an invoice that they finalize, for accounts of which a setting says so.

Why: who e-mails an invoice, Stripe or this service, is known to the worker that learns that it is finalized, and
it must be written in that transaction. Old rows: none change. How long it may lock: it only grants.
"""

from alembic import op

revision = "0056"
down_revision = "0055"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "GRANT INSERT (id, account, correlation_id, version, request_id, template, recipient, data)"
        " ON billing.emails TO billing_worker"
    )
