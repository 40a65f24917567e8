-- name: lock
-- In the given order, which is sorted, as below.
SELECT pg_advisory_xact_lock(hashtextextended('billing.switch:' || scope, 0))
  FROM unnest(CAST(:scopes AS text[])) WITH ORDINALITY AS s (scope, place)
 ORDER BY place;

-- name: lock_shared
-- In the given order, which is sorted: every transaction locks in the same order.
SELECT pg_advisory_xact_lock_shared(hashtextextended('billing.switch:' || scope, 0))
  FROM unnest(CAST(:scopes AS text[])) WITH ORDINALITY AS s (scope, place)
 ORDER BY place;

-- name: end_rates
-- What an earlier release of this scope has not made ready yet is held by the new pull.
UPDATE billing.switches SET release_per_hour = NULL, release_next_at = NULL
 WHERE scope = :scope AND release_per_hour IS NOT NULL;

-- name: restored
SELECT EXISTS (SELECT FROM billing.lineage WHERE restored_at IS NOT NULL);

-- name: pulled
-- One whose time is over counts as released, also if no relay runs that would record it.
SELECT scope, reason FROM billing.switches
 WHERE state = 'pulled' AND (expires_at IS NULL OR expires_at > clock_timestamp())
   AND (scope = ANY (:scopes) OR NOT starts_with(scope, 'account:'));

-- name: stopped_by_now
SELECT id FROM billing.work
 WHERE id = ANY (:ids)
   AND scopes && (SELECT CAST(coalesce(array_agg(scope), '{}') AS text[]) FROM billing.switches
                   WHERE state = 'pulled' AND (expires_at IS NULL OR expires_at > clock_timestamp()));

-- name: taken_back
-- Only of calls that are still open: one that was made since then is none of these.
SELECT r.operation_id, r.step
  FROM billing.idempotency_records AS r
  JOIN billing.work AS w ON w.id = r.work_id
  JOIN :stoppable AS o ON o.id = r.operation_id
 WHERE r.concluded_at IS NULL AND r.state IN ('planned', 'in_doubt') AND r.last_reported_at >= :since
   AND :scope IN ('everything', o.scope, 'contract:' || w.contract, 'queue:' || w.queue,
                  'account:' || o.account, 'currency:' || o.currency)
   AND EXISTS (SELECT FROM billing.facts AS f
                WHERE f.entity_type = o.kind AND f.entity_id = o.id
                  AND f.happened_at >= :since AND f.payload ->> 'why' = :why)
 ORDER BY r.id LIMIT :most;

-- name: unanswered
-- Of those in doubt one row is enough: they are only counted.
SELECT state, of_state, operation_id, step, lease_until
  FROM (SELECT r.state, r.operation_id, r.step, r.lease_until,
               count(*) OVER (PARTITION BY r.state) AS of_state,
               row_number() OVER (PARTITION BY r.state ORDER BY r.lease_until, r.id) AS place
          FROM billing.idempotency_records AS r
          JOIN billing.work AS w ON w.id = r.work_id
          JOIN :stoppable AS o ON o.id = r.operation_id
         WHERE r.concluded_at IS NULL AND r.method <> 'GET' AND r.state IN ('sent', 'in_doubt')
           AND :scope IN ('everything', o.scope, 'contract:' || w.contract, 'queue:' || w.queue,
                          'account:' || o.account, 'currency:' || o.currency)) AS open
 WHERE place <= CASE state WHEN 'sent' THEN CAST(:most AS bigint) ELSE 1 END
 ORDER BY state, place;

-- name: stopped
-- By what it is, not by the scopes that its relay wrote: an older relay wrote fewer.
SELECT s.scope, o.currency, count(*) AS operations, sum(o.minor) AS minor
  FROM (SELECT entity_id, contract, queue FROM billing.work WHERE state = 'held'
        UNION ALL SELECT entity_id, contract, queue FROM billing.work WHERE state = 'ready' AND NOT :only_held
        UNION ALL
        SELECT entity_id, contract, queue FROM billing.work
         WHERE state = 'waiting' AND due_at IS NOT NULL AND NOT :only_held) AS w
  JOIN :stoppable AS o ON o.id = w.entity_id
 CROSS JOIN LATERAL unnest(ARRAY['everything', o.scope, 'contract:' || w.contract, 'queue:' || w.queue,
                                 'account:' || o.account, 'currency:' || o.currency]) AS s (scope)
 WHERE s.scope = ANY (:scopes)
   -- What only observes holds no money back.
   AND NOT starts_with(w.contract, 'observe_')
 GROUP BY s.scope, o.currency
 ORDER BY s.scope, o.currency;
