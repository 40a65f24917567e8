"""A capture knows whose payment it is, so that its receipt and those of its refunds have a recipient.

Why: Stripe's answer to the capture names the customer, and nothing kept the id. Only workers write it, at the end of a
capture; those from before have none. An older worker leaves it null, and no receipt begins then. How long it may lock:
a column without a default, and a constraint that is checked for new rows only, change the catalog alone. No row has a
value yet, so the check that follows finds nothing; it reads all captures in a transaction of its own, and stops nobody.
"""

from alembic import op

revision = "0069"
down_revision = "0068"
branch_labels = None
depends_on = None

SHAPE = r"^(?=.{1,255}$)(?!.*_secret)cus_[A-Za-z0-9_]+$"


def upgrade() -> None:
    op.execute("ALTER TABLE billing.captures ADD COLUMN IF NOT EXISTS customer varchar(255)")
    op.execute("ALTER TABLE billing.captures DROP CONSTRAINT IF EXISTS captures_customer_shape")
    op.execute(
        f"ALTER TABLE billing.captures ADD CONSTRAINT captures_customer_shape CHECK (customer ~ '{SHAPE}') NOT VALID"
    )
    op.execute("GRANT UPDATE (customer) ON billing.captures TO billing_worker")
    # What comes before is committed here, so that the check keeps nobody out; it is done again if this fails.
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE billing.captures VALIDATE CONSTRAINT captures_customer_shape")
