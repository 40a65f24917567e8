-- name: here
-- Whether the cluster's number may be read is asked first: a provider of databases may have taken that right away.
SELECT oid AS database_oid, has_function_privilege('pg_control_system()', 'EXECUTE') AS shows_cluster
  FROM pg_database WHERE datname = current_database();

-- name: cluster
SELECT CAST(system_identifier AS text) AS cluster FROM pg_control_system();

-- name: read
SELECT i.identity, l.cluster, l.database_oid, l.restored_at, l.why, l.restored_to, l.recovered_at
  FROM billing.installation AS i LEFT JOIN billing.lineage AS l ON true;

-- name: adopt
INSERT INTO billing.lineage AS l (id, cluster, database_oid) VALUES (1, :cluster, :database_oid)
    ON CONFLICT (id) DO UPDATE SET cluster = excluded.cluster, database_oid = excluded.database_oid
 WHERE l.cluster IS NULL AND l.database_oid IS NULL;

-- name: newest
-- The newest fact about money or an e-mail but for `noticed`. A relay writes none of the others: what it commits may be lost in a
-- crash, and that would look like a restore. Between them lie facts of schedules and switches, of which it passes at
-- most so many.
SELECT id, entity_id, happened_at
  FROM (SELECT id, entity_type, entity_id, topic, happened_at FROM billing.facts ORDER BY id DESC LIMIT :most) AS last
 WHERE entity_type IN ('capture', 'void', 'refund', 'invoice', 'invoice_action', 'credit_note', 'email') AND split_part(topic, '.', 2) <> 'noticed'
 ORDER BY id DESC LIMIT 1;

-- name: holds
-- It is here, or it was archived and removed since. A mark is seconds old while relays run, and nothing is archived while
-- none does: so its batch is one of the newest.
SELECT EXISTS (SELECT FROM billing.facts
                WHERE id = :fact_id AND entity_id = :entity_id AND happened_at = :happened_at)
    OR NOT EXISTS (SELECT FROM billing.facts WHERE id = :fact_id)
       AND EXISTS (SELECT FROM unnest(ARRAY['capture', 'invoice', 'attempt', 'admin']) AS c (class),
                          LATERAL (SELECT first_fact, last_fact, state FROM billing.archive_batches AS b
                                    WHERE b.class = c.class ORDER BY b.number DESC LIMIT :most) AS last
                    WHERE last.state = 'archived' AND :fact_id BETWEEN last.first_fact AND last.last_fact);

-- name: newest_until
-- Of before the restore, if it is known that something happened at this time which is not here.
SELECT happened_at FROM billing.facts
 WHERE CAST(:until AS timestamptz) IS NULL OR happened_at <= CAST(:until AS timestamptz)
 ORDER BY id DESC LIMIT 1;

-- name: note
SELECT billing.note_restore(:why, :restored_to);

-- name: stopped
SELECT EXISTS (SELECT FROM billing.switches
                WHERE scope = 'everything' AND state = 'pulled' AND expires_at IS NULL AND NOT probes);

-- name: recovered
UPDATE billing.lineage
   SET cluster = :cluster, database_oid = :database_oid, restored_at = NULL, why = NULL, restored_to = NULL,
       recovered_at = clock_timestamp();
