-- name: newest_and_writers
-- The newest committed fact, and the transactions that may still commit an older one: a transaction that inserts a fact
-- takes this lock before the fact gets its id, and holds it until the transaction ends. The newest may be purged.
SELECT current_setting('transaction_isolation') AS isolation,
       pg_is_in_recovery() AS standby,
       greatest((SELECT max(id) FROM billing.facts), purged.upto) AS newest,
       purged.upto AS purged_upto,
       ARRAY(SELECT virtualtransaction FROM pg_locks
              WHERE locktype = 'relation' AND relation = CAST('billing.facts' AS regclass)
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND mode = 'RowExclusiveLock' AND granted AND pid IS DISTINCT FROM pg_backend_pid()) AS writers
  FROM (SELECT coalesce((SELECT purged_upto FROM billing.installation), 0) AS upto) AS purged;

-- name: still_writing
-- A transaction that is prepared for a two-phase commit keeps its locks, and loses its process and its old name.
SELECT EXISTS (SELECT FROM pg_locks
                WHERE locktype = 'relation' AND relation = CAST('billing.facts' AS regclass)
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                  AND mode = 'RowExclusiveLock' AND granted
                  AND (virtualtransaction = ANY (:writers) OR pid IS NULL));

-- name: read
-- `near` limits how many facts one statement reads, because most facts are about calls and not about states.
WITH near AS MATERIALIZED (
    SELECT id, topic, entity_type, entity_id, entity_version, correlation_id, happened_at
      FROM billing.facts WHERE id > :after AND id <= :newest ORDER BY id LIMIT :near
)
SELECT reached.*, found.*
  FROM (SELECT :after IN (0, :purged_upto) OR EXISTS (SELECT FROM billing.facts WHERE id = :after) AS kept,
               (SELECT CASE WHEN count(*) = :near THEN max(id) ELSE :newest END FROM near) AS upto) AS reached
  LEFT JOIN (SELECT * FROM near WHERE topic = ANY (:topics) ORDER BY id LIMIT :most) AS found ON true
 ORDER BY found.id;
