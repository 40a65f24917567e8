"""A refund may give back what was paid for an invoice: a trigger keeps the sum, and a constraint bounds it.

Why: what was paid of an invoice is a payment that Stripe made, not a capture of ours, and two requests that read what
is left would both find enough. Each refund adds its amount to the row of its invoice, whose lock lets one after another
pass. Which payment intent paid is read from Stripe by a worker, so it is null before. Old refunds are of a capture, and
old invoices begin with 0. A running older version writes and reads refunds of captures as before; the fact of one of an
invoice has version 3, which older relays leave to newer ones. How long it may lock: `invoices` and `refunds`, to add
columns, and constraints that are not checked; this changes only the catalog. The next migration checks them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0052"
down_revision = "0051"
branch_labels = None
depends_on = None

INVOICE = r"^(?=.{1,255}$)(?!.*_secret)in_[A-Za-z0-9_]+$"
OF_THE_CAPTURE = "             WHERE c.id = NEW.capture_id;\n"
OF_THE_INVOICE = """\
            UPDATE billing.invoices AS i
               SET returned_minor = i.returned_minor
                   + CASE WHEN NEW.state IN ('failed', 'canceled', 'refused') THEN - NEW.amount_minor
                          ELSE NEW.amount_minor END
             WHERE i.id = NEW.invoice_id;
"""


def upgrade() -> None:
    op.execute(
        "ALTER TABLE billing.invoices ADD COLUMN returned_minor bigint NOT NULL DEFAULT 0,"
        " ADD CONSTRAINT invoices_returned_bounded"
        " CHECK (returned_minor = 0 OR returned_minor BETWEEN 0 AND coalesce(reckoned_minor, total_minor)) NOT VALID"
    )
    op.execute(
        "ALTER TABLE billing.refunds ALTER COLUMN capture_id DROP NOT NULL, ALTER COLUMN payment_intent DROP NOT NULL,"
        " ADD COLUMN invoice_id varchar(40), ADD COLUMN stripe_invoice varchar(255),"
        " ADD CONSTRAINT refunds_invoice_id_fkey"
        " FOREIGN KEY (invoice_id) REFERENCES billing.invoices (id) NOT VALID,"
        f" ADD CONSTRAINT refunds_stripe_invoice_shape CHECK (stripe_invoice ~ '{INVOICE}') NOT VALID,"
        " ADD CONSTRAINT refunds_of_one CHECK (num_nonnulls(capture_id, invoice_id) = 1"
        " AND num_nonnulls(capture_id, stripe_invoice) = 1"
        " AND (capture_id IS NULL OR payment_intent IS NOT NULL)) NOT VALID"
    )
    op.execute("CREATE INDEX refunds_by_invoice ON billing.refunds (invoice_id) WHERE invoice_id IS NOT NULL")
    _count()
    op.execute("GRANT INSERT (invoice_id, stripe_invoice) ON billing.refunds TO billing_application, billing_operator")
    op.execute("GRANT UPDATE (payment_intent) ON billing.refunds TO billing_worker")


def _count() -> None:
    """The function counts in the invoice, too. Only this part of it is replaced."""
    found = sa.text("SELECT pg_get_functiondef(to_regproc('billing.count_refund'))")
    source: str = op.get_bind().execute(found).scalar_one()
    if source.count(OF_THE_CAPTURE) != 1:
        raise ValueError("billing.count_refund is not as the migrations before this one have made it")
    op.execute(source.replace(OF_THE_CAPTURE, OF_THE_CAPTURE + OF_THE_INVOICE))
