-- name: look
-- The newest fact that is committed, and then who may still commit an older one: whoever writes a fact holds this lock
-- from before its id is drawn until its transaction is over.
SELECT current_setting('transaction_isolation') AS isolation,
       pg_is_in_recovery() AS standby,
       coalesce((SELECT max(id) FROM billing.facts), 0) AS newest,
       ARRAY(SELECT virtualtransaction FROM pg_locks
              WHERE locktype = 'relation' AND relation = CAST('billing.facts' AS regclass)
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND mode = 'RowExclusiveLock' AND granted AND pid IS DISTINCT FROM pg_backend_pid()) AS writers;

-- name: still_writing
-- A transaction that is prepared for a commit in two phases loses its process and its old name, and keeps its locks.
SELECT EXISTS (SELECT FROM pg_locks
                WHERE locktype = 'relation' AND relation = CAST('billing.facts' AS regclass)
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                  AND mode = 'RowExclusiveLock' AND granted
                  AND (virtualtransaction = ANY (:writers) OR pid IS NULL));

-- name: read
-- `near` bounds what one statement reads, where most facts tell of calls and not of states.
WITH near AS MATERIALIZED (
    SELECT id, topic, entity_type, entity_id, entity_version, correlation_id, happened_at
      FROM billing.facts WHERE id > :after AND id <= :newest ORDER BY id LIMIT :near
)
SELECT reached.*, found.*
  FROM (SELECT :after = 0 OR EXISTS (SELECT FROM billing.facts WHERE id = :after) AS kept,
               (SELECT CASE WHEN count(*) = :near THEN max(id) ELSE :newest END FROM near) AS upto) AS reached
  LEFT JOIN (SELECT * FROM near WHERE topic = ANY (:topics) ORDER BY id LIMIT :most) AS found ON true
 ORDER BY found.id;
