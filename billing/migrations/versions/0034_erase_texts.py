"""A function erases what the operations of a customer say in words; nobody may change a fact or a line by himself.

Why: a description may name a person, and so may an operator's reason; who asks for an erasure must get it. The function
runs with the owner's rights and looks at everything by itself: it touches only operations that have been over for a
day, when no late answer can come any more, and it changes no id, amount, state, key or time. What it erases is not
archived, so facts still agree with their copies. Old rows need nothing. An older version does not call it; if an
operator reopens an erased invoice there, it would send lines that say `(erased)`, so replace all workers before the
first erasure. A later version that adds a final state adds it here. How long it may lock: only the catalog, for a
moment.
"""

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(r"""
        CREATE FUNCTION billing.erase_texts(ids text[], of_customer text, only_count boolean)
        RETURNS TABLE (descriptions bigint, bodies bigint, facts bigint, not_over text[])
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            before timestamptz := clock_timestamp() - interval '1 day';
            subjects text[];
            mine bigint[];
        BEGIN
            -- Whoever changes an operation holds its work. Each statement below sees what was committed before this.
            IF NOT only_count THEN
                PERFORM FROM billing.work AS w WHERE w.entity_id = ANY (ids) ORDER BY w.id FOR UPDATE;
            END IF;
            not_over := ARRAY(
                SELECT e.id FROM (
                    SELECT c.id, c.state_since, c.state IN ('captured', 'declined', 'refused', 'expired', 'canceled')
                      FROM billing.captures AS c WHERE c.id = ANY (ids)
                     UNION ALL
                    SELECT i.id, i.state_since, i.state IN ('sent', 'paid', 'refused')
                      FROM billing.invoices AS i WHERE i.id = ANY (ids)) AS e (id, state_since, final)
                 WHERE NOT e.final OR e.state_since >= before
                    OR EXISTS (SELECT FROM billing.work AS w WHERE w.entity_id = e.id AND w.state <> 'done')
                    OR EXISTS (SELECT FROM billing.idempotency_records AS r
                                WHERE r.operation_id = e.id
                                  AND NOT (r.state IN ('answered', 'disproved')
                                           AND coalesce(r.concluded_at < before, false)))
                 ORDER BY e.id);
            -- A command is about an operation, its work, or the customer.
            subjects := ids || of_customer || ARRAY(
                SELECT w.id FROM billing.work AS w WHERE w.entity_id = ANY (ids)
                 UNION
                SELECT f.payload ->> 'work_id' FROM billing.facts AS f
                 WHERE f.entity_type IN ('capture', 'invoice') AND f.entity_id = ANY (ids) AND f.payload ? 'work_id');
            mine := ARRAY(
                SELECT f.id FROM billing.facts AS f
                 WHERE f.entity_type IN ('capture', 'invoice') AND f.entity_id = ANY (ids)
                   AND (jsonb_typeof(f.payload) = 'object' AND f.payload ? 'reason'
                        -- The application's word for who asked. A login or a service is archived, and stays.
                        OR f.topic LIKE '%.requested' AND f.actor !~ '^[a-z][a-z0-9_.:-]{0,63}$')
                 UNION ALL
                SELECT f.id FROM billing.facts AS f
                 WHERE f.entity_type = 'command' AND jsonb_typeof(f.payload) = 'object' AND f.payload ? 'reason'
                   AND f.payload ->> 'about' = ANY (subjects)
                   -- Why it was erased is kept.
                   AND f.payload ->> 'command' IS DISTINCT FROM 'erase customer');
            facts := cardinality(mine);
            IF only_count OR cardinality(not_over) > 0 THEN
                SELECT count(*) INTO descriptions FROM billing.invoice_lines AS l
                 WHERE l.invoice_id = ANY (ids) AND l.description <> '(erased)';
                SELECT count(*) INTO bodies FROM billing.idempotency_records AS r
                 WHERE r.operation_id = ANY (ids) AND r.step = 'add_lines' AND r.body <> '';
            ELSE
                UPDATE billing.invoice_lines AS l SET description = '(erased)'
                 WHERE l.invoice_id = ANY (ids) AND l.description <> '(erased)';
                GET DIAGNOSTICS descriptions = ROW_COUNT;
                -- A concluded call is never sent again, and nothing compares its body. The others hold only ids.
                UPDATE billing.idempotency_records AS r SET body = '', fingerprint = NULL
                 WHERE r.operation_id = ANY (ids) AND r.step = 'add_lines' AND r.body <> '';
                GET DIAGNOSTICS bodies = ROW_COUNT;
                UPDATE billing.facts AS f
                   SET payload = CASE WHEN jsonb_typeof(f.payload) = 'object' THEN f.payload - 'reason'
                                      ELSE f.payload END,
                       actor = CASE WHEN f.topic LIKE '%.requested' AND f.actor !~ '^[a-z][a-z0-9_.:-]{0,63}$'
                                    THEN 'erased' ELSE f.actor END
                 WHERE f.id = ANY (mine);
            END IF;
            RETURN NEXT;
        END $$""")
    op.execute("REVOKE ALL ON FUNCTION billing.erase_texts FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION billing.erase_texts TO billing_operator")
