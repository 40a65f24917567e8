"""The inbox of Stripe's events, the kind of process that fills it, and how far a scheduled reading has come.

Why: what changes at Stripe by itself is heard of by webhooks. The process that takes them is reached from the internet,
so it has a group of its own, which may write events and read nothing but whose database this is. A relay matches events
with operations: it may read which object an operation has, and raise its version, by which facts are numbered. Events
are forgotten by a function of the owner's, never sooner than after 30 days. Old rows: a run of a schedule without a
position has read nothing yet. An older version does not know the table, and leaves the facts `noticed` unplanned until
a newer relay comes. How long it may lock: a new table locks no other, and the column is added without a rewrite.
"""

from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

PUT = (
    "id, type, thin, account, livemode, api_version, created_at, object_id, payment_intent, charge, invoice,"
    " operation_id, caused_by, source"
)


def upgrade() -> None:
    # As in migration 0003: groups are those of the whole cluster, and another database may have made it.
    op.execute(
        """
        DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'billing_web') THEN
                CREATE ROLE billing_web NOLOGIN;
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$
        """
    )
    op.execute(
        """
        CREATE TABLE billing.received_events (
            id varchar(255) NOT NULL,
            type varchar(255) NOT NULL,
            thin boolean NOT NULL DEFAULT false,
            account varchar(255),
            livemode boolean NOT NULL,
            api_version varchar(40),
            created_at timestamptz NOT NULL,
            object_id varchar(255),
            payment_intent varchar(255),
            charge varchar(255),
            invoice varchar(255),
            operation_id varchar(40),
            caused_by varchar(40),
            source varchar(20) NOT NULL,
            received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            state varchar(20) NOT NULL DEFAULT 'received',
            match_at timestamptz DEFAULT clock_timestamp(),
            matched_with varchar(40),
            CONSTRAINT received_events_pkey PRIMARY KEY (id),
            CONSTRAINT received_events_id_shape CHECK (id ~ '^evt_[A-Za-z0-9_]{1,200}$'),
            CONSTRAINT received_events_type_shape
                CHECK (type ~ '^[a-z][a-z0-9_]{0,39}([.][a-z0-9_]{1,40}){1,5}$'),
            CONSTRAINT received_events_state_known
                CHECK (state IN ('received', 'matched', 'unknown', 'ignored'))
        )
        """
    )
    op.execute("CREATE INDEX received_events_to_match ON billing.received_events (match_at) WHERE state = 'received'")
    op.execute("CREATE INDEX received_events_object ON billing.received_events (object_id)")
    op.execute("CREATE INDEX received_events_received_at ON billing.received_events (received_at)")
    op.execute("ALTER TABLE billing.scheduled_runs ADD COLUMN position varchar(255)")
    op.execute(
        """
        CREATE FUNCTION billing.forget_events(older_than interval, most bigint) RETURNS bigint
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            before timestamptz := clock_timestamp() - greatest(older_than, interval '30 days');
            forgotten bigint;
        BEGIN
            -- What is not matched yet stays, whatever its age.
            DELETE FROM billing.received_events
             WHERE id = ANY (ARRAY(SELECT id FROM billing.received_events
                                    WHERE received_at < before AND state <> 'received'
                                    ORDER BY received_at LIMIT most FOR UPDATE SKIP LOCKED));
            GET DIAGNOSTICS forgotten = ROW_COUNT;
            RETURN forgotten;
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION billing.forget_events FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION billing.forget_events TO billing_worker, billing_operator")
    op.execute("GRANT USAGE ON SCHEMA billing TO billing_web")
    op.execute("GRANT SELECT ON billing.installation TO billing_web")
    op.execute(f"GRANT INSERT ({PUT}) ON billing.received_events TO billing_web, billing_worker")
    op.execute("GRANT SELECT ON billing.received_events TO billing_relay, billing_reader, billing_operator")
    op.execute("GRANT UPDATE (state, match_at, matched_with) ON billing.received_events TO billing_relay")
    op.execute(
        "GRANT SELECT (account, version, correlation_id, payment_intent, charge), UPDATE (version)"
        " ON billing.captures TO billing_relay"
    )
    op.execute(
        "GRANT SELECT (account, state, version, correlation_id, stripe_invoice), UPDATE (version)"
        " ON billing.invoices TO billing_relay"
    )
    op.execute(
        "GRANT SELECT (account, state, version, correlation_id, payment_intent), UPDATE (version)"
        " ON billing.voids TO billing_relay"
    )
    op.execute("GRANT UPDATE (position) ON billing.scheduled_runs TO billing_worker")
