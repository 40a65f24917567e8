"""A credit note has a memo, a text for its customer, which an erasure of the customer erases.

Why: a memo may name a person. It is in the row and in the call that sends it, in no fact, log or archive. Only the
owner may change it, so a function of the owner's does, as for all other texts: of notes that have been over for a day,
when no late answer can come any more. Old rows have none. An older version writes none, and erases none: replace all
operators' shells before the first erasure. How long it may lock: `credit_notes`, for a column without a default, which
changes only the catalog.
"""

from alembic import op

revision = "0070"
down_revision = "0069"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE billing.credit_notes ADD COLUMN memo varchar(1500)")
    op.execute("GRANT INSERT (memo) ON billing.credit_notes TO billing_application, billing_operator")
    op.execute("""
        CREATE FUNCTION billing.erase_memos(invoices text[], only_count boolean)
        RETURNS TABLE (descriptions bigint, bodies bigint, not_over text[])
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            before timestamptz := clock_timestamp() - interval '1 day';
            notes text[];
        BEGIN
            notes := ARRAY(SELECT n.id FROM billing.credit_notes AS n
                            WHERE n.invoice_id = ANY (invoices) AND n.memo IS NOT NULL ORDER BY n.id);
            -- Whoever changes a note holds its work. Each statement below sees what was committed before this.
            IF NOT only_count THEN
                PERFORM FROM billing.work AS w WHERE w.entity_id = ANY (notes) ORDER BY w.id FOR UPDATE;
            END IF;
            not_over := ARRAY(
                SELECT n.id FROM billing.credit_notes AS n
                 WHERE n.id = ANY (notes)
                   AND (n.state NOT IN ('issued', 'voided', 'refused') OR n.state_since >= before
                        OR EXISTS (SELECT FROM billing.work AS w WHERE w.entity_id = n.id AND w.state <> 'done')
                        OR EXISTS (SELECT FROM billing.idempotency_records AS r
                                    WHERE r.operation_id = n.id
                                      AND NOT (r.state IN ('answered', 'disproved')
                                               AND coalesce(r.concluded_at < before, false))))
                 ORDER BY n.id);
            IF only_count OR cardinality(not_over) > 0 THEN
                descriptions := cardinality(notes);
                SELECT count(*) INTO bodies FROM billing.idempotency_records AS r
                 WHERE r.operation_id = ANY (notes) AND r.step = 'issue' AND r.body <> '';
            ELSE
                UPDATE billing.credit_notes AS n SET memo = NULL WHERE n.id = ANY (notes);
                GET DIAGNOSTICS descriptions = ROW_COUNT;
                -- A concluded call is never sent again, and nothing compares its body.
                UPDATE billing.idempotency_records AS r SET body = '', fingerprint = NULL
                 WHERE r.operation_id = ANY (notes) AND r.step = 'issue' AND r.body <> '';
                GET DIAGNOSTICS bodies = ROW_COUNT;
            END IF;
            RETURN NEXT;
        END $$""")
    op.execute("REVOKE ALL ON FUNCTION billing.erase_memos FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION billing.erase_memos TO billing_operator")
