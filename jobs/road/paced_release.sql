-- name: paced
-- All of them or none, because work may stand in several and counts for each: while another relay has one, it does this.
-- A time more than two hours ahead was written by a clock that has been set back since.
WITH locked AS (
    SELECT id, scope, release_per_hour,
           CASE WHEN release_next_at > clock_timestamp() + interval '2 hours' THEN clock_timestamp()
                ELSE greatest(release_next_at, clock_timestamp() - interval '1 second') END AS next_at
      FROM billing.switches
     WHERE release_per_hour IS NOT NULL
     ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
SELECT id, scope, release_per_hour AS per_hour, next_at, clock_timestamp() AS now
  FROM locked
 WHERE (SELECT count(*) FROM locked) = (SELECT count(*) FROM billing.switches WHERE release_per_hour IS NOT NULL)
 ORDER BY release_per_hour, id;

-- name: release
UPDATE billing.work SET state = 'ready', reason = NULL, due_at = NULL, state_since = clock_timestamp()
 WHERE id = ANY (ARRAY(SELECT id FROM billing.work
                        WHERE state = 'held' AND CAST(:scope AS text) = ANY (scopes)
                          AND NOT scopes && CAST(:slower AS text[])
                          AND NOT scopes && (SELECT CAST(coalesce(array_agg(scope), '{}') AS text[])
                                               FROM billing.switches WHERE state = 'pulled')
                        ORDER BY urgency, id LIMIT :most FOR UPDATE SKIP LOCKED))
RETURNING scopes;

-- name: next_at
UPDATE billing.switches SET release_next_at = :next_at WHERE id = :id AND release_per_hour IS NOT NULL;

-- name: end
UPDATE billing.switches SET release_per_hour = NULL, release_next_at = NULL
 WHERE id = :id
   AND NOT EXISTS (SELECT FROM billing.work WHERE state = 'held' AND CAST(:scope AS text) = ANY (scopes));
