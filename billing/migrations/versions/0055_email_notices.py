"""E-mails that bounced, and complaints about them: two more states, found by what mail servers tell.

Why: a mail server accepts an e-mail, and finds out later that nobody gets it. What it tells is put into the inbox of
events, where a relay finds the e-mail by its own id or by the id that Amazon SES gave it, and a worker reads what was
told. An operator may put in what stands in a mailbox. A running older version reads the two states as texts that it
does not know, in rows that are over. Old rows stay as they are. How long it may lock: it adds a constraint that holds
for every row, and two small indexes, to a table that is new in this version.
"""

import sqlalchemy as sa
from alembic import op

revision = "0055"
down_revision = "0054"
branch_labels = None
depends_on = None

PUT = (
    "id, type, thin, account, livemode, api_version, created_at, object_id, payment_intent, charge, invoice,"
    " operation_id, caused_by, source"
)


def upgrade() -> None:
    op.execute("ALTER TABLE billing.emails DROP CONSTRAINT emails_state_known")
    op.execute(
        "ALTER TABLE billing.emails ADD CONSTRAINT emails_state_known"
        " CHECK (state IN ('requested', 'sent', 'bounced', 'complained', 'refused'))"
    )
    op.execute("CREATE INDEX emails_bounced ON billing.emails (id) WHERE state IN ('bounced', 'complained')")
    op.execute(
        "CREATE INDEX emails_provider_message ON billing.emails (provider_message) WHERE provider_message IS NOT NULL"
    )
    op.execute("GRANT SELECT (provider_message), UPDATE (version) ON billing.emails TO billing_relay")
    op.execute("GRANT SELECT (id, type, source, matched_with) ON billing.received_events TO billing_worker")
    op.execute(f"GRANT INSERT ({PUT}) ON billing.received_events TO billing_operator")
    _purge()


def _purge() -> None:
    """Facts of an e-mail that bounced long ago may leave Postgres, too. Only this part of the function is replaced."""
    found = sa.text("SELECT pg_get_functiondef(to_regproc('billing.purge_facts'))")
    source: str = op.get_bind().execute(found).scalar_one()
    before = "AND e.state IN ('sent', 'refused'))"
    if source.count(before) != 1:
        raise ValueError("billing.purge_facts is not as the migrations before this one have made it")
    op.execute(source.replace(before, "AND e.state IN ('sent', 'bounced', 'complained', 'refused'))"))
