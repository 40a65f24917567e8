-- name: begin
INSERT INTO billing.stripe_cursors (account, list, covered_from, covered_until, compared_until)
VALUES ('own', 'archive', :begin, :begin, :begin) ON CONFLICT DO NOTHING;

-- name: begin_again
UPDATE billing.stripe_cursors
   SET covered_from = least(covered_from, :since), compared_until = least(compared_until, :since)
 WHERE account = 'own' AND list = 'archive';

-- name: cursor
SELECT compared_until FROM billing.stripe_cursors WHERE account = 'own' AND list = 'archive';

-- name: compared
UPDATE billing.stripe_cursors
   SET covered_until = greatest(covered_until, :until), compared_until = greatest(compared_until, :until)
 WHERE account = 'own' AND list = 'archive';

-- name: archived_until
-- The time of the newest fact about money that is in the archive. Null: none is, or it has left Postgres since.
SELECT (SELECT happened_at FROM billing.facts
         WHERE id = (SELECT max(last_fact) FROM billing.archive_batches WHERE class = 'capture' AND state = 'archived'));

-- name: open_subjects
SELECT DISTINCT subject FROM billing.differences
 WHERE state = 'open' AND class IN ('missing_in_archive', 'archive_differs') ORDER BY subject LIMIT :most;

-- name: facts
SELECT id, topic, entity_id FROM billing.facts WHERE id >= :after AND id < :last ORDER BY id LIMIT :most;

-- name: moved
-- What Stripe's ledger dates into this time, and ended here in it: it says so also when the facts have left Postgres.
SELECT c.id FROM billing.stripe_records AS e
  JOIN billing.stripe_records AS s ON s.id = e.source
  JOIN billing.captures AS c ON c.id = s.operation_id AND c.state = 'captured'
 WHERE e.account = ANY (:accounts) AND e.created_at >= :earlier AND e.created_at < :later
   AND c.state_since >= :since AND c.state_since < :until
UNION
SELECT f.id FROM billing.stripe_records AS e
  JOIN billing.stripe_records AS s ON s.id = e.source
  JOIN billing.refunds AS f ON f.id = s.operation_id AND f.state = 'succeeded'
 WHERE e.account = ANY (:accounts) AND e.created_at >= :earlier AND e.created_at < :later
   AND f.state_since >= :since AND f.state_since < :until;

-- name: missing_in_archive
SELECT c.id AS subject, c.charge AS stripe_id, coalesce(c.account, 'own') AS account, c.amount_minor AS minor, c.currency,
       c.state || ' here, ' || c.amount_minor || ' ' || c.currency || '; the archive holds no fact that says so' AS what
  FROM billing.captures AS c WHERE c.id = ANY (:subjects) AND c.state = 'captured'
UNION ALL
SELECT f.id, f.stripe_refund, coalesce(f.account, 'own'), f.amount_minor, f.currency,
       f.state || ' here, ' || f.amount_minor || ' ' || f.currency || '; the archive holds no fact that says so'
  FROM billing.refunds AS f WHERE f.id = ANY (:subjects) AND f.state = 'succeeded';

-- name: archive_differs
-- A refund that the bank returned after its success is in the archive twice, first as a success. A fact of an older
-- version may lack amount and currency. Where the row is lost, Stripe's records say what is true.
SELECT t.id AS subject, coalesce(o.stripe_id, s.id) AS stripe_id, coalesce(o.account, s.account, 'own') AS account,
       t.minor, t.currency,
       'archived as ' || t.topic || coalesce(', ' || t.minor || ' ' || t.currency, '') || '; here '
       || coalesce(o.state || ', ' || o.minor || ' ' || o.currency, 'not known') || '; at Stripe '
       || coalesce(s.id || ', ' || s.minor || ' ' || s.currency, 'not found') AS what
  FROM jsonb_to_recordset(CAST(:told AS jsonb)) AS t (id text, topic text, minor bigint, currency text)
  LEFT JOIN LATERAL (
       SELECT c.state, c.amount_minor AS minor, c.currency, c.account, c.charge AS stripe_id,
              c.state = 'captured' AS agrees
         FROM billing.captures AS c WHERE c.id = t.id
       UNION ALL
       SELECT f.state, f.amount_minor, f.currency, f.account, f.stripe_refund, f.state IN ('succeeded', 'failed')
         FROM billing.refunds AS f WHERE f.id = t.id) AS o ON true
  LEFT JOIN LATERAL (
       SELECT r.id, r.account, r.amount_minor AS minor, r.currency FROM billing.stripe_records AS r
        WHERE r.operation_id = t.id AND r.object IN ('charge', 'refund') ORDER BY r.id LIMIT 1) AS s ON true
 WHERE o.agrees IS NOT TRUE OR o.minor <> t.minor OR o.currency <> t.currency;
