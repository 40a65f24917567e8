"""Captures that are put on invoices, each on one, and the periods by which they are collected.

Why: what was captured must be invoiced once, by itself or with all of a customer's period. The key of the table is the
capture, and a trigger keeps the invoice that it has, so no process can put it on a second one. Periods exclude each
other by a constraint. An older application, relay or worker knows none of the two tables and needs neither. Old rows:
there are none. How long it may lock: it makes two tables; a foreign key to `captures` and `invoices` holds their
writers for milliseconds, and gives up after 2 s of waiting for that: run it again then.
"""

from alembic import op

revision = "0057"
down_revision = "0056"
branch_labels = None
depends_on = None

CUSTOMER = r"^(?=.{1,255}$)(?!.*_secret)cus_[A-Za-z0-9_]+$"
ONE_ACCOUNT = "numrange(hashtextextended(account, 0), hashtextextended(account, 0), '[]')"


def upgrade() -> None:
    op.execute(f"""
        CREATE TABLE billing.invoice_periods (
            account varchar(255) NOT NULL,
            period_start timestamptz NOT NULL,
            period_end timestamptz NOT NULL,
            length varchar(10) NOT NULL,
            zone varchar(128) NOT NULL,
            CONSTRAINT invoice_periods_pkey PRIMARY KEY (account, period_start),
            CONSTRAINT invoice_periods_not_empty CHECK (period_start < period_end),
            CONSTRAINT invoice_periods_length_known CHECK (length IN ('month', 'week', 'day')),
            CONSTRAINT invoice_periods_apart EXCLUDE USING gist (
                ({ONE_ACCOUNT}) WITH &&, tstzrange(period_start, period_end) WITH &&)
        )""")
    op.execute(f"""
        CREATE TABLE billing.invoiced_captures (
            capture_id varchar(40) NOT NULL,
            account varchar(255) NOT NULL,
            customer varchar(255) NOT NULL,
            currency varchar(3) NOT NULL,
            description text NOT NULL,
            at_once boolean NOT NULL DEFAULT false,
            asked_at timestamptz NOT NULL DEFAULT now(),
            captured_at timestamptz,
            period_start timestamptz,
            period_end timestamptz,
            part bigint,
            invoice_id varchar(40),
            position bigint,
            billed_minor bigint,
            left_out varchar(20),
            CONSTRAINT invoiced_captures_pkey PRIMARY KEY (capture_id),
            CONSTRAINT invoiced_captures_capture_id_fkey FOREIGN KEY (capture_id) REFERENCES billing.captures (id),
            CONSTRAINT invoiced_captures_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES billing.invoices (id),
            CONSTRAINT invoiced_captures_invoice_id_position_key UNIQUE (invoice_id, position),
            CONSTRAINT invoiced_captures_customer_shape CHECK (customer ~ '{CUSTOMER}'),
            CONSTRAINT invoiced_captures_currency_shape CHECK (currency ~ '^[A-Z]{{3}}$'),
            CONSTRAINT invoiced_captures_billed_minor_range CHECK (billed_minor <= 999999999999),
            CONSTRAINT invoiced_captures_billed_positive CHECK (billed_minor > 0),
            CONSTRAINT invoiced_captures_description_bounded CHECK (length(description) BETWEEN 1 AND 500),
            CONSTRAINT invoiced_captures_position_bounded CHECK (position BETWEEN 0 AND 249),
            CONSTRAINT invoiced_captures_part_positive CHECK (part > 0),
            CONSTRAINT invoiced_captures_left_out_known CHECK (left_out IN ('nothing_taken', 'given_back', 'unfit')),
            CONSTRAINT invoiced_captures_invoiced_as_a_whole
                CHECK (num_nonnulls(invoice_id, position, billed_minor) IN (0, 3)),
            CONSTRAINT invoiced_captures_period_as_a_whole CHECK (num_nonnulls(period_start, period_end) IN (0, 2))
        )""")
    table = "ON billing.invoiced_captures"
    op.execute(
        f"CREATE INDEX invoiced_captures_under_way {table} (capture_id) WHERE captured_at IS NULL AND left_out IS NULL"
    )
    op.execute(
        f"CREATE INDEX invoiced_captures_to_invoice {table} (account, period_start, customer, currency)"
        " WHERE invoice_id IS NULL AND left_out IS NULL AND period_start IS NOT NULL"
    )
    op.execute(
        f"CREATE INDEX invoiced_captures_by_period {table} (account, customer, currency, period_start)"
        " WHERE part IS NOT NULL"
    )
    op.execute(f"CREATE INDEX invoiced_captures_left_out {table} (capture_id) WHERE left_out = 'nothing_taken'")
    op.execute("""
        CREATE FUNCTION billing.keep_invoice_of_capture() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the capture % is on the invoice %, which is not changed', OLD.capture_id, OLD.invoice_id
                USING ERRCODE = 'integrity_constraint_violation';
        END $$""")
    op.execute("""
        CREATE TRIGGER invoiced_captures_once BEFORE UPDATE ON billing.invoiced_captures
           FOR EACH ROW WHEN (OLD.invoice_id IS NOT NULL AND (OLD.invoice_id, OLD.position, OLD.billed_minor)
                              IS DISTINCT FROM (NEW.invoice_id, NEW.position, NEW.billed_minor))
           EXECUTE FUNCTION billing.keep_invoice_of_capture()""")
    _grants()


def _grants() -> None:
    everybody = "billing_application, billing_operator, billing_worker"
    op.execute(f"GRANT SELECT ON billing.invoiced_captures TO {everybody}")
    op.execute(f"GRANT SELECT ON billing.invoice_periods TO {everybody}, billing_reader")
    shown = (
        "capture_id, account, customer, currency, at_once, asked_at, captured_at, period_start, period_end, part,"
        " invoice_id, position, billed_minor, left_out"
    )
    op.execute(f"GRANT SELECT ({shown}) ON billing.invoiced_captures TO billing_reader")
    counted = "capture_id, account, currency, at_once, asked_at, captured_at, period_end, invoice_id, left_out"
    op.execute(f"GRANT SELECT ({counted}) ON billing.invoiced_captures TO billing_relay")
    asked = "capture_id, account, customer, currency, description, at_once, invoice_id, position, billed_minor"
    op.execute(f"GRANT INSERT ({asked}) ON billing.invoiced_captures TO billing_application, billing_operator")
    both = "billing_worker, billing_operator"
    walked = "captured_at, period_start, period_end, part, invoice_id, position, billed_minor, left_out"
    op.execute(f"GRANT UPDATE ({walked}) ON billing.invoiced_captures TO {both}")
    op.execute(f"GRANT INSERT ON billing.invoice_periods TO {both}")
    # A worker asks for the invoices of a period, as an application does for one.
    op.execute(
        "GRANT INSERT (id, account, correlation_id, version, request_id, customer, currency, total_minor,"
        " days_until_due, terms) ON billing.invoices TO billing_worker"
    )
    op.execute("GRANT INSERT ON billing.invoice_lines TO billing_worker")
    op.execute("GRANT INSERT (version) ON billing.facts TO billing_worker")
