-- name: missing_there
-- What has ended since the subjects were chosen is left for the next pass, as all that is young.
SELECT c.id AS subject, coalesce(c.charge, c.payment_intent) AS stripe_id, c.amount_minor AS minor, c.currency,
       'captured here; no captured charge of ' || c.payment_intent || ' in Stripe''s ledger' AS what
  FROM billing.captures AS c
 WHERE c.id = ANY (:subjects) AND c.state = 'captured' AND c.requested_at >= :covered_from AND c.state_since < :until
   AND NOT EXISTS (SELECT FROM billing.stripe_records AS r
                    WHERE r.payment_intent = c.payment_intent AND r.object = 'charge' AND r.amount_minor > 0)
UNION ALL
SELECT f.id, coalesce(f.stripe_refund, f.payment_intent), f.amount_minor, f.currency,
       'given back here; no refund ' || coalesce(f.stripe_refund, 'of it') || ' in Stripe''s ledger'
  FROM billing.refunds AS f
 WHERE f.id = ANY (:subjects) AND f.state = 'succeeded' AND f.requested_at >= :covered_from
   AND f.state_since < :until
   AND NOT EXISTS (SELECT FROM billing.stripe_records AS r WHERE r.id = f.stripe_refund)
UNION ALL
-- What somebody else had canceled before it was asked for may lie before the first event that was read.
SELECT v.id, v.payment_intent, v.held_minor, v.currency,
       'voided here; no cancellation of ' || v.payment_intent || ' among Stripe''s events'
  FROM billing.voids AS v
 WHERE v.id = ANY (:subjects) AND v.state = 'voided' AND v.requested_at >= :covered_from
   AND v.state_since < :until AND v.reason IS DISTINCT FROM 'already_done'
   AND NOT EXISTS (SELECT FROM billing.stripe_records AS r WHERE r.id = v.payment_intent)
UNION ALL
SELECT i.id, i.stripe_invoice, coalesce(i.reckoned_minor, i.total_minor), i.currency,
       i.state || ' here; Stripe does not list ' || coalesce(i.stripe_invoice, 'an invoice of it')
  FROM billing.invoices AS i
 WHERE i.id = ANY (:subjects) AND i.state IN ('sent', 'unpaid', 'paid', 'uncollectible', 'voided') AND i.state_since < :until
   -- The list in which it would be, whichever list is compared now.
   AND i.requested_at >= (SELECT l.covered_from FROM billing.stripe_cursors AS l
                           WHERE l.account = coalesce(i.account, 'own') AND l.list = 'invoices')
   AND NOT EXISTS (SELECT FROM billing.stripe_records AS r WHERE r.id = i.stripe_invoice)
UNION ALL
-- At Stripe what is paid stays paid. What is still open there must have been read well after it was paid here: Stripe
-- lists an invoice by when it was made, and is not asked about it again.
SELECT i.id, i.stripe_invoice, r.amount_minor, r.currency,
       i.state || ' here; ' || r.state || ' at Stripe, ' || r.amount_minor || ' ' || r.currency
  FROM billing.invoices AS i
  JOIN billing.stripe_records AS r ON r.operation_id = i.id AND i.stripe_invoice IN (r.id, r.source)
 WHERE i.id = ANY (:subjects) AND i.state = 'paid' AND i.state_since < :until
   AND (r.object IN ('invoice', 'event') AND r.state = 'void'
        OR r.object = 'invoice' AND r.state IN ('open', 'uncollectible')
           AND r.seen_at > i.state_since + interval '1 minute')
UNION ALL
SELECT n.id, n.stripe_credit_note, n.amount_minor, n.currency,
       n.state || ' here; Stripe does not list ' || coalesce(n.stripe_credit_note, 'a credit note of it')
  FROM billing.credit_notes AS n
 WHERE n.id = ANY (:subjects) AND n.state = 'issued' AND n.requested_at >= :covered_from AND n.state_since < :until
   AND NOT EXISTS (SELECT FROM billing.stripe_records AS r WHERE r.id = n.stripe_credit_note);

