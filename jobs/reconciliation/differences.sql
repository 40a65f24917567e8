-- name: listed
SELECT id, class AS kind, subject, stripe_id, account, amount_minor, currency, what, state, state_since, first_seen_at,
       last_seen_at, closed_by, closed_because,
       extract(epoch FROM clock_timestamp() - first_seen_at) AS age_s
  FROM billing.differences
 WHERE state = ANY (CAST(:states AS text[])) AND (CAST(:kind AS text) IS NULL OR class = :kind)
 ORDER BY first_seen_at, id LIMIT :most;

-- name: shown
SELECT id, class AS kind, subject, stripe_id, account, amount_minor, currency, what, state, state_since, first_seen_at,
       last_seen_at, closed_by, closed_because,
       extract(epoch FROM clock_timestamp() - first_seen_at) AS age_s
  FROM billing.differences WHERE id = :id;

-- name: close
UPDATE billing.differences
   SET state = 'closed', state_since = clock_timestamp(), closed_by = :actor, closed_because = :reason
 WHERE id = :id AND state = 'open';
