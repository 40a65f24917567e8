-- name: changed
-- A page along the numbers of the facts, whatever they are about: by their kind, Postgres would read all of that kind.
WITH page AS MATERIALIZED (
    SELECT id, entity_type, entity_id FROM billing.facts WHERE id >= :after AND id < :last ORDER BY id LIMIT :most)
SELECT p.id, o.id AS subject
  FROM page AS p
  LEFT JOIN LATERAL (
       SELECT c.id FROM billing.captures AS c
        WHERE p.entity_type = 'capture' AND c.id = p.entity_id AND coalesce(c.account, 'own') = :account
       UNION ALL
       SELECT f.id FROM billing.refunds AS f
        WHERE p.entity_type = 'refund' AND f.id = p.entity_id AND coalesce(f.account, 'own') = :account
       UNION ALL
       SELECT v.id FROM billing.voids AS v
        WHERE p.entity_type = 'void' AND v.id = p.entity_id AND coalesce(v.account, 'own') = :account
       UNION ALL
       SELECT i.id FROM billing.invoices AS i
        WHERE p.entity_type = 'invoice' AND i.id = p.entity_id AND coalesce(i.account, 'own') = :account
       UNION ALL
       SELECT n.id FROM billing.credit_notes AS n
        WHERE p.entity_type = 'credit_note' AND n.id = p.entity_id AND coalesce(n.account, 'own') = :account) AS o
    ON p.entity_type = ANY (:kinds)
 ORDER BY p.id;

-- name: shown_or_open
-- What Stripe dates into this time; its payouts; what differs already; what is in doubt. An entry leads to its refund, and
-- over the payment intent to the charge that names our capture: that is dated when it was authorized. The source of a
-- credit note is its invoice, which is another operation. `known`: what ids
-- of ours begin with; `own`: those that this list is compared with. The ledger also says what is not known at all.
-- `whole`: False for events alone. `payments`: those of invoices, which say by which invoice a refund was paid, too.
SELECT DISTINCT subject
  FROM (SELECT CASE e.object WHEN 'credit_note' THEN e.operation_id
                              ELSE coalesce(s.operation_id, e.operation_id) END AS subject
          FROM billing.stripe_records AS e
          LEFT JOIN billing.stripe_records AS s ON s.id = e.source
         WHERE e.account = :account AND e.created_at >= :since AND e.created_at < :until
           AND (e.object = 'event') <> CAST(:whole AS boolean)
         UNION ALL
        SELECT g.operation_id
          FROM billing.stripe_records AS e
          JOIN billing.stripe_records AS s ON s.id = e.source
          JOIN billing.stripe_records AS g ON g.payment_intent = s.payment_intent AND g.object = 'charge'
         WHERE e.account = :account AND e.created_at >= :since AND e.created_at < :until
         UNION ALL
        SELECT p.id FROM billing.stripe_records AS p
         WHERE p.account = :account AND p.created_at >= :since AND p.created_at < :until AND p.object = 'payout'
         UNION ALL
        SELECT n.id FROM billing.stripe_records AS n
         WHERE n.account = :account AND n.created_at >= :since AND n.created_at < :until AND n.object = 'credit_note'
           AND n.operation_id IS NULL
         UNION ALL
        SELECT i.id
          FROM billing.stripe_records AS e
          JOIN billing.stripe_records AS p ON p.object = 'invoice_payment'
               AND (p.id = e.id OR e.object = 'refund' AND p.payment_intent = e.payment_intent)
          JOIN billing.invoices AS i ON i.stripe_invoice = p.source
         WHERE CAST(:payments AS boolean) AND e.account = :account AND e.created_at >= :since AND e.created_at < :until
           AND e.object IN ('invoice_payment', 'refund')
         UNION ALL
        SELECT d.subject FROM billing.differences AS d WHERE d.state = 'open' AND d.account = :account AND CAST(:whole AS boolean)
         UNION ALL
        SELECT r.operation_id FROM billing.idempotency_records AS r
         WHERE r.concluded_at IS NULL AND coalesce(r.account, 'own') = :account AND CAST(:whole AS boolean)) AS subjects
 WHERE split_part(subject, '_', 1) = ANY (:own)
    OR CAST(:others AS boolean) AND split_part(subject, '_', 1) <> ALL (:known);

-- name: settled
-- Of these subjects, those that can be compared: ours if neither young nor under way, and what is not known here. A call
-- that is planned has had no effect yet: a switch may hold it. The captures of one authorization are compared together, so
-- one that is young or under way keeps the others waiting. The call that watches a refund which Stripe has accepted leaves
-- nothing in doubt.
SELECT s.id
  FROM unnest(CAST(:subjects AS text[])) AS s (id)
  LEFT JOIN billing.captures AS c ON c.id = s.id
  LEFT JOIN billing.refunds AS f ON f.id = s.id
  LEFT JOIN billing.voids AS v ON v.id = s.id
  LEFT JOIN billing.invoices AS i ON i.id = s.id
  LEFT JOIN billing.credit_notes AS n ON n.id = s.id
 WHERE coalesce(c.state_since, f.state_since, v.state_since, i.state_since, n.state_since, '-infinity') < :until
   AND (f.state IN ('pending', 'requires_action')
        OR NOT EXISTS (SELECT FROM billing.idempotency_records AS r
                        WHERE r.operation_id = s.id AND r.concluded_at IS NULL AND r.state <> 'planned'))
   AND NOT EXISTS (SELECT FROM billing.captures AS o
                    WHERE o.payment_intent = c.payment_intent AND o.state NOT IN ('declined', 'refused', 'canceled')
                      AND (o.account = c.account OR o.account IS NULL AND c.account IS NULL) AND o.id <> c.id
                      AND (o.state_since >= :until
                           OR EXISTS (SELECT FROM billing.idempotency_records AS r
                                       WHERE r.operation_id = o.id AND r.concluded_at IS NULL
                                         AND r.state <> 'planned')));

-- name: in_doubt_and_shown
SELECT DISTINCT r.operation_id
  FROM billing.idempotency_records AS r
 WHERE r.operation_id = ANY (:subjects) AND r.concluded_at IS NULL AND r.state = 'in_doubt'
   AND EXISTS (SELECT FROM billing.stripe_records AS s
                WHERE s.operation_id = r.operation_id
                  AND (s.object = 'charge' AND s.amount_minor > 0
                       OR s.object IN ('refund', 'payment_intent', 'invoice', 'credit_note')));

-- name: compared
UPDATE billing.stripe_cursors SET compared_until = greatest(compared_until, :until)
 WHERE account = :account AND list = :list;
