"""The erasure of a customer includes what is written on lines of captures that are, or were to be, invoiced.

Why: the description of such a line may name a person. Only the owner may change it, so a function of the owner's does,
as for all other texts. What waits for its invoice needs its description, and is named. Old rows stay as they are; an
older version does not call it. How long it may lock: building the index holds the writers of one table that is not
older than this version.
"""

from alembic import op

revision = "0060"
down_revision = "0059"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX invoiced_captures_by_customer ON billing.invoiced_captures (customer)")
    op.execute("""
        CREATE FUNCTION billing.erase_invoiced_captures(of_customer text, only_count boolean)
        RETURNS TABLE (descriptions bigint, not_over text[])
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            not_over := ARRAY(
                SELECT mine.capture_id FROM billing.invoiced_captures AS mine
                 WHERE mine.customer = of_customer AND mine.invoice_id IS NULL AND mine.left_out IS NULL
                 ORDER BY mine.capture_id LIMIT 10);
            IF only_count OR cardinality(not_over) > 0 THEN
                SELECT count(*) INTO descriptions FROM billing.invoiced_captures AS mine
                 WHERE mine.customer = of_customer AND mine.description <> '(erased)';
            ELSE
                UPDATE billing.invoiced_captures AS mine SET description = '(erased)'
                 WHERE mine.customer = of_customer AND mine.description <> '(erased)';
                GET DIAGNOSTICS descriptions = ROW_COUNT;
            END IF;
            RETURN NEXT;
        END $$""")
    op.execute("REVOKE ALL ON FUNCTION billing.erase_invoiced_captures FROM PUBLIC")
    # A relay counts what is on no invoice although its period is over.
    op.execute("GRANT SELECT (period_start) ON billing.invoiced_captures TO billing_relay")
    op.execute("GRANT EXECUTE ON FUNCTION billing.erase_invoiced_captures TO billing_operator")
