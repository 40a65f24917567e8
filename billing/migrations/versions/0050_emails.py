"""E-mails: what an application wants to be sent, to a recipient who is named by an id.

Why: an e-mail is asked for in the application's own transaction, like a capture, and sent by a worker. No column holds
an address; what an e-mail is about is a bounded object of ids, amounts, dates and numbers. A running older version
knows no e-mails, and leaves their facts to a newer relay. Old rows: there are none. How long it may lock: it makes a
table, and replaces a function.
"""

import sqlalchemy as sa
from alembic import op

revision = "0050"
down_revision = "0049"
branch_labels = None
depends_on = None

ACCOUNT = r"^(?=.{1,255}$)(?!.*_secret)acct_[A-Za-z0-9_]+$"


def upgrade() -> None:
    op.execute(f"""
        CREATE TABLE billing.emails (
            id varchar(40) NOT NULL,
            account varchar(255),
            correlation_id varchar(255),
            reason text,
            version bigint NOT NULL DEFAULT 0,
            state_since timestamptz NOT NULL DEFAULT now(),
            request_id varchar(255) NOT NULL,
            requested_at timestamptz NOT NULL DEFAULT now(),
            template varchar(40) NOT NULL,
            recipient varchar(255) NOT NULL,
            locale varchar(35),
            data jsonb NOT NULL,
            state varchar(20) NOT NULL DEFAULT 'requested',
            provider_message varchar(100),
            CONSTRAINT emails_pkey PRIMARY KEY (id),
            CONSTRAINT emails_account_request_id_key UNIQUE NULLS NOT DISTINCT (account, request_id),
            CONSTRAINT emails_id_shape CHECK (id ~ '^eml_[0-9a-z]+$'),
            CONSTRAINT emails_account_shape CHECK (account ~ '{ACCOUNT}'),
            CONSTRAINT emails_template_shape CHECK (template ~ '^[a-z][a-z0-9_]{{0,39}}$'),
            CONSTRAINT emails_recipient_shape CHECK (recipient ~ '^[A-Za-z0-9_.:-]{{1,128}}$'),
            CONSTRAINT emails_locale_shape CHECK (locale ~ '^[A-Za-z0-9_-]{{2,35}}$'),
            CONSTRAINT emails_data_bounded
                CHECK (jsonb_typeof(data) = 'object' AND length(data::text) <= 8192),
            CONSTRAINT emails_state_known CHECK (state IN ('requested', 'sent', 'refused'))
        )""")
    op.execute("CREATE INDEX emails_correlated ON billing.emails (correlation_id) WHERE correlation_id <> request_id")
    op.execute("CREATE INDEX emails_refused ON billing.emails (id) WHERE state = 'refused'")
    everybody = "billing_application, billing_operator, billing_worker, billing_reader"
    op.execute(f"GRANT SELECT ON billing.emails TO {everybody}")
    op.execute("GRANT SELECT (id, account, state, version, correlation_id) ON billing.emails TO billing_relay")
    op.execute(
        "GRANT INSERT (id, account, correlation_id, version, request_id, template, recipient, locale, data)"
        " ON billing.emails TO billing_application, billing_operator"
    )
    changes = "UPDATE (state, state_since, reason, version{}) ON billing.emails TO billing_{}"
    op.execute("GRANT " + changes.format(", provider_message", "worker"))
    op.execute("GRANT " + changes.format("", "operator"))
    _purge()


def _purge() -> None:
    """Facts of an e-mail that ended long ago may leave Postgres, too. Only this part of the function is replaced."""
    found = sa.text("SELECT pg_get_functiondef(to_regproc('billing.purge_facts'))")
    source: str = op.get_bind().execute(found).scalar_one()
    before = "                         WHEN 'invoice' THEN EXISTS (\n"
    if source.count(before) != 1:
        raise ValueError("billing.purge_facts is not as the migrations before this one have made it")
    op.execute(
        source.replace(
            before,
            "                         WHEN 'email' THEN EXISTS (\n"
            "                           SELECT FROM billing.emails AS e WHERE e.id = f.entity_id"
            " AND e.state_since < before\n"
            "                              AND e.state IN ('sent', 'refused'))\n" + before,
        )
    )
