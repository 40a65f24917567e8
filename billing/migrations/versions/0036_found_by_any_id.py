"""Captures and invoices are found by every id that a person may have: of a charge, an invoice, an order.

Why: `billing explain` takes any id, and must answer at once among millions. What a capture costs: one entry of 8 bytes
for its charge, when it is captured; one that was declined, refused or canceled has an entry for its payment intent, and
one with a correlation id of its own an entry for that. How long it may lock: all are built CONCURRENTLY, so rows are
written meanwhile; each waits for transactions that began before it, and gives up after 2 s of that. Run it again then:
what was left half built is dropped first. Old rows are in the indexes, too. An older version neither needs nor breaks
them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

INDEXES = {
    "captures_freed": ("captures", "payment_intent", "btree", "state IN ('declined', 'refused', 'canceled')"),
    "captures_by_charge": ("captures", "charge", "hash", "charge IS NOT NULL"),
    "captures_correlated": ("captures", "correlation_id", "btree", "correlation_id <> request_id"),
    "invoices_by_stripe_invoice": ("invoices", "stripe_invoice", "hash", "stripe_invoice IS NOT NULL"),
    "invoices_correlated": ("invoices", "correlation_id", "btree", "correlation_id <> request_id"),
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, (table, column, kind, where) in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS billing.{name}")
            op.create_index(
                name,
                table,
                [column],
                schema="billing",
                postgresql_using=kind,
                postgresql_where=sa.text(where),
                postgresql_concurrently=True,
            )
