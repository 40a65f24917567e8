"""Stripe's own records of money are mirrored, and where they differ from our rows is a row.

Why: money that moved without us, twice, or not at all shows only in Stripe's ledger. Three tables: the mirror, how far
it was read and compared, and the differences. A mirror has no foreign keys to operations, because what is missing is
what is looked for. How long it may lock: new tables lock no other. Old rows are not concerned: the first pass reads and
compares what is older, as far back as the installation goes. An older version does not know the tables; beside it a
newer one compares its rows like any others.
"""

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE billing.stripe_records (
            id varchar(255) NOT NULL,
            object varchar(80) NOT NULL,
            account varchar(255) NOT NULL,
            livemode boolean,
            type varchar(80),
            state varchar(80),
            amount_minor bigint,
            fee_minor bigint,
            net_minor bigint,
            currency varchar(3),
            operation_id varchar(40),
            payment_intent varchar(255),
            source varchar(255),
            payout varchar(255),
            created_at timestamptz NOT NULL,
            seen_at timestamptz NOT NULL,
            CONSTRAINT stripe_records_pkey PRIMARY KEY (id)
        )
        """
    )
    for name, columns, only in (
        ("by_operation", "operation_id", "operation_id IS NOT NULL"),
        ("by_intent", "payment_intent", "payment_intent IS NOT NULL"),
        ("by_source", "source", "source IS NOT NULL"),
        ("by_payout", "payout", "payout IS NOT NULL"),
        ("by_time", "account, created_at", ""),
        ("payouts", "account, created_at", "object = 'payout'"),
    ):
        where = f" WHERE {only}" if only else ""
        op.execute(f"CREATE INDEX stripe_records_{name} ON billing.stripe_records ({columns}){where}")
    op.execute(
        """
        CREATE TABLE billing.stripe_cursors (
            account varchar(255) NOT NULL,
            list varchar(40) NOT NULL,
            covered_from timestamptz NOT NULL,
            covered_until timestamptz NOT NULL,
            window_until timestamptz,
            after_id varchar(255),
            compared_until timestamptz NOT NULL,
            CONSTRAINT stripe_cursors_pkey PRIMARY KEY (account, list),
            CONSTRAINT stripe_cursors_covered_in_order CHECK (covered_from <= covered_until),
            CONSTRAINT stripe_cursors_page_of_a_window CHECK (after_id IS NULL OR window_until IS NOT NULL)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE billing.differences (
            id varchar(40) NOT NULL,
            class varchar(40) NOT NULL,
            subject varchar(255) NOT NULL,
            stripe_id varchar(255),
            account varchar(255) NOT NULL,
            amount_minor bigint,
            currency varchar(3),
            what text NOT NULL,
            state varchar(20) NOT NULL DEFAULT 'open',
            state_since timestamptz NOT NULL,
            first_seen_at timestamptz NOT NULL,
            last_seen_at timestamptz NOT NULL,
            closed_by varchar(255),
            closed_because text,
            CONSTRAINT differences_pkey PRIMARY KEY (id),
            CONSTRAINT differences_class_subject_key UNIQUE (class, subject),
            CONSTRAINT differences_id_shape CHECK (id ~ '^dif_[0-9a-z]+$'),
            CONSTRAINT differences_state_known CHECK (state IN ('open', 'gone', 'closed'))
        )
        """
    )
    op.execute("CREATE INDEX differences_open ON billing.differences (class, first_seen_at) WHERE state = 'open'")
    op.execute("CREATE INDEX differences_by_subject ON billing.differences (subject)")

    reading = "billing.stripe_records, billing.stripe_cursors, billing.differences"
    op.execute(f"GRANT SELECT ON {reading} TO billing_worker, billing_reader, billing_operator")
    # A relay exports how many are open, and how far Stripe was compared.
    op.execute("GRANT SELECT (class, state, first_seen_at) ON billing.differences TO billing_relay")
    op.execute("GRANT SELECT (compared_until) ON billing.stripe_cursors TO billing_relay")
    mirrored = "state, amount_minor, fee_minor, net_minor, operation_id, payout, seen_at"
    cursor = "covered_from, covered_until, window_until, after_id, compared_until"
    found = "stripe_id, account, amount_minor, currency, what, state, state_since, first_seen_at, last_seen_at"
    for kind in ("worker", "operator"):
        op.execute(f"GRANT INSERT ON billing.stripe_records, billing.stripe_cursors TO billing_{kind}")
        op.execute(f"GRANT UPDATE ({mirrored}) ON billing.stripe_records TO billing_{kind}")
        op.execute(f"GRANT UPDATE ({cursor}) ON billing.stripe_cursors TO billing_{kind}")
        op.execute(f"GRANT INSERT (id, class, subject, {found}) ON billing.differences TO billing_{kind}")
        op.execute(f"GRANT UPDATE ({found}) ON billing.differences TO billing_{kind}")
    op.execute("GRANT UPDATE (closed_by, closed_because) ON billing.differences TO billing_operator")