-- name: missing_here
SELECT c.id AS subject, r.id AS stripe_id, r.amount_minor AS minor, r.currency,
       c.state || ' here; ' || r.amount_minor || ' ' || r.currency || ' captured in its name at Stripe' AS what
  FROM billing.captures AS c
  JOIN billing.stripe_records AS r ON r.operation_id = c.id AND r.object = 'charge' AND r.amount_minor > 0
 WHERE c.id = ANY (:subjects) AND c.state IN ('declined', 'refused', 'expired', 'canceled')
UNION ALL
SELECT f.id, r.id, r.amount_minor, r.currency,
       f.state || ' here; ' || r.amount_minor || ' ' || r.currency || ' given back in its name at Stripe'
  FROM billing.refunds AS f JOIN billing.stripe_records AS r ON r.operation_id = f.id AND r.object = 'refund'
 WHERE f.id = ANY (:subjects)
   AND (f.state = 'refused' AND r.state NOT IN ('failed', 'canceled')
        OR f.state IN ('failed', 'canceled') AND r.state = 'succeeded')
UNION ALL
SELECT v.id, r.id, r.amount_minor, r.currency, v.state || ' here; ' || r.id || ' was canceled with its key at Stripe'
  FROM billing.voids AS v JOIN billing.stripe_records AS r ON r.operation_id = v.id AND r.object = 'payment_intent'
 WHERE v.id = ANY (:subjects) AND v.state IN ('refused', 'expired')
UNION ALL
SELECT i.id, r.id, r.amount_minor, r.currency,
       i.state || ' here; ' || r.state || ' at Stripe, ' || r.amount_minor || ' ' || r.currency
  FROM billing.invoices AS i
  JOIN billing.stripe_records AS r ON r.operation_id = i.id AND r.object = 'invoice' AND r.state IN ('open', 'paid')
 WHERE i.id = ANY (:subjects) AND i.state = 'refused'
UNION ALL
-- As in `missing_there`: what is void stays void, and what is open must have been read well after it ended here.
SELECT i.id, i.stripe_invoice, r.amount_minor, r.currency,
       i.state || ' here; ' || r.state || ' at Stripe, ' || r.amount_minor || ' ' || r.currency
  FROM billing.invoices AS i
  JOIN billing.stripe_records AS r ON r.operation_id = i.id AND i.stripe_invoice IN (r.id, r.source)
 WHERE i.id = ANY (:subjects)
   AND (i.state = 'voided' AND r.object IN ('invoice', 'event') AND r.state = 'paid'
        OR (i.state = 'voided' AND r.state = 'uncollectible' OR i.state IN ('voided', 'uncollectible') AND r.state = 'open')
           AND r.object = 'invoice' AND r.seen_at > i.state_since + interval '1 minute')
UNION ALL
SELECT n.id, r.id, r.amount_minor, r.currency,
       n.state || ' here; ' || r.amount_minor || ' ' || r.currency || ' credited in its name at Stripe'
  FROM billing.credit_notes AS n
  JOIN billing.stripe_records AS r ON r.operation_id = n.id AND r.object = 'credit_note' AND r.state = 'issued'
 -- The list may have been read before it was voided; what is void stays void.
 WHERE n.id = ANY (:subjects)
   AND (n.state = 'refused' OR n.state = 'voided' AND r.seen_at > n.state_since + interval '1 minute');

-- name: amount
-- Stripe adds up the captures of one authorization, and so do we: it is said of the last that was captured. The last
-- condition is that of the partial index.
SELECT c.id AS subject, r.id AS stripe_id, r.minor - ours.minor AS minor, c.currency,
       ours.minor || ' ' || c.currency || ' here, ' || r.minor || ' at Stripe' AS what
  FROM billing.captures AS c,
       LATERAL (SELECT sum(o.amount_minor) AS minor, max(o.capture_no) AS newest FROM billing.captures AS o
                 WHERE o.payment_intent = c.payment_intent AND o.state = 'captured'
                   AND (o.account = c.account OR o.account IS NULL AND c.account IS NULL)
                   AND o.state NOT IN ('declined', 'refused', 'canceled')) AS ours,
       LATERAL (SELECT min(s.id) AS id, min(s.currency) AS currency, sum(s.amount_minor) AS minor
                  FROM billing.stripe_records AS s
                 WHERE s.payment_intent = c.payment_intent AND s.object = 'charge' AND s.amount_minor > 0) AS r
 WHERE c.id = ANY (:subjects) AND c.state = 'captured' AND c.capture_no = ours.newest AND r.currency = c.currency
   AND r.minor <> ours.minor
