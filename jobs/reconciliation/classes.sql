-- name: missing_there
SELECT c.id AS subject, coalesce(c.charge, c.payment_intent) AS stripe_id, c.amount_minor AS minor, c.currency,
       'captured here; no captured charge of ' || c.payment_intent || ' in Stripe''s ledger' AS what
  FROM billing.captures AS c
 WHERE c.id = ANY (:subjects) AND c.state = 'captured' AND c.requested_at >= :covered_from
   AND NOT EXISTS (SELECT FROM billing.stripe_records AS r
                    WHERE r.payment_intent = c.payment_intent AND r.object = 'charge' AND r.amount_minor > 0)
UNION ALL
SELECT i.id, i.stripe_invoice, i.total_minor, i.currency,
       i.state || ' here; Stripe does not list ' || coalesce(i.stripe_invoice, 'an invoice of it')
  FROM billing.invoices AS i
 WHERE i.id = ANY (:subjects) AND i.state IN ('sent', 'paid') AND i.requested_at >= :covered_from
   AND NOT EXISTS (SELECT FROM billing.stripe_records AS r WHERE r.id = i.stripe_invoice);

-- name: missing_here
SELECT c.id AS subject, r.id AS stripe_id, r.amount_minor AS minor, r.currency,
       c.state || ' here; ' || r.amount_minor || ' ' || r.currency || ' captured in its name at Stripe' AS what
  FROM billing.captures AS c
  JOIN billing.stripe_records AS r ON r.operation_id = c.id AND r.object = 'charge' AND r.amount_minor > 0
 WHERE c.id = ANY (:subjects) AND c.state IN ('declined', 'refused', 'expired', 'canceled')
UNION ALL
SELECT i.id, r.id, r.amount_minor, r.currency,
       i.state || ' here; ' || r.state || ' at Stripe, ' || r.amount_minor || ' ' || r.currency
  FROM billing.invoices AS i
  JOIN billing.stripe_records AS r ON r.operation_id = i.id AND r.object = 'invoice' AND r.state IN ('open', 'paid')
 WHERE i.id = ANY (:subjects) AND i.state = 'refused';

-- name: amount
-- Stripe adds up the captures of one authorization, and so do we. The last condition is that of the partial index.
SELECT c.id AS subject, r.id AS stripe_id, r.minor - ours.minor AS minor, c.currency,
       ours.minor || ' ' || c.currency || ' here, ' || r.minor || ' at Stripe' AS what
  FROM billing.captures AS c,
       LATERAL (SELECT sum(o.amount_minor) AS minor FROM billing.captures AS o
                 WHERE o.payment_intent = c.payment_intent AND o.state = 'captured'
                   AND (o.account = c.account OR o.account IS NULL AND c.account IS NULL)
                   AND o.state NOT IN ('declined', 'refused', 'expired', 'canceled')) AS ours,
       LATERAL (SELECT min(s.id) AS id, min(s.currency) AS currency, sum(s.amount_minor) AS minor
                  FROM billing.stripe_records AS s
                 WHERE s.payment_intent = c.payment_intent AND s.object = 'charge' AND s.amount_minor > 0) AS r
 WHERE c.id = ANY (:subjects) AND c.state = 'captured' AND r.currency = c.currency AND r.minor <> ours.minor
UNION ALL
SELECT i.id, r.id, r.amount_minor - i.total_minor, i.currency,
       i.total_minor || ' ' || i.currency || ' here, ' || r.amount_minor || ' at Stripe'
  FROM billing.invoices AS i JOIN billing.stripe_records AS r ON r.id = i.stripe_invoice
 WHERE i.id = ANY (:subjects) AND i.state IN ('sent', 'paid') AND r.currency = i.currency
   AND r.amount_minor <> i.total_minor;

-- name: currency
SELECT c.id AS subject, r.id AS stripe_id, c.amount_minor AS minor, c.currency,
       c.amount_minor || ' ' || c.currency || ' here, ' || r.amount_minor || ' ' || r.currency || ' at Stripe' AS what
  FROM billing.captures AS c
  JOIN billing.stripe_records AS r
       ON r.payment_intent = c.payment_intent AND r.object = 'charge' AND r.amount_minor > 0
 WHERE c.id = ANY (:subjects) AND c.state = 'captured' AND r.currency <> c.currency
