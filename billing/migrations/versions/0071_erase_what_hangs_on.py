"""The erasure of a customer includes what hangs on captures and invoices, and what is said about their work.

Why: operators and applications write words about refunds, voids, credit notes, e-mails, documents and actions on
invoices, too; a failure of work may quote the reason of a switch; and whoever closes a difference says why. The
function that erases knows all kinds of operations now. What it does not know, such as a kind of a later version, it
takes for not over. It also does what `erase_memos` and `erase_invoiced_captures` do, page by page: they are called by
processes of before, and a later migration drops them. The function is made anew, because it also returns `notes`; an
older process selects its columns by name. Old rows need nothing. How long it may lock: only the catalog, for a moment.
"""

from alembic import op

revision = "0071"
down_revision = "0070"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DROP FUNCTION billing.erase_texts")
    op.execute(r"""
        CREATE FUNCTION billing.erase_texts(ids text[], of_customer text, only_count boolean)
        RETURNS TABLE (descriptions bigint, bodies bigint, facts bigint, not_over text[], notes bigint)
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            before timestamptz := clock_timestamp() - interval '1 day';
            kinds text[] := ARRAY['capture', 'void', 'refund', 'invoice', 'invoice_action', 'credit_note', 'email',
                                  'document'];
            -- A login, a service or a code of ours. Whatever else stands there is words.
            no_words text := '^[a-z][a-z0-9_.:-]{0,63}$';
            with_texts text[]; with_terms text[]; with_memo text[]; to_invoice text[];
            calls text[]; works text[]; told text[]; failed bigint[]; differing text[]; closed text[]; subjects text[];
            mine bigint[];
        BEGIN
            -- Whoever changes an operation holds its work. Each statement below sees what was committed before this.
            IF NOT only_count THEN
                PERFORM FROM billing.work AS w WHERE w.entity_id = ANY (ids) ORDER BY w.id FOR UPDATE;
            END IF;
            not_over := ARRAY(
                SELECT asked.id FROM unnest(ids) AS asked (id) LEFT JOIN (
                    SELECT c.id, c.state_since, c.state IN ('captured', 'declined', 'refused', 'expired', 'canceled')
                      FROM billing.captures AS c WHERE c.id = ANY (ids)
                     UNION ALL
                    SELECT v.id, v.state_since, v.state IN ('voided', 'refused', 'expired')
                      FROM billing.voids AS v WHERE v.id = ANY (ids)
                     UNION ALL
                    SELECT r.id, r.state_since, r.state IN ('succeeded', 'failed', 'canceled', 'refused')
                      FROM billing.refunds AS r WHERE r.id = ANY (ids)
                     UNION ALL
                    SELECT i.id, i.state_since,
                           i.state IN ('sent', 'unpaid', 'paid', 'uncollectible', 'voided', 'refused')
                      FROM billing.invoices AS i WHERE i.id = ANY (ids)
                     UNION ALL
                    SELECT a.id, a.state_since, a.state IN ('done', 'declined', 'refused')
                      FROM billing.invoice_actions AS a WHERE a.id = ANY (ids)
                     UNION ALL
                    SELECT n.id, n.state_since, n.state IN ('issued', 'voided', 'refused')
                      FROM billing.credit_notes AS n WHERE n.id = ANY (ids)
                     UNION ALL
                    SELECT m.id, m.state_since, m.state IN ('sent', 'bounced', 'complained', 'refused')
                      FROM billing.emails AS m WHERE m.id = ANY (ids)
                     UNION ALL
                    SELECT d.id, d.state_since, d.state IN ('stored', 'refused')
                      FROM billing.documents AS d WHERE d.id = ANY (ids)) AS e (id, state_since, final)
                    ON e.id = asked.id
                 WHERE e.final IS NOT TRUE OR e.state_since >= before
                    OR EXISTS (SELECT FROM billing.work AS w WHERE w.entity_id = e.id AND w.state <> 'done')
                    OR EXISTS (SELECT FROM billing.idempotency_records AS r
                                WHERE r.operation_id = e.id
                                  AND NOT (r.state IN ('answered', 'disproved')
                                           AND coalesce(r.concluded_at < before, false)))
                    -- What waits for its invoice needs its description.
                    OR EXISTS (SELECT FROM billing.invoiced_captures AS t
                                WHERE t.capture_id = e.id AND t.customer = of_customer
                                  AND t.invoice_id IS NULL AND t.left_out IS NULL)
                 ORDER BY asked.id);

            -- What the application wrote, and the calls that repeat it. All others hold only ids.
            with_texts := ARRAY(
                SELECT c.id FROM billing.captures AS c
                 WHERE c.id = ANY (ids)
                   AND num_nonnulls(c.statement_descriptor, c.statement_descriptor_suffix, c.callers_metadata) > 0);
            with_terms := ARRAY(
                SELECT i.id FROM billing.invoices AS i
                 WHERE i.id = ANY (ids) AND i.terms ?| ARRAY['memo', 'footer', 'custom_fields']);
            with_memo := ARRAY(
                SELECT n.id FROM billing.credit_notes AS n WHERE n.id = ANY (ids) AND n.memo IS NOT NULL);
            to_invoice := ARRAY(
                SELECT t.capture_id FROM billing.invoiced_captures AS t
                 WHERE t.capture_id = ANY (ids) AND t.customer = of_customer AND t.description <> '(erased)');
            SELECT count(*) INTO descriptions FROM billing.invoice_lines AS l
             WHERE l.invoice_id = ANY (ids) AND l.description <> '(erased)';
            descriptions := descriptions + cardinality(with_texts) + cardinality(with_terms) + cardinality(with_memo)
                            + cardinality(to_invoice);
            calls := ARRAY(
                SELECT r.id FROM billing.idempotency_records AS r
                 WHERE r.operation_id = ANY (ids) AND r.body <> ''
                   AND (starts_with(r.step, 'add_lines')
                        OR r.operation_id = ANY (with_texts) AND r.step = 'capture'
                        OR r.operation_id = ANY (with_terms) AND r.step = 'create'
                        OR r.operation_id = ANY (with_memo) AND r.step = 'issue'));
            bodies := cardinality(calls);

            -- What people said. Work may be removed already; then a fact names it.
            works := ARRAY(
                SELECT w.id FROM billing.work AS w WHERE w.entity_id = ANY (ids)
                 UNION
                SELECT f.payload ->> 'work_id' FROM billing.facts AS f
                 WHERE f.entity_type = ANY (kinds) AND f.entity_id = ANY (ids) AND f.payload ? 'work_id');
            told := ARRAY(
                SELECT w.id FROM billing.work AS w WHERE w.entity_id = ANY (ids) AND w.reason !~ no_words);
            failed := ARRAY(
                SELECT b.id FROM billing.work_failures AS b WHERE b.work_id = ANY (works) AND b.reason !~ no_words);
            -- A credit note that was made by hand has no operation here; Stripe's record of it names its invoice.
            differing := ARRAY(
                SELECT d.id FROM billing.differences AS d WHERE d.subject = ANY (ids)
                 UNION
                SELECT d.id FROM billing.invoices AS i
                  JOIN billing.stripe_records AS s ON s.source = i.stripe_invoice
                  JOIN billing.differences AS d ON d.subject = s.id
                 WHERE i.id = ANY (ids));
            closed := ARRAY(
                SELECT d.id FROM billing.differences AS d
                 WHERE d.id = ANY (differing) AND d.closed_because <> '(erased)');
            notes := cardinality(told) + cardinality(failed) + cardinality(closed);
            -- A command is about an operation, its work, a difference, or the customer.
            subjects := ids || of_customer || works || differing;
            mine := ARRAY(
                SELECT f.id FROM billing.facts AS f
                 WHERE f.entity_type = ANY (kinds) AND f.entity_id = ANY (ids)
                   AND (jsonb_typeof(f.payload) = 'object' AND f.payload ? 'reason'
                        -- The application's word for who asked. A login or a service is archived, and stays.
                        OR f.topic LIKE '%.requested' AND f.actor !~ no_words)
                 UNION ALL
                SELECT f.id FROM billing.facts AS f
                 WHERE f.entity_type = 'command' AND jsonb_typeof(f.payload) = 'object' AND f.payload ? 'reason'
                   -- So Postgres hashes the subjects. It would go through a thousand of them for each command, because
                   -- it expects few commands: 2.2 s a page among 10,000 of them, instead of 0.03 s.
                   AND (f.payload ->> 'about' IN (SELECT unnest(subjects))) IS TRUE
                   -- Why it was erased is kept.
                   AND f.payload ->> 'command' IS DISTINCT FROM 'erase customer');
            facts := cardinality(mine);

            IF NOT only_count AND cardinality(not_over) = 0 THEN
                UPDATE billing.invoice_lines AS l SET description = '(erased)'
                 WHERE l.invoice_id = ANY (ids) AND l.description <> '(erased)';
                UPDATE billing.captures AS c
                   SET statement_descriptor = NULL, statement_descriptor_suffix = NULL, callers_metadata = NULL
                 WHERE c.id = ANY (with_texts);
                UPDATE billing.invoices AS i SET terms = i.terms - ARRAY['memo', 'footer', 'custom_fields']
                 WHERE i.id = ANY (with_terms);
                UPDATE billing.credit_notes AS n SET memo = NULL WHERE n.id = ANY (with_memo);
                UPDATE billing.invoiced_captures AS t SET description = '(erased)'
                 WHERE t.capture_id = ANY (to_invoice);
                -- A concluded call is never sent again, and nothing compares its body.
                UPDATE billing.idempotency_records AS r SET body = '', fingerprint = NULL WHERE r.id = ANY (calls);
                UPDATE billing.work AS w SET reason = NULL WHERE w.id = ANY (told);
                UPDATE billing.work_failures AS b SET reason = NULL WHERE b.id = ANY (failed);
                UPDATE billing.differences AS d SET closed_because = '(erased)' WHERE d.id = ANY (closed);
                UPDATE billing.facts AS f
                   SET payload = CASE WHEN jsonb_typeof(f.payload) = 'object' THEN f.payload - 'reason'
                                      ELSE f.payload END,
                       actor = CASE WHEN f.topic LIKE '%.requested' AND f.actor !~ no_words
                                    THEN 'erased' ELSE f.actor END
                 WHERE f.id = ANY (mine);
            END IF;
            RETURN NEXT;
        END $$""")
    op.execute("REVOKE ALL ON FUNCTION billing.erase_texts FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION billing.erase_texts TO billing_operator")
