-- name: lock
SELECT pg_advisory_xact_lock(hashtextextended('billing.switch:' || :scope, 0));

-- name: lock_shared
-- In the given order, which is sorted: every transaction locks in the same order.
SELECT pg_advisory_xact_lock_shared(hashtextextended('billing.switch:' || scope, 0))
  FROM unnest(CAST(:scopes AS text[])) WITH ORDINALITY AS s (scope, place)
 ORDER BY place;

-- name: pulled
SELECT scope, reason FROM billing.switches WHERE state = 'pulled' AND scope = ANY (:scopes);
