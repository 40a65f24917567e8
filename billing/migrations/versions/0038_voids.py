"""Voids: requests to give back what an authorization holds, one for each authorization.

Why: an application could only capture, or let the authorization lapse while the customer's money stayed held. An
authorization that a void has cannot be captured, and the reverse: each request looks at the other table before it
writes, so the application's login may read both. Old rows need nothing. An older version beside this one knows no
voids: its relays leave their facts unplanned, its workers do not claim their work, and its application may ask for a
capture beside a void; then one of the two wins at Stripe, as always. Two functions of the owner's learn of them, so
that their facts are purged, and what they say in words is erased, as with captures. How long it may lock: a new table
locks no other; the functions only the catalog, for a moment.
"""

from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE billing.voids (
            id varchar(40) NOT NULL,
            account varchar(255),
            correlation_id varchar(255),
            request_id varchar(255) NOT NULL,
            requested_at timestamptz NOT NULL DEFAULT now(),
            payment_intent varchar(255) NOT NULL,
            cancellation_reason varchar(40) NOT NULL,
            held_minor bigint,
            currency varchar(3),
            state varchar(20) NOT NULL DEFAULT 'requested',
            reason text,
            version bigint NOT NULL DEFAULT 0,
            state_since timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT voids_pkey PRIMARY KEY (id),
            CONSTRAINT voids_account_request_id_key UNIQUE NULLS NOT DISTINCT (account, request_id),
            CONSTRAINT voids_id_shape CHECK (id ~ '^void_[0-9a-z]+$'),
            CONSTRAINT voids_payment_intent_shape
                CHECK (payment_intent ~ '^(?=.{1,255}$)(?!.*_secret)pi_[A-Za-z0-9_]+$'),
            CONSTRAINT voids_account_shape CHECK (account ~ '^(?=.{1,255}$)(?!.*_secret)acct_[A-Za-z0-9_]+$'),
            CONSTRAINT voids_cancellation_reason_known CHECK (
                cancellation_reason IN ('duplicate', 'fraudulent', 'requested_by_customer', 'abandoned')),
            CONSTRAINT voids_held_not_negative CHECK (held_minor >= 0),
            CONSTRAINT voids_held_minor_range CHECK (held_minor <= 999999999999),
            CONSTRAINT voids_currency_shape CHECK (currency ~ '^[A-Z]{3}$'),
            CONSTRAINT voids_state_known CHECK (state IN ('requested', 'voided', 'refused', 'expired'))
        )
        """
    )
    op.execute(
        "CREATE UNIQUE INDEX voids_one_per_authorization ON billing.voids (account, payment_intent)"
        " NULLS NOT DISTINCT WHERE state NOT IN ('refused')"
    )
    op.execute("CREATE INDEX voids_by_payment_intent ON billing.voids (payment_intent)")
    op.execute("CREATE INDEX voids_correlated ON billing.voids (correlation_id) WHERE correlation_id <> request_id")
    op.execute(
        "GRANT SELECT ON billing.voids TO billing_application, billing_worker, billing_reader, billing_operator;"
        " GRANT SELECT (id, held_minor, currency) ON billing.voids TO billing_relay;"
        " GRANT INSERT (id, account, correlation_id, version, request_id, payment_intent, cancellation_reason)"
        " ON billing.voids TO billing_application, billing_operator;"
        " GRANT UPDATE (state, state_since, reason, version, held_minor, currency) ON billing.voids TO billing_worker;"
        " GRANT UPDATE (state, state_since, reason, version) ON billing.voids TO billing_operator"
    )
    _change(
        "purge_facts",
        (
            "WHEN 'switch' THEN EXISTS (",
            "WHEN 'void' THEN EXISTS ("
            " SELECT FROM billing.voids AS e WHERE e.id = f.entity_id AND e.state_since < before"
            " AND e.state IN ('voided', 'refused', 'expired')) WHEN 'switch' THEN EXISTS (",
        ),
    )
    _change(
        "erase_texts",
        (
            "FROM billing.captures AS c WHERE c.id = ANY (ids)",
            "FROM billing.captures AS c WHERE c.id = ANY (ids) UNION ALL"
            " SELECT v.id, v.state_since, v.state IN ('voided', 'refused', 'expired')"
            " FROM billing.voids AS v WHERE v.id = ANY (ids)",
        ),
        ("IN ('capture', 'invoice'", "IN ('capture', 'void', 'invoice'"),
    )


def _change(function: str, *changes: tuple[str, str]) -> None:
    """Change parts of a function's text, wherever they stand in it; the rest stays as earlier migrations made it.
    CREATE OR REPLACE keeps who may call it."""
    connection = op.get_bind()
    found = "SELECT pg_get_functiondef(p.oid) FROM pg_proc AS p WHERE p.oid = CAST(CAST(%s AS regproc) AS oid)"
    text = connection.exec_driver_sql(found, (f"billing.{function}",)).scalar_one()
    for before, after in changes:
        if before not in text:
            raise RuntimeError(f"billing.{function} is not as earlier migrations made it: {before!r} is missing")
        text = text.replace(before, after)
    # Doubled, because the driver takes a single % for the begin of a parameter.
    connection.exec_driver_sql(text.replace("%", "%%"))
