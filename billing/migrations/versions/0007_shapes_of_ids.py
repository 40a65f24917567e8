"""Rows from now on hold ids of Stripe's own shape, amounts within range, and times that Stripe can name.

Why: an id becomes a part of a path and a header, and a row may be written by others than `billing`'s own functions. How
long it may lock: adding a constraint that is NOT VALID reads no row; each table is locked for that moment, and after
2 s of waiting for the lock this gives up: run it again then. Rows from before stay as they are: Postgres checks them
when they are next changed, a worker before it asks Stripe for anything.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# As it was decided for this revision; what holds today is compared with `billing.tables`.
ID = "^(?=.{{1,255}}$)(?!.*_secret){prefix}_[A-Za-z0-9_]+$"
CURRENCY = "^[A-Z]{3}$"
MOST = 999_999_999_999

CONSTRAINTS: dict[str, dict[str, str]] = {
    "captures": {
        "id_shape": "id ~ '^cap_[0-9a-z]+$'",
        "payment_intent_shape": f"payment_intent ~ '{ID.format(prefix='pi')}'",
        "account_shape": f"account ~ '{ID.format(prefix='acct')}'",
        "charge_shape": f"charge ~ '{ID.format(prefix='[a-z]{1,20}')}'",
        "amount_minor_range": f"amount_minor <= {MOST}",
        "currency_shape": f"currency ~ '{CURRENCY}'",
        "authorised_minor_range": f"authorised_minor <= {MOST}",
        "authorised_currency_shape": f"authorised_currency ~ '{CURRENCY}'",
        "capture_before_real": "capture_before BETWEEN '1999-12-31 00:00:00+00:00' AND '2200-01-02 00:00:00+00:00'",
    },
    "invoices": {
        "id_shape": "id ~ '^inv_[0-9a-z]+$'",
        "customer_shape": f"customer ~ '{ID.format(prefix='cus')}'",
        "account_shape": f"account ~ '{ID.format(prefix='acct')}'",
        "stripe_invoice_shape": f"stripe_invoice ~ '{ID.format(prefix='in')}'",
        "total_minor_range": f"total_minor <= {MOST}",
        "currency_shape": f"currency ~ '{CURRENCY}'",
        "days_until_due_range": "days_until_due BETWEEN 1 AND 365",
    },
    "invoice_lines": {"amount_minor_range": f"amount_minor <= {MOST}"},
    "switches": {"account_shape": f"state = 'released' OR account ~ '{ID.format(prefix='acct')}'"},
}


def upgrade() -> None:
    for table, constraints in CONSTRAINTS.items():
        changes = ", ".join(
            f"DROP CONSTRAINT IF EXISTS {table}_{name}, ADD CONSTRAINT {table}_{name} CHECK ({condition}) NOT VALID"
            for name, condition in constraints.items()
        )
        op.execute(f"ALTER TABLE billing.{table} {changes}")