UNION ALL
SELECT f.id, r.id, r.amount_minor - f.amount_minor, f.currency,
       f.amount_minor || ' ' || f.currency || ' here, ' || r.amount_minor || ' at Stripe'
  FROM billing.refunds AS f JOIN billing.stripe_records AS r ON r.id = f.stripe_refund
 WHERE f.id = ANY (:subjects) AND f.state IN ('pending', 'requires_action', 'succeeded') AND r.currency = f.currency
   AND r.amount_minor <> f.amount_minor
UNION ALL
-- Stripe shows of a canceled intent only how much it was about. A card may have held less of it, and never more.
SELECT v.id, r.id, v.held_minor - r.amount_minor, v.currency,
       v.held_minor || ' ' || v.currency || ' were held by what was about ' || r.amount_minor || ' at Stripe'
  FROM billing.voids AS v JOIN billing.stripe_records AS r ON r.id = v.payment_intent AND r.object = 'payment_intent'
 WHERE v.id = ANY (:subjects) AND v.state = 'voided' AND r.currency = v.currency AND v.held_minor > r.amount_minor
UNION ALL
SELECT i.id, r.id, r.amount_minor - coalesce(i.reckoned_minor, i.total_minor), i.currency,
       coalesce(i.reckoned_minor, i.total_minor) || ' ' || i.currency || ' here, ' || r.amount_minor || ' at Stripe'
  FROM billing.invoices AS i JOIN billing.stripe_records AS r ON r.id = i.stripe_invoice
 WHERE i.id = ANY (:subjects) AND i.state IN ('sent', 'unpaid', 'paid', 'uncollectible', 'voided') AND r.currency = i.currency
   AND r.amount_minor <> coalesce(i.reckoned_minor, i.total_minor)
UNION ALL
SELECT n.id, r.id, r.amount_minor - n.amount_minor, n.currency,
       n.amount_minor || ' ' || n.currency || ' here, ' || r.amount_minor || ' at Stripe'
  FROM billing.credit_notes AS n JOIN billing.stripe_records AS r ON r.id = n.stripe_credit_note
 WHERE n.id = ANY (:subjects) AND n.state IN ('issued', 'voided') AND r.currency = n.currency
   AND r.amount_minor <> n.amount_minor;

-- name: currency
SELECT c.id AS subject, r.id AS stripe_id, c.amount_minor AS minor, c.currency,
       c.amount_minor || ' ' || c.currency || ' here, ' || r.amount_minor || ' ' || r.currency || ' at Stripe' AS what
  FROM billing.captures AS c
  JOIN billing.stripe_records AS r
       ON r.payment_intent = c.payment_intent AND r.object = 'charge' AND r.amount_minor > 0
 WHERE c.id = ANY (:subjects) AND c.state = 'captured' AND r.currency <> c.currency
UNION ALL
SELECT f.id, r.id, f.amount_minor, f.currency,
       f.amount_minor || ' ' || f.currency || ' here, ' || r.amount_minor || ' ' || r.currency || ' at Stripe'
  FROM billing.refunds AS f JOIN billing.stripe_records AS r ON r.id = f.stripe_refund
 WHERE f.id = ANY (:subjects) AND f.state IN ('pending', 'requires_action', 'succeeded') AND r.currency <> f.currency
UNION ALL
SELECT v.id, r.id, v.held_minor, v.currency,
       v.held_minor || ' ' || v.currency || ' held here, ' || r.amount_minor || ' ' || r.currency || ' at Stripe'
  FROM billing.voids AS v JOIN billing.stripe_records AS r ON r.id = v.payment_intent AND r.object = 'payment_intent'
 WHERE v.id = ANY (:subjects) AND v.state = 'voided' AND r.currency <> v.currency
