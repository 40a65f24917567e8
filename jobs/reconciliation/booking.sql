-- name: paid_out
-- Entries that went to the bank, and of which no fact says so; after the last of the page before. The condition is that
-- of the partial index.
SELECT payout AS place, id FROM billing.stripe_records
 WHERE account = :account AND object = 'balance_transaction' AND told_at IS NULL AND payout IS NOT NULL
   AND (payout, id) > (:place, :id)
 ORDER BY payout, id LIMIT :most;

-- name: kept
-- Those that went to the bank in no automatic payout for so long that none will come.
SELECT created_at AS place, id FROM billing.stripe_records
 WHERE account = :account AND object = 'balance_transaction' AND told_at IS NULL AND payout IS NULL
   AND created_at < :before AND (created_at, id) > (:place, :id)
 ORDER BY created_at, id LIMIT :most;

-- name: lock
SELECT id FROM billing.stripe_records
 WHERE id = ANY (:ids) AND told_at IS NULL ORDER BY id FOR NO KEY UPDATE SKIP LOCKED;

-- name: to_tell
-- Each with the operation that moved its money. A charge has one entry for each capture of its authorization, in their
-- order. `waits`: it names an operation of ours that has not ended here.
SELECT e.id, e.amount_minor, e.fee_minor, e.net_minor, e.currency, e.created_at, e.available_at, e.payout,
       p.amount_minor AS payout_minor, coalesce(c.id, f.id) AS operation_id,
       coalesce(f.state = 'requested', c.id IS NULL AND s.object = 'charge'
                AND EXISTS (SELECT FROM billing.captures AS o WHERE o.id = s.operation_id)) AS waits
  FROM billing.stripe_records AS e
  JOIN billing.stripe_records AS s ON s.id = e.source AND s.object IN ('charge', 'refund')
  LEFT JOIN billing.stripe_records AS p ON p.id = e.payout
  LEFT JOIN LATERAL (
       SELECT count(*) AS place FROM billing.stripe_records AS b
        WHERE b.source = e.source AND b.object = 'balance_transaction' AND b.type IN ('charge', 'payment')
          AND (b.created_at, b.id) < (e.created_at, e.id)) AS earlier ON e.type IN ('charge', 'payment')
  LEFT JOIN LATERAL (
       SELECT o.id FROM billing.captures AS o
        WHERE o.payment_intent = s.payment_intent AND o.state = 'captured' AND coalesce(o.account, 'own') = e.account
          AND o.state NOT IN ('declined', 'refused', 'canceled')
        ORDER BY o.capture_no LIMIT 1 OFFSET earlier.place) AS c ON e.type IN ('charge', 'payment')
  LEFT JOIN billing.refunds AS f ON f.id = s.operation_id AND s.object = 'refund'
 WHERE e.id = ANY (:ids)
 ORDER BY e.created_at, e.id;

-- name: told
UPDATE billing.stripe_records SET told_at = clock_timestamp() WHERE id = ANY (:ids);
