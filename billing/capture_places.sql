-- name: earlier_captures
-- The captures of the same authorization with lower numbers, but those that took nothing. Each half fits the unique
-- index of places; `IS NOT DISTINCT FROM` would not.
SELECT mine.id AS owner, earlier.id, earlier.amount_minor, earlier.state
  FROM billing.captures AS mine
 CROSS JOIN LATERAL (
       SELECT id, capture_no, amount_minor, state FROM billing.captures
        WHERE mine.account IS NULL AND account IS NULL AND payment_intent = mine.payment_intent
          AND capture_no < mine.capture_no AND state NOT IN ('declined', 'refused', 'canceled')
       UNION ALL
       SELECT id, capture_no, amount_minor, state FROM billing.captures
        WHERE account = mine.account AND payment_intent = mine.payment_intent
          AND capture_no < mine.capture_no AND state NOT IN ('declined', 'refused', 'canceled')) AS earlier
 WHERE mine.id = ANY (:ids)
 ORDER BY mine.id, earlier.capture_no;
