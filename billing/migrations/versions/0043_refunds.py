"""Refunds, and what of each capture was given back: a sum that a trigger keeps and a constraint bounds.

Why: two requests that read what is left of a capture would both find enough. Here each refund adds its amount to the
row of its capture, whose lock lets one after the other pass, and the constraint refuses the one that is too much. The
functions of the triggers run with the owner's rights, because no process may change the sum. A refund that gave nothing
back (failed, canceled, refused) takes its amount off again. Old captures begin with 0. A running older version knows no
refunds, loads captures without the sum, and leaves facts of refunds to a newer relay. How long it may lock: `captures`,
to add a column with a constant and a constraint that is not checked yet; both change only the catalog.
"""

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None

FREES = "('failed', 'canceled', 'refused')"
STATES = "'requested', 'pending', 'requires_action', 'succeeded', 'failed', 'canceled', 'refused'"
SHAPE = r"^(?=.{{1,255}}$)(?!.*_secret){}_[A-Za-z0-9_]+$"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE billing.captures ADD COLUMN refunds_minor bigint NOT NULL DEFAULT 0,"
        " ADD CONSTRAINT captures_refunds_bounded CHECK (refunds_minor BETWEEN 0 AND amount_minor) NOT VALID"
    )
    op.execute(f"""
        CREATE TABLE billing.refunds (
            id varchar(40) NOT NULL,
            account varchar(255),
            correlation_id varchar(255),
            reason text,
            version bigint NOT NULL DEFAULT 0,
            state_since timestamptz NOT NULL DEFAULT now(),
            request_id varchar(255) NOT NULL,
            requested_at timestamptz NOT NULL DEFAULT now(),
            capture_id varchar(40) NOT NULL,
            payment_intent varchar(255) NOT NULL,
            amount_minor bigint NOT NULL,
            currency varchar(3) NOT NULL,
            all_left boolean,
            refund_reason varchar(40),
            state varchar(20) NOT NULL DEFAULT 'requested',
            stripe_refund varchar(255),
            CONSTRAINT refunds_pkey PRIMARY KEY (id),
            CONSTRAINT refunds_account_request_id_key UNIQUE NULLS NOT DISTINCT (account, request_id),
            CONSTRAINT refunds_capture_id_fkey FOREIGN KEY (capture_id) REFERENCES billing.captures (id),
            CONSTRAINT refunds_amount_positive CHECK (amount_minor > 0),
            CONSTRAINT refunds_amount_minor_range CHECK (amount_minor <= 999999999999),
            CONSTRAINT refunds_currency_shape CHECK (currency ~ '^[A-Z]{{3}}$'),
            CONSTRAINT refunds_id_shape CHECK (id ~ '^ref_[0-9a-z]+$'),
            CONSTRAINT refunds_payment_intent_shape CHECK (payment_intent ~ '{SHAPE.format("pi")}'),
            CONSTRAINT refunds_account_shape CHECK (account ~ '{SHAPE.format("acct")}'),
            CONSTRAINT refunds_stripe_refund_shape CHECK (stripe_refund ~ '{SHAPE.format("[a-z]{1,20}")}'),
            CONSTRAINT refunds_refund_reason_known
                CHECK (refund_reason IN ('duplicate', 'fraudulent', 'requested_by_customer')),
            CONSTRAINT refunds_state_known CHECK (state IN ({STATES}))
        )""")
    op.execute("CREATE UNIQUE INDEX refunds_one_per_stripe_refund ON billing.refunds (stripe_refund)")
    op.execute("CREATE INDEX refunds_by_capture ON billing.refunds (capture_id)")
    op.execute("CREATE INDEX refunds_by_payment_intent ON billing.refunds (payment_intent)")
    op.execute("CREATE INDEX refunds_correlated ON billing.refunds (correlation_id) WHERE correlation_id <> request_id")
    op.execute("""
        CREATE FUNCTION billing.count_refund() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            UPDATE billing.captures AS c
               SET refunds_minor = c.refunds_minor
                   + CASE WHEN NEW.state IN ('failed', 'canceled', 'refused') THEN - NEW.amount_minor
                          ELSE NEW.amount_minor END
             WHERE c.id = NEW.capture_id;
            RETURN NULL;
        END $$""")
    op.execute("REVOKE ALL ON FUNCTION billing.count_refund FROM PUBLIC")
    op.execute(
        "CREATE TRIGGER refunds_counted AFTER INSERT ON billing.refunds FOR EACH ROW"
        f" WHEN (NEW.state NOT IN {FREES}) EXECUTE FUNCTION billing.count_refund()"
    )
    op.execute(
        "CREATE TRIGGER refunds_recounted AFTER UPDATE OF state ON billing.refunds FOR EACH ROW"
        f" WHEN ((OLD.state IN {FREES}) <> (NEW.state IN {FREES})) EXECUTE FUNCTION billing.count_refund()"
    )
    _grant()
    _purge()


def _grant() -> None:
    # By which a worker finds, before it starts, whether the database was restored.
    op.execute("GRANT SELECT (topic) ON billing.facts TO billing_worker")
    everybody = "billing_application, billing_operator, billing_worker, billing_reader"
    op.execute(f"GRANT SELECT ON billing.refunds TO {everybody}")
    # A relay finds those that an event is about, and notices them.
    op.execute(
        "GRANT SELECT (id, account, state, version, correlation_id, payment_intent, stripe_refund, amount_minor,"
        " currency), UPDATE (version) ON billing.refunds TO billing_relay"
    )
    op.execute(
        "GRANT INSERT (id, account, correlation_id, version, request_id, capture_id, payment_intent, amount_minor,"
        " currency, all_left, refund_reason) ON billing.refunds TO billing_application, billing_operator"
    )
    op.execute("GRANT UPDATE (state, state_since, reason, version, stripe_refund) ON billing.refunds TO billing_worker")
    op.execute("GRANT UPDATE (state, state_since, reason, version) ON billing.refunds TO billing_operator")


def _purge() -> None:
    """Facts of a refund that ended long ago may leave Postgres, too. Only this part of the function is replaced."""
    found = sa.text("SELECT pg_get_functiondef(to_regproc('billing.purge_facts'))")
    source: str = op.get_bind().execute(found).scalar_one()
    before = "                         WHEN 'invoice' THEN EXISTS (\n"
    if source.count(before) != 1:
        raise ValueError("billing.purge_facts is not as the migrations before this one have made it")
    op.execute(
        source.replace(
            before,
            "                         WHEN 'refund' THEN EXISTS (\n"
            "                           SELECT FROM billing.refunds AS e WHERE e.id = f.entity_id"
            " AND e.state_since < before\n"
            "                              AND e.state IN ('succeeded', 'failed', 'canceled', 'refused'))\n" + before,
        )
    )