UNION ALL
SELECT i.id, r.id, i.total_minor, i.currency,
       i.total_minor || ' ' || i.currency || ' here, ' || r.amount_minor || ' ' || r.currency || ' at Stripe'
  FROM billing.invoices AS i JOIN billing.stripe_records AS r ON r.id = i.stripe_invoice
 WHERE i.id = ANY (:subjects) AND i.state IN ('sent', 'paid') AND r.currency <> i.currency;

-- name: state
SELECT c.id AS subject, r.id AS stripe_id, r.amount_minor AS minor, r.currency,
       c.state || ' here; ' || r.amount_minor || ' ' || r.currency || ' captured in its name at Stripe' AS what
  FROM billing.captures AS c
  JOIN billing.stripe_records AS r ON r.operation_id = c.id AND r.object = 'charge' AND r.amount_minor > 0
 WHERE c.id = ANY (:subjects) AND c.state NOT IN ('captured', 'declined', 'refused', 'expired', 'canceled')
UNION ALL
SELECT i.id, r.id, r.amount_minor, r.currency,
       i.state || ' here; ' || r.state || ' at Stripe, ' || r.amount_minor || ' ' || r.currency
  FROM billing.invoices AS i
  JOIN billing.stripe_records AS r
       ON r.operation_id = i.id AND r.object = 'invoice' AND r.state IN ('paid', 'void', 'uncollectible')
 WHERE i.id = ANY (:subjects) AND i.state NOT IN ('sent', 'paid', 'refused');

-- name: account_or_mode
SELECT o.id AS subject, r.id AS stripe_id, r.amount_minor AS minor, r.currency,
       o.account || ' here, ' || r.account || ' at Stripe; livemode ' || n.livemode || ' here, ' || r.livemode
       || ' at Stripe' AS what
  FROM (SELECT id, coalesce(account, 'own') AS account FROM billing.captures WHERE id = ANY (:subjects)
         UNION ALL
        SELECT id, coalesce(account, 'own') FROM billing.invoices WHERE id = ANY (:subjects)) AS o
  JOIN billing.stripe_records AS r ON r.operation_id = o.id AND r.object IN ('charge', 'invoice')
 CROSS JOIN billing.installation AS n
 WHERE r.account <> o.account OR r.livemode <> n.livemode;

-- name: duplicate_effect
SELECT r.operation_id AS subject, min(r.id) AS stripe_id, sum(r.amount_minor) - max(r.amount_minor) AS minor,
       min(r.currency) AS currency, count(*) || ' effects at Stripe: ' || string_agg(r.id, ', ' ORDER BY r.id) AS what
  FROM billing.stripe_records AS r
 WHERE r.operation_id = ANY (:subjects)
   AND (r.object = 'charge' AND r.amount_minor > 0
        OR r.object = 'invoice' AND r.state IN ('open', 'paid', 'uncollectible'))
 GROUP BY r.operation_id HAVING count(*) > 1;

-- name: fee_or_net
SELECT c.id AS subject, e.id AS stripe_id, e.net_minor - (e.amount_minor - e.fee_minor) AS minor, e.currency,
       'an entry of ' || e.amount_minor || ' with a fee of ' || e.fee_minor || ' has a net of ' || e.net_minor AS what
  FROM billing.captures AS c
  JOIN billing.stripe_records AS r ON r.payment_intent = c.payment_intent AND r.object = 'charge'
  JOIN billing.stripe_records AS e ON e.source = r.id AND e.object = 'balance_transaction'
 WHERE c.id = ANY (:subjects) AND c.state = 'captured' AND e.net_minor <> e.amount_minor - e.fee_minor
UNION ALL
-- Where Stripe converts, the entry is in the currency of the balance, and no sum can be compared.
SELECT c.id, r.id, e.minor - r.amount_minor, r.currency,
       r.amount_minor || ' ' || r.currency || ' captured of the charge, ' || e.minor || ' in the ledger'
  FROM billing.captures AS c
  JOIN billing.stripe_records AS r
       ON r.payment_intent = c.payment_intent AND r.object = 'charge' AND r.amount_minor > 0
 CROSS JOIN LATERAL (SELECT sum(t.amount_minor) AS minor, min(t.currency) AS low, max(t.currency) AS high
                       FROM billing.stripe_records AS t
                      WHERE t.source = r.id AND t.object = 'balance_transaction'
                        AND t.type IN ('charge', 'payment')) AS e
 WHERE c.id = ANY (:subjects) AND c.state = 'captured' AND c.requested_at >= :covered_from
   AND e.low = r.currency AND e.high = r.currency AND e.minor <> r.amount_minor
