"""What an invoice may ask for beside its lines' amounts, and what Stripe reckoned of it.

Why: quantities and prices by unit, taxes, discounts, credits, texts, due dates. Old rows have none of it: no column has
a value that must be computed, so no row is rewritten, and a constraint of a column that is null everywhere holds. A
total may be 0 now, an amount below zero or unknown, and the days until an invoice is due unknown; old rows fulfilled
more. An older application asks for plain invoices, as before. An older worker would carry the others out wrongly (leave
out the terms), so their facts are of version 2, which an older relay leaves unplanned, and their work, which an older
worker does not claim. The erasure of a customer's texts includes memo, footer and custom fields. How long it may lock:
changing the constraints holds `invoices` and `invoice_lines` for milliseconds each, and gives up after 2 s of waiting
for that: run it again then. They are validated afterwards, while rows are read and written.
"""

from alembic import op

revision = "0051"
down_revision = "0050"
branch_labels = None
depends_on = None

_OF_INVOICES = {
    "invoices_total_not_negative": "total_minor >= 0",
    "invoices_terms_bounded": "jsonb_typeof(terms) = 'object' AND length(terms::text) <= 16384",
    "invoices_reckoned_agrees": "reckoned_minor = subtotal_minor - discount_minor + tax_minor",
    "invoices_reckoned_not_negative": "reckoned_minor >= 0",
}
_OF_LINES = {
    "invoice_lines_amount_positive": "coalesce(amount_minor, 0) > 0 OR details IS NOT NULL",
    "invoice_lines_details_bounded": "jsonb_typeof(details) = 'object' AND length(details::text) <= 4096",
}


def upgrade() -> None:
    # Each statement is a transaction of its own, and may be run again.
    with op.get_context().autocommit_block():
        for table, columns, constraints in (
            (
                "invoices",
                "ADD COLUMN IF NOT EXISTS terms jsonb, ADD COLUMN IF NOT EXISTS subtotal_minor bigint,"
                " ADD COLUMN IF NOT EXISTS discount_minor bigint, ADD COLUMN IF NOT EXISTS tax_minor bigint,"
                " ADD COLUMN IF NOT EXISTS reckoned_minor bigint,"
                " ALTER COLUMN days_until_due DROP NOT NULL, DROP CONSTRAINT IF EXISTS invoices_total_positive",
                _OF_INVOICES,
            ),
            (
                "invoice_lines",
                "ADD COLUMN IF NOT EXISTS details jsonb, ALTER COLUMN amount_minor DROP NOT NULL",
                _OF_LINES,
            ),
        ):
            dropped = ", ".join(f"DROP CONSTRAINT IF EXISTS {name}" for name in constraints)
            added = ", ".join(f"ADD CONSTRAINT {name} CHECK ({rule}) NOT VALID" for name, rule in constraints.items())
            op.execute(f"ALTER TABLE billing.{table} {columns}, {dropped}")
            op.execute(f"ALTER TABLE billing.{table} {added}")
            for name in constraints:
                op.execute(
                    f"""
                    DO $$ BEGIN
                        ALTER TABLE billing.{table} VALIDATE CONSTRAINT {name};
                    EXCEPTION WHEN check_violation THEN NULL;
                    END $$
                    """
                )
    op.execute("GRANT INSERT (terms) ON billing.invoices TO billing_application, billing_operator")
    op.execute("GRANT INSERT (details) ON billing.invoice_lines TO billing_application, billing_operator")
    reckoned = "reckoned_minor, subtotal_minor, discount_minor, tax_minor"
    op.execute(f"GRANT UPDATE ({reckoned}) ON billing.invoices TO billing_worker")
    op.execute("GRANT SELECT (reckoned_minor) ON billing.invoices TO billing_relay")
    for role in ("application", "worker", "reader", "operator"):
        op.execute(f"GRANT SELECT (terms, {reckoned}) ON billing.invoices TO billing_{role}")
        op.execute(f"GRANT SELECT (details) ON billing.invoice_lines TO billing_{role}")
    _change_erasure(
        ("with_texts text[];", "with_texts text[]; with_memo text[];"),
        (
            "with_texts := ARRAY(",
            "with_memo := ARRAY(SELECT i.id FROM billing.invoices AS i WHERE i.id = ANY (ids)"
            " AND i.terms ?| ARRAY['memo', 'footer', 'custom_fields']); with_texts := ARRAY(",
        ),
        ("+ cardinality(with_texts);", "+ cardinality(with_texts) + cardinality(with_memo);"),
        (
            " UPDATE billing.captures AS c SET",
            " UPDATE billing.invoices AS i SET terms = i.terms - ARRAY['memo', 'footer', 'custom_fields']"
            " WHERE i.id = ANY (with_memo); UPDATE billing.captures AS c SET",
        ),
        (
            "OR r.operation_id = ANY (with_texts) AND r.step = 'capture')",
            "OR r.operation_id = ANY (with_texts) AND r.step = 'capture'"
            " OR r.operation_id = ANY (with_memo) AND r.step = 'create')",
        ),
    )


def _change_erasure(*changes: tuple[str, str]) -> None:
    """Change parts of the function's text, wherever they stand in it, as migration 0041 did."""
    connection = op.get_bind()
    text = connection.exec_driver_sql("SELECT pg_get_functiondef('billing.erase_texts'::regproc)").scalar_one()
    if "with_memo" in text:
        return
    for before, after in changes:
        if before not in text:
            raise RuntimeError(f"billing.erase_texts is not as earlier migrations made it: {before!r} is missing")
        text = text.replace(before, after)
    # Doubled, because the driver takes a single % for the begin of a parameter.
    connection.exec_driver_sql(text.replace("%", "%%"))
