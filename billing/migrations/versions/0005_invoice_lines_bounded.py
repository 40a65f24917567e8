"""An invoice has at most 100 lines, and each a description of 1 to 500 characters.

Why: an application writes lines with its own login, and a worker loads all lines of what it claims. How long it may
lock: adding the constraints waits for transactions that are writing lines, gives up after 2 s of that, and then holds
the table for milliseconds; they are validated afterwards, while lines are read and written. Old lines that break them
stay, because nobody may change a line: then they hold for new lines only, and a worker refuses the old invoice.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# As they were decided for this revision; what holds today is in `billing.tables`.
RULES = {
    "invoice_lines_position_bounded": "position BETWEEN 0 AND 99",
    "invoice_lines_description_bounded": "length(description) BETWEEN 1 AND 500",
}


def upgrade() -> None:
    # Each statement is a transaction of its own.
    with op.get_context().autocommit_block():
        for name, rule in RULES.items():
            op.execute(f"ALTER TABLE billing.invoice_lines DROP CONSTRAINT IF EXISTS {name}")
            op.execute(f"ALTER TABLE billing.invoice_lines ADD CONSTRAINT {name} CHECK ({rule}) NOT VALID")
            op.execute(
                f"""
                DO $$ BEGIN
                    ALTER TABLE billing.invoice_lines VALIDATE CONSTRAINT {name};
                EXCEPTION WHEN check_violation THEN NULL;
                END $$
                """
            )
