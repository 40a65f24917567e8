-- title: Top customers
-- answers: To which customers was most invoiced in this time, in each currency?
-- reads: invoice
-- parameters: since, until, limit
-- columns: currency text, rank int, account text, customer text, invoices int, minor money
-- Counted is what got its number in this time. `customer` is Stripe's id; who that is, is known in Postgres and at
-- Stripe only. Captures name no customer. `limit`: so many customers of each currency.
WITH issued AS (
    SELECT DISTINCT entity_id
      FROM facts
     WHERE topic = 'invoice.finalized' AND happened_at >= $since AND happened_at < $until
), totals AS (
    SELECT asked.currency, coalesce(asked.account, 'own') AS account, asked.customer, count(*) AS invoices, sum(asked.minor) AS minor
      FROM (SELECT DISTINCT entity_id, currency, account, customer, minor
              FROM facts
             WHERE topic = 'invoice.requested') AS asked
      JOIN issued USING (entity_id)
     GROUP BY ALL
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY currency ORDER BY minor DESC, account, customer) AS rank FROM totals
)
SELECT currency, rank, account, customer, invoices, minor
  FROM ranked
 WHERE rank <= $limit
 ORDER BY currency, rank
