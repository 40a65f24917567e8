"""An invoice may have 250 lines, as at Stripe; what was sent for them is erased with them, whichever call sent it.

Why: one call adds up to a hundred lines, so there may be three, and the later ones are named `add_lines_100` and
`add_lines_200`. Old rows fulfill the wider bound, too; any that broke the first one stay, as migration 0005 says. An
older application asks for up to 100 lines, as before. An older worker would refuse more, so the fact of such an invoice
is of version 2, which an older relay leaves unplanned, and its work of version 2, which an older worker does not claim.
How long it may lock: changing the constraint holds `invoice_lines` for milliseconds, and gives up after 2 s of waiting
for that: run it again then. It is validated afterwards, while lines are read and written.
"""

from alembic import op

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None

_NAME = "invoice_lines_position_bounded"


def upgrade() -> None:
    # Each statement is a transaction of its own.
    with op.get_context().autocommit_block():
        op.execute(
            f"""
            ALTER TABLE billing.invoice_lines
                DROP CONSTRAINT IF EXISTS {_NAME},
                ADD CONSTRAINT {_NAME} CHECK (position BETWEEN 0 AND 249) NOT VALID
            """
        )
        op.execute(
            f"""
            DO $$ BEGIN
                ALTER TABLE billing.invoice_lines VALIDATE CONSTRAINT {_NAME};
            EXCEPTION WHEN check_violation THEN NULL;
            END $$
            """
        )
    connection = op.get_bind()
    text = connection.exec_driver_sql("SELECT pg_get_functiondef('billing.erase_texts'::regproc)").scalar_one()
    before, after = "r.step = 'add_lines'", "starts_with(r.step, 'add_lines')"
    if before not in text and after not in text:
        raise RuntimeError(f"billing.erase_texts is not as earlier migrations made it: {before!r} is missing")
    # Doubled, because the driver takes a single % for the begin of a parameter.
    connection.exec_driver_sql(text.replace(before, after).replace("%", "%%"))
