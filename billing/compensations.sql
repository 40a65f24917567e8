-- name: compensated_captures
-- The captures that these refunds compensate, and whether something about them is still open: what a late answer contradicts
-- is over by its state, and not proven.
SELECT mine.id AS owner, capture.id, capture.state,
       EXISTS (SELECT FROM billing.idempotency_records AS r
                WHERE r.operation_id = capture.id AND (r.concluded_at IS NULL OR r.state = 'conflict')) AS disputed
  FROM billing.refunds AS mine
  JOIN billing.captures AS capture ON capture.id = mine.capture_id
 WHERE mine.id = ANY (:ids);
