-- name: lock_records
SELECT idempotency_records.* FROM billing.idempotency_records
 WHERE operation_id = ANY (:ids)
 ORDER BY operation_id, generation FOR NO KEY UPDATE;

-- name: renew_leases
UPDATE billing.idempotency_records AS r
   SET lease_until = clock_timestamp() + CAST(:lease AS interval)
  FROM (SELECT id, fence
          FROM unnest(CAST(:ids AS text[]), CAST(:fences AS bigint[])) AS held (id, fence)) AS held
 WHERE r.id = held.id AND r.fence = held.fence AND r.lease_until IS NOT NULL
RETURNING r.id;