UNION ALL
SELECT i.id, r.id, coalesce(i.reckoned_minor, i.total_minor), i.currency,
       coalesce(i.reckoned_minor, i.total_minor) || ' ' || i.currency || ' here, ' || r.amount_minor || ' ' || r.currency || ' at Stripe'
  FROM billing.invoices AS i JOIN billing.stripe_records AS r ON r.id = i.stripe_invoice
 WHERE i.id = ANY (:subjects) AND i.state IN ('sent', 'unpaid', 'paid', 'uncollectible', 'voided') AND r.currency <> i.currency
UNION ALL
SELECT n.id, r.id, n.amount_minor, n.currency,
       n.amount_minor || ' ' || n.currency || ' here, ' || r.amount_minor || ' ' || r.currency || ' at Stripe'
  FROM billing.credit_notes AS n JOIN billing.stripe_records AS r ON r.id = n.stripe_credit_note
 WHERE n.id = ANY (:subjects) AND n.state IN ('issued', 'voided') AND r.currency <> n.currency;

-- name: state
SELECT c.id AS subject, r.id AS stripe_id, r.amount_minor AS minor, r.currency,
       c.state || ' here; ' || r.amount_minor || ' ' || r.currency || ' captured in its name at Stripe' AS what
  FROM billing.captures AS c
  JOIN billing.stripe_records AS r ON r.operation_id = c.id AND r.object = 'charge' AND r.amount_minor > 0
 WHERE c.id = ANY (:subjects) AND c.state NOT IN ('captured', 'declined', 'refused', 'expired', 'canceled')
UNION ALL
SELECT f.id, r.id, r.amount_minor, r.currency,
       f.state || ' here; ' || coalesce(r.state, 'made') || ' at Stripe, ' || r.amount_minor || ' ' || r.currency
  FROM billing.refunds AS f JOIN billing.stripe_records AS r ON r.operation_id = f.id AND r.object = 'refund'
 WHERE f.id = ANY (:subjects)
   AND (f.state = 'requested'
        OR f.state IN ('pending', 'requires_action') AND r.state IN ('succeeded', 'failed', 'canceled')
        OR f.state = 'succeeded' AND r.state = 'failed')
UNION ALL
SELECT v.id, r.id, r.amount_minor, r.currency, v.state || ' here; ' || r.id || ' was canceled with its key at Stripe'
  FROM billing.voids AS v JOIN billing.stripe_records AS r ON r.operation_id = v.id AND r.object = 'payment_intent'
 WHERE v.id = ANY (:subjects) AND v.state = 'requested'
UNION ALL
SELECT i.id, r.id, r.amount_minor, r.currency,
       i.state || ' here; ' || r.state || ' at Stripe, ' || r.amount_minor || ' ' || r.currency
  FROM billing.invoices AS i
  JOIN billing.stripe_records AS r
       ON r.operation_id = i.id AND r.object = 'invoice' AND r.state IN ('paid', 'void', 'uncollectible')
 WHERE i.id = ANY (:subjects) AND i.state NOT IN ('sent', 'unpaid', 'paid', 'uncollectible', 'voided', 'refused')
UNION ALL
-- It only goes forward, so an older record that says more than our row is as good as the newest.
(SELECT DISTINCT ON (i.id) i.id, i.stripe_invoice, r.amount_minor, r.currency,
        i.state || ' here; ' || r.state || ' at Stripe, ' || r.amount_minor || ' ' || r.currency
   FROM billing.invoices AS i
   JOIN billing.stripe_records AS r
        ON r.operation_id = i.id AND i.stripe_invoice IN (r.id, r.source) AND r.object IN ('invoice', 'event')
  WHERE i.id = ANY (:subjects)
    AND (i.state IN ('sent', 'unpaid') AND r.state IN ('paid', 'void', 'uncollectible')
         OR i.state = 'uncollectible' AND r.state IN ('paid', 'void'))
  ORDER BY i.id, r.created_at DESC)
