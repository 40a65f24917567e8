"""A function removes the work and the calls of operations that ended long ago; nobody may delete a row by himself.

Why: nothing was ever removed. The function runs with the owner's rights and looks at everything by itself, so that a
worker that was taken over can remove nothing that is undecided, young, or not archived. Which final states count, and
what is kept for longer than 30 days, is decided by its caller (jobs/growth/retention.py). Old rows need nothing. An
older version does not call it; it explains an operation whose calls were removed without them. How long it may lock:
only the catalog changes, for a moment.
"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE FUNCTION billing.remove_concluded(kind text, ids text[], older_than interval, only_count boolean)
        RETURNS TABLE (operations bigint, work bigint, calls bigint, failures bigint)
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            before timestamptz := clock_timestamp() - greatest(older_than, interval '30 days');
            mine text[];
            gone text[];
        BEGIN
            -- Whoever changes an operation holds its work. What somebody holds is left for the next run. The next
            -- statement has a snapshot of its own, so it sees what was committed before these locks.
            IF only_count THEN
                mine := ARRAY(SELECT id FROM billing.work WHERE entity_id = ANY (ids));
            ELSE
                mine := ARRAY(SELECT id FROM billing.work WHERE entity_id = ANY (ids)
                               ORDER BY id FOR UPDATE SKIP LOCKED);
            END IF;
            gone := ARRAY(
                SELECT DISTINCT w.entity_id FROM billing.work AS w
                 WHERE w.id = ANY (mine)
                   AND NOT EXISTS (SELECT FROM billing.work AS o
                                    WHERE o.entity_id = w.entity_id
                                      AND NOT (o.id = ANY (mine) AND o.state = 'done' AND o.state_since < before))
                   AND NOT EXISTS (SELECT FROM billing.idempotency_records AS r
                                    WHERE r.operation_id = w.entity_id
                                      AND NOT (r.state IN ('answered', 'disproved')
                                               AND coalesce(r.concluded_at < before, false)))
                   -- All its facts, without a gap, are in batches that were read back from the bucket.
                   AND (SELECT count(*) > 0 AND count(*) = max(f.entity_version) AND count(*) = count(b.number)
                          FROM billing.facts AS f
                          LEFT JOIN billing.archive_batches AS b
                            ON b.number = f.batch_no AND b.state = 'archived' AND b.class =
CASE
    WHEN split_part(topic, '.', 2) = ANY (ARRAY['attempted', 'attempt_lapsed', 'looked', 'late_answer']) THEN 'attempt'
    WHEN entity_type = ANY (ARRAY['capture', 'invoice']) THEN entity_type
    ELSE 'admin'
END
                         WHERE f.entity_type = kind AND f.entity_id = w.entity_id));
            operations := cardinality(gone);
            IF only_count THEN
                SELECT count(*) INTO work FROM billing.work AS w WHERE w.entity_id = ANY (gone);
                SELECT count(*) INTO calls FROM billing.idempotency_records AS r WHERE r.operation_id = ANY (gone);
                SELECT count(*) INTO failures FROM billing.work_failures AS f
                 WHERE f.work_id IN (SELECT w.id FROM billing.work AS w WHERE w.entity_id = ANY (gone));
            ELSE
                mine := ARRAY(SELECT w.id FROM billing.work AS w WHERE w.entity_id = ANY (gone));
                DELETE FROM billing.quarantine_touches AS t WHERE t.work_id = ANY (mine);
                DELETE FROM billing.work_failures AS f WHERE f.work_id = ANY (mine);
                GET DIAGNOSTICS failures = ROW_COUNT;
                DELETE FROM billing.idempotency_records AS r WHERE r.operation_id = ANY (gone);
                GET DIAGNOSTICS calls = ROW_COUNT;
                DELETE FROM billing.work AS w WHERE w.id = ANY (mine);
                GET DIAGNOSTICS work = ROW_COUNT;
            END IF;
            RETURN NEXT;
        END $$""")
    op.execute("REVOKE ALL ON FUNCTION billing.remove_concluded FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION billing.remove_concluded TO billing_worker, billing_operator")