UNION ALL
SELECT p.id, p.id, e.minor - p.amount_minor, p.currency,
       p.amount_minor || ' ' || p.currency || ' paid out, ' || e.minor || ' net in its entries'
  FROM billing.stripe_records AS p
 CROSS JOIN LATERAL (SELECT sum(t.net_minor) AS minor FROM billing.stripe_records AS t
                      WHERE t.payout = p.id AND t.source IS DISTINCT FROM p.id
                        AND t.object = 'balance_transaction') AS e
 WHERE p.id = ANY (:subjects) AND p.object = 'payout' AND e.minor <> p.amount_minor;

-- name: refund
-- One that names an operation was asked for here.
SELECT c.id AS subject, min(r.id) AS stripe_id, sum(r.amount_minor) AS minor, min(r.currency) AS currency,
       sum(r.amount_minor) || ' ' || min(r.currency) || ' refunded at Stripe, not asked for here' AS what
  FROM billing.captures AS c
  JOIN billing.stripe_records AS r
       ON r.payment_intent = c.payment_intent AND r.object = 'refund' AND r.operation_id IS NULL
          AND r.state NOT IN ('failed', 'canceled')
 WHERE c.id = ANY (:subjects) AND c.state = 'captured'
 GROUP BY c.id;

-- name: lapsed
-- An earlier capture of the same authorization may have taken its part.
SELECT c.id AS subject, c.payment_intent AS stripe_id, c.amount_minor AS minor, c.currency,
       c.state || ' here, and the authorization has lapsed' AS what
  FROM billing.captures AS c
 WHERE c.id = ANY (:subjects) AND c.state NOT IN ('captured', 'declined', 'refused', 'expired', 'canceled')
   AND c.capture_before < :until
   AND NOT EXISTS (SELECT FROM billing.stripe_records AS r
                    WHERE r.operation_id = c.id AND r.object = 'charge' AND r.amount_minor > 0);

-- name: unknown_metadata
SELECT DISTINCT ON (r.operation_id) r.operation_id AS subject, r.id AS stripe_id, r.amount_minor AS minor, r.currency,
       r.object || ' ' || r.id || ' names it; it is not known here' AS what
  FROM billing.stripe_records AS r
 WHERE r.operation_id = ANY (:subjects)
   AND (r.object = 'charge' AND r.amount_minor > 0 OR r.object = 'invoice')
   AND NOT EXISTS (SELECT FROM billing.captures AS c WHERE c.id = r.operation_id)
   AND NOT EXISTS (SELECT FROM billing.invoices AS i WHERE i.id = r.operation_id)
 ORDER BY r.operation_id, r.id;

-- name: late
SELECT c.id AS subject, c.payment_intent AS stripe_id, c.amount_minor AS minor, c.currency,
       c.state || ' here, and no money was taken in its name at Stripe' AS what
  FROM billing.captures AS c
 WHERE c.id = ANY (:subjects) AND c.state NOT IN ('captured', 'declined', 'refused', 'expired', 'canceled')
   AND (c.capture_before IS NULL OR c.capture_before >= :until)
   AND NOT EXISTS (SELECT FROM billing.stripe_records AS r
                    WHERE r.operation_id = c.id AND r.object = 'charge' AND r.amount_minor > 0)
UNION ALL
SELECT i.id, i.stripe_invoice, i.total_minor, i.currency, i.state || ' here, and not sent'
  FROM billing.invoices AS i
 WHERE i.id = ANY (:subjects) AND i.state NOT IN ('sent', 'paid', 'refused')
   AND NOT EXISTS (SELECT FROM billing.stripe_records AS r
                    WHERE r.operation_id = i.id AND r.object = 'invoice'
                      AND r.state IN ('paid', 'void', 'uncollectible'));
