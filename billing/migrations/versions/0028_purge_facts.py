"""A function removes facts that the archive holds, and writes in the same transaction a fact that says so.

Why: nothing removed facts. The function runs with the owner's rights and looks at everything by itself; its caller
compares what it returns with the object in the bucket and commits only if both are the same (archive/purging). Which
facts of a batch are gone is counted in `archive_batches.purged_rows`; the newest of them all is
`installation.purged_upto`, with which the feed of changes finds a cursor that is too old. Old rows get 0 and no table
is rewritten; `archive_batches` is locked while its index is built, a second for a million batches, and archivers wait.
An older version beside this one calls no such function. Its feed refuses a cursor whose fact is gone, but does not
notice that facts after a cursor are gone: stop followers of the old version before the first purge. A later version
that adds a final state adds it here.
"""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE billing.installation ADD COLUMN purged_upto bigint NOT NULL DEFAULT 0")
    op.execute(
        "ALTER TABLE billing.archive_batches ADD COLUMN purged_rows bigint NOT NULL DEFAULT 0,"
        " ADD CONSTRAINT archive_batches_purged_of_rows CHECK (purged_rows >= 0 AND purged_rows <= rows)"
    )
    op.execute("CREATE INDEX archive_batches_by_day ON billing.archive_batches (event_date, class, number)")
    op.execute("""
        CREATE FUNCTION billing.purge_facts(of_class text, of_batch bigint, older_than interval, after bigint,
                                           most bigint, by text)
        RETURNS SETOF billing.facts
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            before timestamptz := clock_timestamp() - greatest(older_than, interval '90 days');
            own billing.archive_batches;
            mine bigint[];
            captured jsonb;
            its_id text := 'batch_' || of_class || '_' || of_batch;
        BEGIN
            -- Two purgers may meet at a batch: the second goes on with another one.
            SELECT * INTO own FROM billing.archive_batches AS b
             WHERE b.class = of_class AND b.number = of_batch AND b.state = 'archived'
               FOR UPDATE SKIP LOCKED;
            -- What people did is little, and its reasons are in no archive: it stays.
            IF NOT FOUND OR of_class = 'admin' THEN
                RETURN;
            END IF;
            mine := ARRAY(
                SELECT f.id FROM billing.facts AS f
                 WHERE f.id > after AND f.id BETWEEN own.first_fact AND own.last_fact
                   AND f.batch_no = of_batch AND of_class =
CASE
    WHEN split_part(f.topic, '.', 2) = ANY (ARRAY['attempted', 'attempt_lapsed', 'looked', 'late_answer'])
    THEN 'attempt'
    WHEN f.entity_type = ANY (ARRAY['capture', 'invoice'])
    THEN f.entity_type
    ELSE 'admin'
END
                   AND f.happened_at < before
                   -- Its operation has ended, long ago.
                   AND CASE f.entity_type
                         WHEN 'capture' THEN EXISTS (
                           SELECT FROM billing.captures AS e WHERE e.id = f.entity_id AND e.state_since < before
                              AND e.state IN ('captured', 'declined', 'refused', 'expired', 'canceled'))
                         WHEN 'invoice' THEN EXISTS (
                           SELECT FROM billing.invoices AS e WHERE e.id = f.entity_id AND e.state_since < before
                              AND e.state IN ('sent', 'paid'))
                         WHEN 'switch' THEN EXISTS (
                           SELECT FROM billing.switches AS e WHERE e.id = f.entity_id AND e.state_since < before
                              AND e.state = 'released')
                         WHEN 'run' THEN EXISTS (
                           SELECT FROM billing.scheduled_runs AS e WHERE e.id = f.entity_id AND e.state_since < before
                              AND e.state = 'done')
                         ELSE false
                       END
                   -- Its work and its calls are gone: they are removed only where no fact was missing.
                   AND NOT EXISTS (SELECT FROM billing.work AS w WHERE w.entity_id = f.entity_id)
                   AND NOT EXISTS (SELECT FROM billing.idempotency_records AS r WHERE r.operation_id = f.entity_id)
                   -- Each of its other facts that is still here is archived, too.
                   AND NOT EXISTS (
                     SELECT FROM billing.facts AS o
                       LEFT JOIN billing.archive_batches AS b
                         ON b.number = o.batch_no AND b.state = 'archived' AND b.class =
CASE
    WHEN split_part(o.topic, '.', 2) = ANY (ARRAY['attempted', 'attempt_lapsed', 'looked', 'late_answer'])
    THEN 'attempt'
    WHEN o.entity_type = ANY (ARRAY['capture', 'invoice'])
    THEN o.entity_type
    ELSE 'admin'
END
                      WHERE o.entity_type = f.entity_type AND o.entity_id = f.entity_id AND b.number IS NULL)
                 ORDER BY f.id LIMIT most);
            IF cardinality(mine) = 0 THEN
                RETURN;
            END IF;
            SELECT coalesce(jsonb_object_agg(s.currency, s.minor), '{}') INTO captured
              FROM (SELECT f.payload ->> 'currency' AS currency, sum(CAST(f.payload ->> 'minor' AS numeric)) AS minor
                      FROM billing.facts AS f
                     WHERE f.id = ANY (mine) AND f.topic = 'capture.captured'
                       AND jsonb_typeof(f.payload -> 'minor') = 'number'
                       AND jsonb_typeof(f.payload -> 'currency') = 'string'
                     GROUP BY 1) AS s;
            RETURN QUERY DELETE FROM billing.facts AS f WHERE f.id = ANY (mine) RETURNING f.*;
            UPDATE billing.archive_batches AS b SET purged_rows = b.purged_rows + cardinality(mine)
             WHERE b.class = of_class AND b.number = of_batch;
            UPDATE billing.installation AS i SET purged_upto = mine[cardinality(mine)]
             WHERE i.purged_upto < mine[cardinality(mine)];
            INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)
            SELECT 'batch.purged', 'batch', its_id, coalesce(max(f.entity_version), 0) + 1, by,
                   jsonb_build_object('count', cardinality(mine), 'captured', captured)
              FROM billing.facts AS f WHERE f.entity_type = 'batch' AND f.entity_id = its_id;
        END $$""")
    op.execute("REVOKE ALL ON FUNCTION billing.purge_facts FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION billing.purge_facts TO billing_archiver, billing_operator")
