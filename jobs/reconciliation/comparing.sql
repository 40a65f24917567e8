-- name: changed_capture
-- A page along the numbers of the facts, whatever they are about: by their kind, Postgres would read all of that kind.
WITH page AS MATERIALIZED (
    SELECT id, entity_type, entity_id FROM billing.facts WHERE id >= :after AND id < :last ORDER BY id LIMIT :most)
SELECT p.id, CASE WHEN coalesce(o.account, 'own') = :account THEN o.id END AS subject
  FROM page AS p LEFT JOIN billing.captures AS o ON o.id = p.entity_id AND p.entity_type = 'capture'
 ORDER BY p.id;

-- name: changed_invoice
-- A page along the numbers of the facts, whatever they are about: by their kind, Postgres would read all of that kind.
WITH page AS MATERIALIZED (
    SELECT id, entity_type, entity_id FROM billing.facts WHERE id >= :after AND id < :last ORDER BY id LIMIT :most)
SELECT p.id, CASE WHEN coalesce(o.account, 'own') = :account THEN o.id END AS subject
  FROM page AS p LEFT JOIN billing.invoices AS o ON o.id = p.entity_id AND p.entity_type = 'invoice'
 ORDER BY p.id;

-- name: shown_or_open
-- What Stripe dates into this time; its payouts; what differs already; what is in doubt. An entry leads over its charge or
-- refund to the payment intent, and so to the charge that names our operation: that is dated when it was authorized.
SELECT DISTINCT subject
  FROM (SELECT coalesce(g.operation_id, e.operation_id) AS subject
          FROM billing.stripe_records AS e
          LEFT JOIN billing.stripe_records AS s ON s.id = e.source
          LEFT JOIN billing.stripe_records AS g ON g.payment_intent = s.payment_intent AND g.object = 'charge'
         WHERE e.account = :account AND e.created_at >= :since AND e.created_at < :until
         UNION ALL
        SELECT p.id FROM billing.stripe_records AS p
         WHERE p.account = :account AND p.created_at >= :since AND p.created_at < :until AND p.object = 'payout'
         UNION ALL
        SELECT d.subject FROM billing.differences AS d WHERE d.state = 'open' AND d.account = :account
         UNION ALL
        SELECT r.operation_id FROM billing.idempotency_records AS r
         WHERE r.concluded_at IS NULL AND coalesce(r.account, 'own') = :account) AS subjects
 WHERE CASE CAST(:kind AS text) WHEN 'invoice' THEN left(subject, 4) = 'inv_'
                                ELSE left(subject, 4) NOT IN ('inv_', 'swi_', 'run_') END;

-- name: settled
-- Of these subjects, those that can be compared: ours if neither young nor under way, and what is not known here.
SELECT s.id
  FROM unnest(CAST(:subjects AS text[])) AS s (id)
  LEFT JOIN billing.captures AS c ON c.id = s.id
  LEFT JOIN billing.invoices AS i ON i.id = s.id
 WHERE coalesce(c.state_since, i.state_since, '-infinity') < :until
   AND NOT EXISTS (SELECT FROM billing.idempotency_records AS r
                    WHERE r.operation_id = s.id AND r.concluded_at IS NULL);

-- name: in_doubt_and_shown
SELECT DISTINCT r.operation_id
  FROM billing.idempotency_records AS r
 WHERE r.operation_id = ANY (:subjects) AND r.concluded_at IS NULL AND r.state = 'in_doubt'
   AND EXISTS (SELECT FROM billing.stripe_records AS s
                WHERE s.operation_id = r.operation_id
                  AND (s.object = 'charge' AND s.amount_minor > 0 OR s.object = 'invoice'));

-- name: found
-- What a person has closed stays closed while both sides say the same as then.
WITH before AS (SELECT state FROM billing.differences WHERE class = :kind AND subject = :subject),
written AS (
    INSERT INTO billing.differences AS d (id, class, subject, stripe_id, account, amount_minor, currency, what, state,
                                          state_since, first_seen_at, last_seen_at)
    VALUES (:id, :kind, :subject, :stripe_id, :account, :minor, :currency, :what, 'open',
            clock_timestamp(), clock_timestamp(), clock_timestamp())
        ON CONFLICT (class, subject) DO UPDATE
       SET stripe_id = excluded.stripe_id, account = excluded.account, amount_minor = excluded.amount_minor,
           currency = excluded.currency, what = excluded.what, last_seen_at = excluded.last_seen_at,
           state = CASE WHEN d.state = 'closed' AND d.what = excluded.what THEN 'closed' ELSE 'open' END,
           state_since = CASE WHEN d.state = 'open' OR d.state = 'closed' AND d.what = excluded.what
                              THEN d.state_since ELSE excluded.state_since END,
           first_seen_at = CASE WHEN d.state = 'open' OR d.state = 'closed' AND d.what = excluded.what
                                THEN d.first_seen_at ELSE excluded.first_seen_at END
    RETURNING state)
SELECT written.state = 'open' AND coalesce(before.state, 'none') <> 'open'
  FROM written LEFT JOIN before ON true;

-- name: gone
UPDATE billing.differences
   SET state = 'gone', state_since = clock_timestamp()
 WHERE subject = ANY (:subjects) AND state = 'open'
   AND NOT EXISTS (SELECT FROM unnest(CAST(:classes AS text[]), CAST(:found AS text[])) AS f (name, id)
                    WHERE f.name = differences.class AND f.id = differences.subject);

-- name: compared
UPDATE billing.stripe_cursors SET compared_until = greatest(compared_until, :until)
 WHERE account = :account AND list = :list;
