-- name: make_due_ready
-- No pause is longer than two hours (billing.timing): a later time was written by a clock that has been set
-- back since.
UPDATE billing.work SET state = 'ready', due_at = NULL, state_since = clock_timestamp()
 WHERE id = ANY (ARRAY(SELECT id FROM billing.work
                        WHERE state = 'waiting'
                          AND (due_at <= clock_timestamp() OR due_at > clock_timestamp() + interval '2 hours')
                        ORDER BY due_at LIMIT :most FOR UPDATE SKIP LOCKED));

-- name: rescue_lapsed
UPDATE billing.work
   SET state = 'ready', attempts = attempts + 1, reason = 'its worker went silent', state_since = clock_timestamp()
 WHERE id = ANY (ARRAY(SELECT w.id FROM billing.work AS w JOIN billing.idempotency_records AS r ON r.id = w.record_id
                        WHERE w.state = 'running'
                          AND (r.lease_until IS NULL OR r.lease_until < clock_timestamp()
                               OR r.lease_until > clock_timestamp() + make_interval(secs => r.lease_s + 1))
                        ORDER BY w.id LIMIT :most FOR UPDATE OF w SKIP LOCKED));

-- name: hold
UPDATE billing.work AS w
   SET state = 'held', reason = s.scope || ': ' || coalesce(s.reason, ''), state_since = clock_timestamp()
  FROM billing.switches AS s
 WHERE s.state = 'pulled' AND s.scope = ANY (w.scopes)
   AND w.id = ANY (ARRAY(SELECT id FROM billing.work
                          WHERE (state = 'ready' OR state = 'waiting' AND due_at IS NOT NULL)
                            AND scopes && (SELECT CAST(coalesce(array_agg(scope), '{}') AS text[])
                                             FROM billing.switches WHERE state = 'pulled')
                          ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED));

-- name: look_at_stopped
UPDATE billing.idempotency_records SET look_at = clock_timestamp()
 WHERE id = ANY (ARRAY(SELECT r.id FROM billing.idempotency_records AS r, billing.work AS w
                        WHERE w.id = r.work_id AND w.state IN ('held', 'parked', 'quarantined')
                          AND r.concluded_at IS NULL AND r.look_at IS NULL AND r.unanswered > 0
                          AND r.state IN ('sent', 'in_doubt')
                          AND (r.lease_until IS NULL OR r.lease_until < clock_timestamp()
                               OR r.lease_until > clock_timestamp() + make_interval(secs => r.lease_s + 1))
                        ORDER BY r.id LIMIT :most FOR UPDATE OF r SKIP LOCKED));

-- name: release_held
UPDATE billing.work SET state = 'ready', reason = NULL, due_at = NULL, state_since = clock_timestamp()
 WHERE id = ANY (ARRAY(SELECT id FROM billing.work
                        WHERE state = 'held'
                          AND NOT scopes && (SELECT CAST(coalesce(array_agg(scope), '{}') AS text[])
                                               FROM billing.switches
                                              WHERE state = 'pulled' OR release_per_hour IS NOT NULL)
                        ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED));

-- name: park_unknown
UPDATE billing.work SET state = 'parked', reason = 'unknown contract version', state_since = clock_timestamp()
 WHERE id = ANY (ARRAY(SELECT id FROM billing.work
                        WHERE state = 'ready' AND NOT contract || ':' || version = ANY (:known)
                        ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED));

-- name: unpark_known
UPDATE billing.work SET state = 'ready', reason = NULL, state_since = clock_timestamp()
 WHERE id = ANY (ARRAY(SELECT id FROM billing.work
                        WHERE state = 'parked' AND contract || ':' || version = ANY (:known)
                        ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED));
