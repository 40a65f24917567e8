-- name: begin_cursor
INSERT INTO billing.stripe_cursors (account, list, covered_from, covered_until, compared_until)
VALUES (:account, :list, :begin, :begin, :begin) ON CONFLICT DO NOTHING;

-- name: read_on
UPDATE billing.stripe_cursors
   SET covered_until = greatest(covered_until, :covered_until), window_until = :window_until, after_id = :after_id
 WHERE account = :account AND list = :list;

-- name: mirror
-- An older page changes nothing, and what one page does not show (the payout of an entry) stays.
INSERT INTO billing.stripe_records AS r (id, object, account, livemode, type, state, amount_minor, fee_minor, net_minor,
                                         currency, operation_id, payment_intent, source, payout, available_at, created_at,
                                         seen_at)
SELECT n.id, n.object, :account, n.livemode, n.type, n.state, n.amount_minor, n.fee_minor, n.net_minor,
       n.currency, n.operation_id, n.payment_intent, n.source, n.payout, n.available_at, n.created_at, :seen_at
  FROM jsonb_to_recordset(CAST(:rows AS jsonb))
       AS n (id text, object text, livemode boolean, type text, state text, amount_minor bigint, fee_minor bigint,
             net_minor bigint, currency text, operation_id text, payment_intent text, source text, payout text,
             available_at timestamptz, created_at timestamptz)
 ORDER BY n.id
    ON CONFLICT (id) DO UPDATE
   SET amount_minor = excluded.amount_minor, fee_minor = excluded.fee_minor, net_minor = excluded.net_minor,
       state = excluded.state, operation_id = coalesce(excluded.operation_id, r.operation_id),
       payout = coalesce(excluded.payout, r.payout), available_at = coalesce(excluded.available_at, r.available_at),
       seen_at = excluded.seen_at
 WHERE r.seen_at <= excluded.seen_at;

-- name: payout_to_read
SELECT p.id FROM billing.stripe_records AS p
 WHERE p.account = :account AND p.object = 'payout'
   AND NOT EXISTS (SELECT FROM billing.stripe_records AS e WHERE e.source = p.id AND e.payout = p.id)
 ORDER BY p.created_at LIMIT 1;
