"""The texts of an invoice that ended as unpaid, uncollectible or voided can be erased, too.

Why: the function that erases them names the states in which an invoice is over, and migration 0054 added three. Only
this part of it is replaced. How long it may lock: nothing but the function. Old rows stay as they are; an older version
calls the same function, and refuses fewer erasures.
"""

from alembic import op

revision = "0063"
down_revision = "0062"
branch_labels = None
depends_on = None

BEFORE = "i.state IN ('sent', 'paid', 'refused')"
AFTER = "i.state IN ('sent', 'paid', 'refused', 'unpaid', 'uncollectible', 'voided')"


def upgrade() -> None:
    connection = op.get_bind()
    source = connection.exec_driver_sql("SELECT pg_get_functiondef('billing.erase_texts'::regproc)").scalar_one()
    if source.count(BEFORE) != 1:
        raise RuntimeError(f"billing.erase_texts is not as earlier migrations made it: {BEFORE!r} is missing")
    # The driver takes `%` for a parameter.
    connection.exec_driver_sql(source.replace(BEFORE, AFTER).replace("%", "%%"))
