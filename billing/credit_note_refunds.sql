-- name: linked_refunds
-- The refunds of these notes, and whether it is open whether they were made. The call that watches one which Stripe has
-- accepted leaves nothing open. LATERAL, because Postgres may read all records through for EXISTS.
SELECT mine.id AS owner, refund.id, refund.state, refund.stripe_refund, coalesce(open.call, false) AS disputed
  FROM billing.credit_notes AS mine
  JOIN billing.refunds AS refund ON refund.id = mine.refund_id
  LEFT JOIN LATERAL (
       SELECT true AS call FROM billing.idempotency_records AS r
        WHERE r.operation_id = refund.id AND r.step = 'refund'
          AND (r.concluded_at IS NULL OR r.state = 'conflict') LIMIT 1) AS open ON true
 WHERE mine.id = ANY (:ids);
