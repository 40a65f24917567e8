-- name: claim_ready
-- The state is a literal, so that the partial index fits. While a queue that may not wait is behind its SLO, one that
-- may wait gives only what has become urgent.
SELECT work.* FROM billing.work
 WHERE queue = :queue AND state = 'ready' AND contract || ':' || version = ANY (:known)
   AND urgency <= (SELECT CASE WHEN :queue = ANY (:may_wait) AND EXISTS
                          (SELECT FROM billing.queue_loads AS l
                            WHERE l.behind_since IS NOT NULL AND NOT l.queue = ANY (:may_wait)
                              AND l.measured_at > clock_timestamp() - interval '2 minutes')
                     THEN clock_timestamp() ELSE 'infinity' END)
 ORDER BY urgency, id LIMIT :most FOR UPDATE SKIP LOCKED;

-- name: claim_looks
-- A look runs in every state of its work, also if that is held, quarantined or parked.
SELECT work.* FROM billing.work
  JOIN billing.idempotency_records AS r ON r.work_id = work.id
 WHERE r.queue = :queue AND r.concluded_at IS NULL
   AND (r.look_at <= clock_timestamp() OR r.look_at > clock_timestamp() + interval '2 hours')
   AND (r.lease_until IS NULL OR r.lease_until < clock_timestamp()
        OR r.lease_until > clock_timestamp() + make_interval(secs => r.lease_s + 1))
 ORDER BY r.look_at LIMIT :most FOR UPDATE OF work SKIP LOCKED;

-- name: is_due
-- The conditions of both claims, for one piece of work: true for a look, false for what is ready, null for neither.
SELECT CASE WHEN EXISTS (SELECT FROM billing.idempotency_records AS r
                          WHERE r.work_id = w.id AND r.concluded_at IS NULL
                            AND (r.look_at <= clock_timestamp() OR r.look_at > clock_timestamp() + interval '2 hours')
                            AND (r.lease_until IS NULL OR r.lease_until < clock_timestamp()
                                 OR r.lease_until > clock_timestamp() + make_interval(secs => r.lease_s + 1)))
            THEN true
            WHEN w.state = 'ready' AND w.contract || ':' || w.version = ANY (:known) THEN false END
  FROM billing.work AS w WHERE w.id = :work_id;

-- name: claimable
-- The conditions of both claims. `look_at IS NOT NULL` is there so that the partial index is used.
SELECT (SELECT count(*)
          FROM (SELECT FROM billing.work
                 WHERE queue = q.name AND state = 'ready' AND contract || ':' || version = ANY (:known)
                   AND urgency <= (SELECT CASE WHEN q.name = ANY (:may_wait) AND EXISTS
                                          (SELECT FROM billing.queue_loads AS l
                                            WHERE l.behind_since IS NOT NULL AND NOT l.queue = ANY (:may_wait)
                                              AND l.measured_at > clock_timestamp() - interval '2 minutes')
                                     THEN clock_timestamp() ELSE 'infinity' END)
                 LIMIT q.most) AS ready)
     + (SELECT count(*)
          FROM (SELECT FROM billing.idempotency_records AS r
                 WHERE r.queue = q.name AND r.look_at IS NOT NULL AND r.concluded_at IS NULL
                   AND (r.look_at <= clock_timestamp() OR r.look_at > clock_timestamp() + interval '2 hours')
                   AND (r.lease_until IS NULL OR r.lease_until < clock_timestamp()
                        OR r.lease_until > clock_timestamp() + make_interval(secs => r.lease_s + 1))
                 LIMIT q.most) AS looks)
  FROM unnest(CAST(:queues AS text[]), CAST(:mosts AS bigint[])) WITH ORDINALITY AS q (name, most, place)
 ORDER BY q.place;

-- name: wake_work
UPDATE billing.work SET state = 'ready', due_at = NULL, tries = 0, state_since = clock_timestamp()
 WHERE id = ANY (ARRAY(SELECT w.id FROM billing.work AS w JOIN billing.idempotency_records AS r ON r.work_id = w.id
                        WHERE w.queue = :queue AND w.state = 'waiting' AND w.due_at IS NOT NULL
                          AND r.concluded_at IS NULL AND r.learned = 'nothing'
                        ORDER BY w.due_at LIMIT 1000 FOR UPDATE OF w SKIP LOCKED));

-- name: wake_looks
-- With a lease, a worker is looking at this moment.
UPDATE billing.idempotency_records SET look_at = clock_timestamp()
 WHERE id = ANY (ARRAY(SELECT id FROM billing.idempotency_records
                        WHERE queue = :queue AND concluded_at IS NULL AND look_at > clock_timestamp()
                          AND learned = 'look_unanswered' AND lease_until IS NULL
                        ORDER BY look_at LIMIT 1000 FOR UPDATE SKIP LOCKED));
