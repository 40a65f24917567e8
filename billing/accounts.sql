-- name: connected
-- From one account to the next along the index, because there may be millions of requests. A refund is of the account of
-- its capture.
WITH RECURSIVE c AS (
    (SELECT min(account) AS account FROM billing.captures)
    UNION ALL
    SELECT (SELECT min(o.account) FROM billing.captures AS o WHERE o.account > c.account) FROM c WHERE c.account IS NOT NULL
), v AS (
    (SELECT min(account) AS account FROM billing.voids)
    UNION ALL
    SELECT (SELECT min(o.account) FROM billing.voids AS o WHERE o.account > v.account) FROM v WHERE v.account IS NOT NULL
), i AS (
    (SELECT min(account) AS account FROM billing.invoices)
    UNION ALL
    SELECT (SELECT min(o.account) FROM billing.invoices AS o WHERE o.account > i.account) FROM i WHERE i.account IS NOT NULL
)
SELECT account FROM c WHERE account IS NOT NULL
UNION SELECT account FROM v WHERE account IS NOT NULL UNION SELECT account FROM i WHERE account IS NOT NULL
ORDER BY account;
