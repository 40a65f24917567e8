"""Credit notes, and what they take off each invoice: sums that a trigger keeps and constraints bound.

Why: two requests that read what is left of an invoice would both find enough. Here each note adds its amount to the
row of its invoice, as a refund does, and the constraints refuse the one that is too much. What was given back and what
is not due any more are never more than what was invoiced, together; nor is all that was credited. How long it may
lock: `invoices`, to add columns with constants and constraints that are not checked yet, which changes only the
catalog; the next migration checks them. Old invoices begin with 0. A running older version knows no credit notes, and
leaves their facts to a newer relay; an archiver from before migration 0058 would archive them as `admin`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0061"
down_revision = "0060"
branch_labels = None
depends_on = None

SHAPE = r"^(?=.{{1,255}}$)(?!.*_secret){}_[A-Za-z0-9_]+$"
FREES = "('voided', 'refused')"
PURGED = {
    "purge_facts": (
        (
            "                         WHEN 'invoice' THEN EXISTS (\n",
            "                         WHEN 'credit_note' THEN EXISTS (\n"
            "                           SELECT FROM billing.credit_notes AS e WHERE e.id = f.entity_id"
            " AND e.state_since < before\n"
            "                              AND e.state IN ('issued', 'voided', 'refused'))\n"
            "                         WHEN 'invoice' THEN EXISTS (\n",
        ),
    ),
}


def upgrade() -> None:
    for name, parts in PURGED.items():
        _change(name, parts)
    op.execute(
        "ALTER TABLE billing.invoices"
        " ADD COLUMN reduced_minor bigint NOT NULL DEFAULT 0, ADD COLUMN credited_minor bigint NOT NULL DEFAULT 0,"
        " DROP CONSTRAINT invoices_returned_bounded,"
        " ADD CONSTRAINT invoices_returned_bounded CHECK (returned_minor + reduced_minor = 0"
        " OR returned_minor >= 0 AND reduced_minor >= 0"
        " AND returned_minor + reduced_minor <= coalesce(reckoned_minor, total_minor)) NOT VALID,"
        " ADD CONSTRAINT invoices_credited_bounded CHECK (credited_minor = 0"
        " OR credited_minor BETWEEN 0 AND coalesce(reckoned_minor, total_minor)) NOT VALID"
    )
    _table()
    _count()
    _grant()


def _table() -> None:
    op.execute(f"""
        CREATE TABLE billing.credit_notes (
            id varchar(40) NOT NULL,
            account varchar(255),
            correlation_id varchar(255),
            reason text,
            version bigint NOT NULL DEFAULT 0,
            state_since timestamptz NOT NULL DEFAULT now(),
            request_id varchar(255) NOT NULL,
            requested_at timestamptz NOT NULL DEFAULT now(),
            invoice_id varchar(40) NOT NULL,
            stripe_invoice varchar(255) NOT NULL,
            amount_minor bigint NOT NULL,
            currency varchar(3) NOT NULL,
            lines jsonb,
            stripe_lines text[],
            credit_reason varchar(40),
            settle varchar(20) NOT NULL,
            refund_id varchar(40),
            state varchar(20) NOT NULL DEFAULT 'requested',
            stripe_credit_note varchar(255),
            number varchar(64),
            CONSTRAINT credit_notes_pkey PRIMARY KEY (id),
            CONSTRAINT credit_notes_account_request_id_key UNIQUE NULLS NOT DISTINCT (account, request_id),
            CONSTRAINT credit_notes_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES billing.invoices (id),
            CONSTRAINT credit_notes_refund_id_fkey FOREIGN KEY (refund_id) REFERENCES billing.refunds (id),
            CONSTRAINT credit_notes_id_shape CHECK (id ~ '^crn_[0-9a-z]+$'),
            CONSTRAINT credit_notes_account_shape CHECK (account ~ '{SHAPE.format("acct")}'),
            CONSTRAINT credit_notes_stripe_invoice_shape CHECK (stripe_invoice ~ '{SHAPE.format("in")}'),
            CONSTRAINT credit_notes_stripe_credit_note_shape CHECK (stripe_credit_note ~ '{SHAPE.format("cn")}'),
            CONSTRAINT credit_notes_amount_positive CHECK (amount_minor > 0),
            CONSTRAINT credit_notes_amount_minor_range CHECK (amount_minor <= 999999999999),
            CONSTRAINT credit_notes_currency_shape CHECK (currency ~ '^[A-Z]{{3}}$'),
            CONSTRAINT credit_notes_credit_reason_known CHECK
                (credit_reason IN ('duplicate', 'fraudulent', 'order_change', 'product_unsatisfactory')),
            CONSTRAINT credit_notes_settle_known CHECK (settle IN ('reduce', 'balance', 'out_of_band', 'refund')),
            CONSTRAINT credit_notes_refund_if_refunded CHECK ((settle = 'refund') = (refund_id IS NOT NULL)),
            CONSTRAINT credit_notes_lines_bounded
                CHECK (jsonb_typeof(lines) = 'object' AND length(lines::text) <= 32768),
            CONSTRAINT credit_notes_state_known CHECK (state IN ('requested', 'issued', 'voided', 'refused'))
        )""")
    table = "billing.credit_notes"
    op.execute(f"CREATE UNIQUE INDEX credit_notes_one_per_stripe_credit_note ON {table} (stripe_credit_note)")
    op.execute(f"CREATE UNIQUE INDEX credit_notes_one_per_refund ON {table} (refund_id)")
    op.execute(f"CREATE INDEX credit_notes_by_invoice ON {table} (invoice_id)")
    op.execute(f"CREATE INDEX credit_notes_correlated ON {table} (correlation_id) WHERE correlation_id <> request_id")


def _count() -> None:
    op.execute("""
        CREATE FUNCTION billing.count_credit_note() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            change bigint := NEW.amount_minor * CASE WHEN NEW.state IN ('voided', 'refused') THEN -1 ELSE 1 END;
        BEGIN
            UPDATE billing.invoices AS i
               SET credited_minor = i.credited_minor + change,
                   reduced_minor = i.reduced_minor + CASE WHEN NEW.settle = 'reduce' THEN change ELSE 0 END,
                   returned_minor = i.returned_minor
                       + CASE WHEN NEW.settle IN ('balance', 'out_of_band') THEN change ELSE 0 END
             WHERE i.id = NEW.invoice_id;
            RETURN NULL;
        END $$""")
    op.execute("REVOKE ALL ON FUNCTION billing.count_credit_note FROM PUBLIC")
    op.execute(
        "CREATE TRIGGER credit_notes_counted AFTER INSERT ON billing.credit_notes FOR EACH ROW"
        f" WHEN (NEW.state NOT IN {FREES}) EXECUTE FUNCTION billing.count_credit_note()"
    )
    op.execute(
        "CREATE TRIGGER credit_notes_recounted AFTER UPDATE OF state ON billing.credit_notes FOR EACH ROW"
        f" WHEN ((OLD.state IN {FREES}) <> (NEW.state IN {FREES})) EXECUTE FUNCTION billing.count_credit_note()"
    )


def _grant() -> None:
    everybody = "billing_application, billing_operator, billing_worker, billing_reader"
    op.execute(f"GRANT SELECT ON billing.credit_notes TO {everybody}")
    # A relay finds those that an event is about, and notices them.
    op.execute(
        "GRANT SELECT (id, account, state, version, correlation_id, stripe_credit_note, amount_minor, currency),"
        " UPDATE (version) ON billing.credit_notes TO billing_relay"
    )
    op.execute(
        "GRANT INSERT (id, account, correlation_id, version, request_id, invoice_id, stripe_invoice, amount_minor,"
        " currency, lines, credit_reason, settle, refund_id) ON billing.credit_notes"
        " TO billing_application, billing_operator"
    )
    op.execute(
        "GRANT UPDATE (state, state_since, reason, version, stripe_lines, stripe_credit_note, number)"
        " ON billing.credit_notes TO billing_worker"
    )
    op.execute("GRANT UPDATE (state, state_since, reason, version) ON billing.credit_notes TO billing_operator")


def _change(function: str, changes: tuple[tuple[str, str], ...]) -> None:
    """Replace parts of a function, whatever other migrations changed in it. Its rights and its owner stay."""
    found = sa.text("SELECT pg_get_functiondef(to_regproc(:name))")
    source = op.get_bind().execute(found, {"name": f"billing.{function}"}).scalar_one()
    for before, after in changes:
        if source.count(before) != 1:
            raise ValueError(f"billing.{function} is not as the migrations before this one have made it")
        source = source.replace(before, after)
    op.execute(source)
