-- name: ahead
-- Of these refunds, each that has not begun, and another of the same invoice that has, and is not made yet; or that is
-- among these, too, and was asked for earlier. LATERAL, because Postgres may read all records through for EXISTS.
SELECT mine.id AS owner, other.id
  FROM billing.refunds AS mine
  JOIN billing.refunds AS other
       ON other.invoice_id = mine.invoice_id AND other.id <> mine.id AND other.state = 'requested'
  LEFT JOIN LATERAL (
       SELECT true AS one FROM billing.idempotency_records AS r WHERE r.operation_id = mine.id LIMIT 1) AS begun ON true
  LEFT JOIN LATERAL (
       SELECT true AS one FROM billing.idempotency_records AS r WHERE r.operation_id = other.id LIMIT 1) AS ahead ON true
 WHERE mine.id = ANY (:ids) AND begun.one IS NULL
   AND (ahead.one OR other.payment_intent IS NOT NULL OR other.id = ANY (:ids) AND other.id < mine.id)
 ORDER BY other.id;
