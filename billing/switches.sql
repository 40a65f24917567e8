-- name: lock
SELECT pg_advisory_xact_lock(hashtextextended('billing.switch:' || :scope, 0));

-- name: lock_shared
-- In the order in which they are given, which everybody keeps.
SELECT pg_advisory_xact_lock_shared(hashtextextended('billing.switch:' || scope, 0))
  FROM unnest(CAST(:scopes AS text[])) WITH ORDINALITY AS s (scope, place)
 ORDER BY place;

-- name: pulled
SELECT scope, reason FROM billing.switches WHERE state = 'pulled' AND scope = ANY (:scopes);