UNION ALL
SELECT i.id, p.id, p.minor - coalesce(i.paid_minor, 0), i.currency,
       coalesce(i.paid_minor, 0) || ' ' || i.currency || ' of it paid here, ' || p.minor || ' at Stripe'
  FROM billing.invoices AS i
 CROSS JOIN LATERAL (SELECT min(r.id) AS id, sum(r.amount_minor) AS minor FROM billing.stripe_records AS r
                      WHERE r.source = i.stripe_invoice AND r.object = 'invoice_payment') AS p
 WHERE i.id = ANY (:subjects) AND i.state IN ('sent', 'unpaid', 'uncollectible') AND p.minor > coalesce(i.paid_minor, 0)
UNION ALL
SELECT n.id, r.id, r.amount_minor, r.currency,
       n.state || ' here; ' || coalesce(r.state, 'made') || ' at Stripe, ' || r.amount_minor || ' ' || r.currency
  FROM billing.credit_notes AS n JOIN billing.stripe_records AS r ON r.operation_id = n.id AND r.object = 'credit_note'
 WHERE n.id = ANY (:subjects) AND n.state = 'requested'
UNION ALL
-- In the list it may stand as it was before.
(SELECT DISTINCT ON (n.id) n.id, n.stripe_credit_note, n.amount_minor, n.currency,
        'issued here; void at Stripe, ' || n.amount_minor || ' ' || n.currency
   FROM billing.credit_notes AS n
   JOIN billing.stripe_records AS r
        ON r.operation_id = n.id AND n.stripe_credit_note IN (r.id, r.source) AND r.object IN ('credit_note', 'event')
  WHERE n.id = ANY (:subjects) AND n.state = 'issued' AND r.state = 'void'
  ORDER BY n.id);

-- name: account_or_mode
-- Stripe says of no refund in which mode it was made.
SELECT o.id AS subject, r.id AS stripe_id, r.amount_minor AS minor, r.currency,
       o.account || ' here, ' || r.account || ' at Stripe; livemode ' || n.livemode || ' here, '
       || coalesce(CAST(r.livemode AS text), 'not told') || ' at Stripe' AS what
  FROM (SELECT id, coalesce(account, 'own') AS account FROM billing.captures WHERE id = ANY (:subjects)
         UNION ALL
        SELECT id, coalesce(account, 'own') FROM billing.refunds WHERE id = ANY (:subjects)
         UNION ALL
        SELECT id, coalesce(account, 'own') FROM billing.voids WHERE id = ANY (:subjects)
         UNION ALL
        SELECT id, coalesce(account, 'own') FROM billing.invoices WHERE id = ANY (:subjects)
         UNION ALL
        SELECT id, coalesce(account, 'own') FROM billing.credit_notes WHERE id = ANY (:subjects)) AS o
  JOIN billing.stripe_records AS r
       ON r.operation_id = o.id AND r.object IN ('charge', 'refund', 'payment_intent', 'invoice', 'credit_note')
 CROSS JOIN billing.installation AS n
 WHERE r.account <> o.account OR r.livemode <> n.livemode;

