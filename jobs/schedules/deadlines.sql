-- name: near
-- Those that a worker holds now are left to the next run: it may be taking their money.
SELECT captures.* FROM billing.captures
 WHERE state = 'requested' AND warned_at IS NULL
   AND capture_before < clock_timestamp() + make_interval(hours => CAST(:hours AS int))
 ORDER BY capture_before LIMIT :most
   FOR NO KEY UPDATE SKIP LOCKED;

-- name: held_by
SELECT DISTINCT ON (entity_id) entity_id, state, reason
  FROM billing.work WHERE entity_id = ANY (:ids) ORDER BY entity_id, id DESC;
