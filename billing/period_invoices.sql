-- name: ended
-- Captures that have ended since they were asked to be invoiced. The newest of a capture's calls is the one that took
-- the money: what came before is disproved. Those that a worker holds now are left to the next run. A capture that was
-- set back after it had ended, and took the money then, is among them again.
SELECT mine.capture_id, mine.account, mine.at_once, mine.invoice_id, capture.state,
       least(capture.state_since, coalesce(taken.first_sent_at, capture.state_since)) AS captured_at
  FROM (SELECT capture_id FROM billing.invoiced_captures WHERE captured_at IS NULL AND left_out IS NULL
         UNION ALL
        SELECT capture_id FROM billing.invoiced_captures WHERE left_out = 'nothing_taken') AS waiting
  JOIN billing.invoiced_captures AS mine ON mine.capture_id = waiting.capture_id
  JOIN billing.captures AS capture ON capture.id = mine.capture_id
  LEFT JOIN LATERAL (
       SELECT r.first_sent_at FROM billing.idempotency_records AS r
        WHERE r.operation_id = capture.id AND r.step = 'capture'
        ORDER BY r.generation DESC LIMIT 1) AS taken ON true
-- Of a row that another run has written meanwhile, Postgres asks this again, and nothing of what is selected above.
 WHERE mine.captured_at IS NULL
   AND capture.state <> 'requested' AND (mine.left_out IS NULL OR capture.state = 'captured')
 ORDER BY mine.capture_id LIMIT :most
   FOR NO KEY UPDATE OF mine, capture SKIP LOCKED;

-- name: period_around
SELECT period_start, period_end FROM billing.invoice_periods
 WHERE account = :account AND period_start <= :moment AND period_end > :moment;

-- name: neighbors
SELECT (SELECT period_end FROM billing.invoice_periods WHERE account = :account AND period_start <= :moment
         ORDER BY period_start DESC LIMIT 1) AS before,
       (SELECT period_start FROM billing.invoice_periods WHERE account = :account AND period_start > :moment
         ORDER BY period_start LIMIT 1) AS after;

-- name: begin_period
INSERT INTO billing.invoice_periods (account, period_start, period_end, length, zone)
VALUES (:account, :period_start, :period_end, :length, :zone)
    ON CONFLICT DO NOTHING;

-- name: over
-- What is collected in periods that are over, by customer and currency. Some seconds more, because what was prepared
-- before the end may be committed after it.
SELECT account, customer, currency, period_start, min(period_end) AS period_end, count(*) AS captures
  FROM billing.invoiced_captures
 WHERE invoice_id IS NULL AND left_out IS NULL AND period_start IS NOT NULL
   AND period_end < clock_timestamp() - interval '1 minute'
   AND (account, period_start, customer, currency) > (:account, :period_start, :customer, :currency)
   AND (CAST(:only_account AS text) IS NULL OR account = :only_account AND period_start = :only_start)
 GROUP BY account, period_start, customer, currency
 ORDER BY account, period_start, customer, currency LIMIT :most;

-- name: standing
SELECT (SELECT count(*) FROM billing.invoiced_captures AS mine
         WHERE mine.account = period.account AND mine.period_start = period.period_start
           AND mine.invoice_id IS NULL AND mine.left_out IS NULL) AS to_invoice
  FROM billing.invoice_periods AS period
 WHERE period.account = :account AND period.period_start = :period_start AND period.period_end = :period_end;

-- name: one_at_a_time
SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0));

-- name: still_open
-- Captures of this customer whose call was sent before the end of the period, and of which it is not known whether it
-- took the money: they are of this period if it did. And those that did, and that another run sees just now.
SELECT count(*) AS captures, count(*) FILTER (WHERE capture.state = 'captured') AS taken
  FROM billing.invoiced_captures AS mine
  JOIN billing.captures AS capture ON capture.id = mine.capture_id
  LEFT JOIN LATERAL (
       SELECT r.first_sent_at FROM billing.idempotency_records AS r
        WHERE r.operation_id = capture.id AND r.step = 'capture'
        ORDER BY r.generation DESC LIMIT 1) AS call ON true
 WHERE mine.captured_at IS NULL AND mine.left_out IS NULL AND NOT mine.at_once
   AND mine.account = :account AND mine.customer = :customer AND mine.currency = :currency
   AND least(call.first_sent_at, CASE WHEN capture.state = 'captured' THEN capture.state_since END) < :period_end;

-- name: to_invoice
-- In the order in which they were taken; with what is left of each, which cannot change before the commit.
SELECT mine.capture_id, mine.description, capture.amount_minor - capture.refunds_minor AS left_minor
  FROM billing.invoiced_captures AS mine JOIN billing.captures AS capture ON capture.id = mine.capture_id
 WHERE mine.invoice_id IS NULL AND mine.left_out IS NULL AND mine.account = :account AND mine.customer = :customer
   AND mine.currency = :currency AND mine.period_start = :period_start
 ORDER BY mine.captured_at, mine.capture_id LIMIT :most
   FOR NO KEY UPDATE OF mine, capture;

-- name: parts_so_far
SELECT coalesce(max(part), 0) FROM billing.invoiced_captures
 WHERE account = :account AND customer = :customer AND currency = :currency AND period_start = :period_start
   AND part IS NOT NULL;

-- name: captures_by_id
SELECT captures.* FROM billing.captures WHERE id = ANY (:ids);

-- name: rows_by_id
SELECT invoiced_captures.* FROM billing.invoiced_captures WHERE capture_id = ANY (:ids) ORDER BY capture_id;
