"""What is done with an invoice that has its number, on request: charge it, mark it paid, void it, give it up.

Why: each is a request with a row, a record and a key of its own, asked for in the application's own transaction. Facts
about them are archived in the class of invoices, since migration 0058, and an older archiver would archive them as
`admin`: replace all archivers before the first request. A running older version knows no such requests, and leaves
their facts to a newer relay. Old rows: there are none. How long it may lock: it makes a table, and replaces a function,
by which facts of what ended long ago leave Postgres.
"""

import sqlalchemy as sa
from alembic import op

revision = "0059"
down_revision = "0058"
branch_labels = None
depends_on = None

SHAPE = r"^(?=.{{1,255}}$)(?!.*_secret){}_[A-Za-z0-9_]+$"


def upgrade() -> None:
    op.execute(f"""
        CREATE TABLE billing.invoice_actions (
            id varchar(40) NOT NULL,
            account varchar(255),
            correlation_id varchar(255),
            reason text,
            version bigint NOT NULL DEFAULT 0,
            state_since timestamptz NOT NULL DEFAULT now(),
            request_id varchar(255) NOT NULL,
            requested_at timestamptz NOT NULL DEFAULT now(),
            invoice_id varchar(40) NOT NULL,
            action varchar(20) NOT NULL,
            stripe_invoice varchar(255) NOT NULL,
            amount_minor bigint NOT NULL,
            currency varchar(3) NOT NULL,
            payment_method varchar(255),
            state varchar(20) NOT NULL DEFAULT 'requested',
            CONSTRAINT invoice_actions_pkey PRIMARY KEY (id),
            CONSTRAINT invoice_actions_account_request_id_key UNIQUE NULLS NOT DISTINCT (account, request_id),
            CONSTRAINT invoice_actions_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES billing.invoices (id),
            CONSTRAINT invoice_actions_action_known
                CHECK (action IN ('pay', 'mark_paid', 'void', 'mark_uncollectible')),
            CONSTRAINT invoice_actions_method_if_paid CHECK (payment_method IS NULL OR action = 'pay'),
            CONSTRAINT invoice_actions_amount_not_negative CHECK (amount_minor >= 0),
            CONSTRAINT invoice_actions_id_shape CHECK (id ~ '^iac_[0-9a-z]+$'),
            CONSTRAINT invoice_actions_account_shape CHECK (account ~ '{SHAPE.format("acct")}'),
            CONSTRAINT invoice_actions_stripe_invoice_shape CHECK (stripe_invoice ~ '{SHAPE.format("in")}'),
            CONSTRAINT invoice_actions_payment_method_shape CHECK (payment_method ~ '{SHAPE.format("pm")}'),
            CONSTRAINT invoice_actions_amount_minor_range CHECK (amount_minor <= 999999999999),
            CONSTRAINT invoice_actions_currency_shape CHECK (currency ~ '^[A-Z]{{3}}$'),
            CONSTRAINT invoice_actions_state_known CHECK (state IN ('requested', 'done', 'declined', 'refused'))
        )""")
    op.execute("CREATE INDEX invoice_actions_by_stripe_invoice ON billing.invoice_actions (stripe_invoice)")
    op.execute(
        "CREATE INDEX invoice_actions_correlated ON billing.invoice_actions (correlation_id)"
        " WHERE correlation_id <> request_id"
    )
    everybody = "billing_application, billing_operator, billing_worker, billing_reader"
    op.execute(f"GRANT SELECT ON billing.invoice_actions TO {everybody}")
    op.execute(
        "GRANT SELECT (id, account, state, version, correlation_id, stripe_invoice, amount_minor, currency),"
        " UPDATE (version) ON billing.invoice_actions TO billing_relay"
    )
    op.execute(
        "GRANT INSERT (id, account, correlation_id, version, request_id, invoice_id, action, stripe_invoice,"
        " amount_minor, currency, payment_method) ON billing.invoice_actions TO billing_application, billing_operator"
    )
    changes = "GRANT UPDATE (state, state_since, reason, version) ON billing.invoice_actions"
    op.execute(f"{changes} TO billing_worker, billing_operator")
    _purge()


def _purge() -> None:
    """Facts of an action that ended long ago may leave Postgres, too. Only this part of the function is replaced."""
    found = sa.text("SELECT pg_get_functiondef(to_regproc('billing.purge_facts'))")
    source: str = op.get_bind().execute(found).scalar_one()
    before = "                         WHEN 'invoice' THEN EXISTS (\n"
    if source.count(before) != 1:
        raise ValueError("billing.purge_facts is not as the migrations before this one have made it")
    op.execute(
        source.replace(
            before,
            "                         WHEN 'invoice_action' THEN EXISTS (\n"
            "                           SELECT FROM billing.invoice_actions AS e WHERE e.id = f.entity_id"
            " AND e.state_since < before\n"
            "                              AND e.state IN ('done', 'declined', 'refused'))\n" + before,
        )
    )
