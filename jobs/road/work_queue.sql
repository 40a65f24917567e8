-- name: claim_ready
-- The state is a literal, so that the partial index fits.
SELECT work.* FROM billing.work
 WHERE queue = :queue AND state = 'ready' AND contract || ':' || version = ANY (:known)
 ORDER BY urgency, id LIMIT :most FOR UPDATE SKIP LOCKED;

-- name: claim_looks
-- A look runs whatever its work's state is: held, quarantined and parked operations are looked at, too.
SELECT work.* FROM billing.work
  JOIN billing.idempotency_records AS r ON r.work_id = work.id
 WHERE r.queue = :queue AND r.concluded_at IS NULL
   AND (r.look_at <= clock_timestamp() OR r.look_at > clock_timestamp() + interval '2 hours')
   AND (r.lease_until IS NULL OR r.lease_until < clock_timestamp()
        OR r.lease_until > clock_timestamp() + make_interval(secs => r.lease_s + 1))
 ORDER BY r.look_at LIMIT :most FOR UPDATE OF work SKIP LOCKED;
