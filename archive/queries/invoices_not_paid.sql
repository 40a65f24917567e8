-- title: Invoices not paid
-- answers: Which invoices that got their number were not paid as of `until`, since when, and what was paid in part or credited?
-- reads: invoice
-- parameters: until
-- columns: issued_at time, account text, id text, number text?, customer text?, state text, since time, days int, currency text?, minor money?, paid_minor money, credited_minor money, why text?
-- `open`: it waits for the customer. `unpaid`: Stripe was to charge it, and `why` says what came of that. `uncollectible`,
-- `voided`: it was ended without a payment. `refused`: it has its number, and was not sent. `since` is when that began, of
-- an open one when it got its number. What was credited and voided again does not count.
WITH told AS (
    SELECT *, split_part(topic, '.', 2) AS what
      FROM facts
     WHERE entity_type IN ('invoice', 'credit_note') AND happened_at < $until
), notes AS (
    SELECT entity_id, any_value(invoice) AS invoice, any_value(minor) AS minor
      FROM told
     WHERE entity_type = 'credit_note' AND what IN ('issued', 'voided')
     GROUP BY entity_id
    HAVING bool_and(what = 'issued')
), credited AS (
    SELECT invoice, sum(minor) AS minor FROM notes GROUP BY invoice
), steps AS (
    SELECT *, what IN ('finalized', 'sent', 'unpaid', 'uncollectible', 'voided', 'paid', 'refused', 'reopened') AS moved
      FROM told
     WHERE entity_type = 'invoice'
), life AS (
    SELECT entity_id,
           arg_max(what, entity_version) FILTER (WHERE moved) AS newest,
           arg_max(happened_at, entity_version) FILTER (WHERE moved) AS newest_at,
           arg_max_null(why, entity_version) FILTER (WHERE moved) AS why,
           min(happened_at) FILTER (WHERE what = 'finalized') AS issued_at,
           arg_max(minor, entity_version) FILTER (WHERE what = 'finalized') AS minor,
           max(paid_minor) AS paid_minor,
           coalesce(any_value(account), CASE WHEN bool_or(what = 'requested') THEN 'own' ELSE 'unknown' END) AS account,
           any_value(number) AS number,
           any_value(customer) AS customer,
           any_value(currency) AS currency
      FROM steps
     GROUP BY entity_id
), standing AS (
    SELECT *, CASE WHEN newest IN ('finalized', 'sent', 'reopened') THEN 'open' ELSE newest END AS state
      FROM life
     WHERE issued_at IS NOT NULL AND newest <> 'paid'
)
SELECT issued_at,
       account,
       entity_id AS id,
       number,
       customer,
       state,
       CASE WHEN state = 'open' THEN issued_at ELSE newest_at END AS since,
       (epoch_us($as_of) - epoch_us(CASE WHEN state = 'open' THEN issued_at ELSE newest_at END)) // 86400000000 AS days,
       currency,
       standing.minor,
       coalesce(paid_minor, 0) AS paid_minor,
       coalesce(credited.minor, 0) AS credited_minor,
       nullif(why, '') AS why
  FROM standing LEFT JOIN credited ON credited.invoice = entity_id
 ORDER BY issued_at, id
