-- name: accounts
-- From one account to the next along the index, because there may be millions of requests.
WITH RECURSIVE c AS (
    (SELECT min(account) AS account FROM billing.captures)
    UNION ALL
    SELECT (SELECT min(o.account) FROM billing.captures AS o WHERE o.account > c.account) FROM c WHERE c.account IS NOT NULL
), i AS (
    (SELECT min(account) AS account FROM billing.invoices)
    UNION ALL
    SELECT (SELECT min(o.account) FROM billing.invoices AS o WHERE o.account > i.account) FROM i WHERE i.account IS NOT NULL
)
SELECT account FROM c WHERE account IS NOT NULL UNION SELECT account FROM i WHERE account IS NOT NULL;

-- name: begin_again
UPDATE billing.stripe_cursors
   SET covered_from = least(covered_from, :since), covered_until = least(covered_until, :since),
       compared_until = least(compared_until, :since), window_until = NULL, after_id = NULL;

-- name: stand
SELECT (SELECT min(compared_until) FROM billing.stripe_cursors) AS compared_until,
       (SELECT count(DISTINCT operation_id) FROM billing.idempotency_records
         WHERE concluded_at IS NULL AND left(operation_id, 4) NOT IN ('swi_', 'run_')) AS in_doubt;

-- name: open
SELECT class AS name, count(*) AS differences FROM billing.differences WHERE state = 'open' GROUP BY class ORDER BY class;