-- name: duplicate_effect
SELECT r.operation_id AS subject, min(r.id) AS stripe_id, sum(r.amount_minor) - max(r.amount_minor) AS minor,
       min(r.currency) AS currency, count(*) || ' effects at Stripe: ' || string_agg(r.id, ', ' ORDER BY r.id) AS what
  FROM billing.stripe_records AS r
 WHERE r.operation_id = ANY (:subjects)
   AND (r.object = 'charge' AND r.amount_minor > 0
        OR r.object = 'refund' AND r.state NOT IN ('failed', 'canceled')
        OR r.object = 'credit_note' AND r.state = 'issued'
        -- Of a void alone: Stripe cancels the intent of an invoice that our call marks as paid out of band.
        OR r.object = 'payment_intent' AND left(r.operation_id, 5) = 'void_'
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
SELECT f.id, e.id, e.net_minor - (e.amount_minor - e.fee_minor), e.currency,
       'an entry of ' || e.amount_minor || ' with a fee of ' || e.fee_minor || ' has a net of ' || e.net_minor
  FROM billing.refunds AS f
  JOIN billing.stripe_records AS e ON e.source = f.stripe_refund AND e.object = 'balance_transaction'
 WHERE f.id = ANY (:subjects) AND e.net_minor <> e.amount_minor - e.fee_minor
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
SELECT f.id, r.id, e.minor - r.amount_minor, r.currency,
       r.amount_minor || ' ' || r.currency || ' in the refund, ' || e.minor || ' in the ledger'
  FROM billing.refunds AS f
  JOIN billing.stripe_records AS r ON r.id = f.stripe_refund AND r.object = 'refund'
 CROSS JOIN LATERAL (SELECT -sum(t.amount_minor) AS minor, min(t.currency) AS low, max(t.currency) AS high
                       FROM billing.stripe_records AS t
                      WHERE t.source = r.id AND t.object = 'balance_transaction'
                        AND t.type IN ('refund', 'payment_refund')) AS e
 WHERE f.id = ANY (:subjects) AND f.state = 'succeeded' AND f.requested_at >= :covered_from
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
-- One that names an operation was asked for here, or is unknown_metadata. Of several captures of one authorization it is
-- said of the last, whose id the charge has.
SELECT c.id AS subject, min(r.id) AS stripe_id, sum(r.amount_minor) AS minor, min(r.currency) AS currency,
       sum(r.amount_minor) || ' ' || min(r.currency) || ' refunded at Stripe, not asked for here' AS what
  FROM billing.captures AS c
  JOIN billing.stripe_records AS r
       ON r.payment_intent = c.payment_intent AND r.object = 'refund' AND r.operation_id IS NULL
          AND r.state NOT IN ('failed', 'canceled')
 WHERE c.id = ANY (:subjects) AND c.state = 'captured'
   AND NOT EXISTS (SELECT FROM billing.captures AS n
                    WHERE n.payment_intent = c.payment_intent AND n.state = 'captured' AND n.capture_no > c.capture_no
                      AND (n.account = c.account OR n.account IS NULL AND c.account IS NULL)
                      AND n.state NOT IN ('declined', 'refused', 'canceled'))
 GROUP BY c.id
UNION ALL
-- Of a payment by which an invoice of ours was paid, unless it is a capture of ours, too.
SELECT i.id, min(r.id), sum(r.amount_minor), min(r.currency),
       sum(r.amount_minor) || ' ' || min(r.currency) || ' of its payment refunded at Stripe, not asked for here'
  FROM billing.invoices AS i
  JOIN billing.stripe_records AS p ON p.source = i.stripe_invoice AND p.object = 'invoice_payment'
  JOIN billing.stripe_records AS r
       ON r.payment_intent = p.payment_intent AND r.object = 'refund' AND r.operation_id IS NULL
          AND r.state NOT IN ('failed', 'canceled')
 WHERE i.id = ANY (:subjects)
   AND NOT EXISTS (SELECT FROM billing.captures AS c
                    WHERE c.payment_intent = p.payment_intent AND c.state NOT IN ('declined', 'refused', 'canceled'))
 GROUP BY i.id;

-- name: payment
-- Where nothing brings our row forward. What was paid of an invoice is known as it was when it was found to be paid; an
-- older version kept no amount, and then it is the total. Captures have paid `already_paid` before. Of one that is open,
-- more here than there is believed only if the list of payments covers all its life, and was read until a minute after
-- the last fact about it.
SELECT i.id AS subject, coalesce(p.id, i.stripe_invoice) AS stripe_id, p.minor - known.minor AS minor, i.currency,
       i.state || ' here with ' || known.minor || ' ' || i.currency || ' paid through Stripe, ' || p.minor || ' at Stripe' AS what
  FROM billing.invoices AS i
 CROSS JOIN LATERAL (SELECT min(r.id) AS id, coalesce(sum(r.amount_minor), 0) AS minor FROM billing.stripe_records AS r
                      WHERE r.source = i.stripe_invoice AND r.object = 'invoice_payment') AS p
 CROSS JOIN LATERAL (SELECT CASE WHEN i.terms ->> 'collect' = 'already_paid' THEN 0
                                 WHEN i.state = 'paid' THEN coalesce(i.paid_minor, i.reckoned_minor, i.total_minor)
                                 ELSE coalesce(i.paid_minor, 0) END AS minor) AS known
 WHERE i.id = ANY (:subjects) AND i.state_since < :until
   AND (i.state IN ('paid', 'voided', 'refused') AND p.minor > known.minor
        OR i.state IN ('sent', 'unpaid', 'uncollectible') AND p.minor < known.minor
           AND EXISTS (SELECT FROM billing.stripe_cursors AS l
                        WHERE l.account = coalesce(i.account, 'own') AND l.list = 'invoice_payments'
                          AND l.covered_from <= i.requested_at
                          AND NOT EXISTS (SELECT FROM billing.facts AS f
                                           WHERE f.entity_type = 'invoice' AND f.entity_id = i.id
                                             AND f.happened_at > l.covered_until - interval '1 minute')));

-- name: credit
-- Of an invoice of ours. The one that names an operation was asked for here, or is unknown_metadata.
SELECT r.id AS subject, r.id AS stripe_id, r.amount_minor AS minor, r.currency,
       r.amount_minor || ' ' || r.currency || ' taken off ' || i.id || ' at Stripe, not asked for here' AS what
  FROM billing.stripe_records AS r
  JOIN billing.invoices AS i ON i.stripe_invoice = r.source
 WHERE r.id = ANY (:subjects) AND r.object = 'credit_note' AND r.operation_id IS NULL
   AND r.state IS DISTINCT FROM 'void'
   AND NOT EXISTS (SELECT FROM billing.stripe_records AS e
                    WHERE e.source = r.id AND e.object = 'event' AND e.state = 'void');

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
-- A canceled intent has no metadata of ours: its event has the key.
SELECT DISTINCT ON (r.operation_id) r.operation_id AS subject, r.id AS stripe_id, r.amount_minor AS minor, r.currency,
       r.object || ' ' || r.id || ' names it; it is not known here' AS what
  FROM billing.stripe_records AS r
 WHERE r.operation_id = ANY (:subjects)
   AND (r.object = 'charge' AND r.amount_minor > 0
        OR r.object IN ('refund', 'payment_intent', 'invoice', 'credit_note'))
   AND NOT EXISTS (SELECT FROM billing.captures AS c WHERE c.id = r.operation_id)
   AND NOT EXISTS (SELECT FROM billing.refunds AS f WHERE f.id = r.operation_id)
   AND NOT EXISTS (SELECT FROM billing.voids AS v WHERE v.id = r.operation_id)
   AND NOT EXISTS (SELECT FROM billing.invoices AS i WHERE i.id = r.operation_id)
   AND NOT EXISTS (SELECT FROM billing.credit_notes AS n WHERE n.id = r.operation_id)
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
SELECT f.id, f.payment_intent, f.amount_minor, f.currency,
       f.state || ' here, and no money was given back in its name at Stripe'
  FROM billing.refunds AS f
 WHERE f.id = ANY (:subjects) AND f.state = 'requested'
   AND NOT EXISTS (SELECT FROM billing.stripe_records AS r WHERE r.operation_id = f.id AND r.object = 'refund')
UNION ALL
SELECT v.id, v.payment_intent, v.held_minor, v.currency, v.state || ' here, and not canceled with its key at Stripe'
  FROM billing.voids AS v
 WHERE v.id = ANY (:subjects) AND v.state = 'requested'
   AND NOT EXISTS (SELECT FROM billing.stripe_records AS r WHERE r.operation_id = v.id AND r.object = 'payment_intent')
UNION ALL
SELECT i.id, i.stripe_invoice, coalesce(i.reckoned_minor, i.total_minor), i.currency, i.state || ' here, and not sent'
  FROM billing.invoices AS i
 WHERE i.id = ANY (:subjects) AND i.state NOT IN ('sent', 'unpaid', 'paid', 'uncollectible', 'voided', 'refused')
   AND NOT EXISTS (SELECT FROM billing.stripe_records AS r
                    WHERE r.operation_id = i.id AND r.object = 'invoice'
                      AND r.state IN ('paid', 'void', 'uncollectible'))
UNION ALL
SELECT n.id, n.stripe_invoice, n.amount_minor, n.currency, n.state || ' here, and nothing was credited in its name'
  FROM billing.credit_notes AS n
 WHERE n.id = ANY (:subjects) AND n.state = 'requested'
   AND NOT EXISTS (SELECT FROM billing.stripe_records AS r WHERE r.operation_id = n.id AND r.object = 'credit_note');
