-- name: compensated_captures
-- The captures that these refunds compensate, and whether something about them is still open: what a late answer
-- contradicts is over by its state, and not proven. LATERAL, because Postgres may read all records through for EXISTS.
SELECT mine.id AS owner, capture.id, capture.state, coalesce(open.call, false) AS disputed
  FROM billing.refunds AS mine
  JOIN billing.captures AS capture ON capture.id = mine.capture_id
  LEFT JOIN LATERAL (
       SELECT true AS call FROM billing.idempotency_records AS r
        WHERE r.operation_id = capture.id AND (r.concluded_at IS NULL OR r.state = 'conflict') LIMIT 1) AS open ON true
 WHERE mine.id = ANY (:ids);
