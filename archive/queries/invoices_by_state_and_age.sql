-- title: Invoices by state and age
-- answers: In which states were our invoices as of `until`, and how old?
-- reads: invoice
-- parameters: until
-- columns: state text, age text, account text, currency text?, invoices int, minor money?
-- The age counts from when an invoice got its number; before that, from its request. `paid`: a credit balance paid it at
-- once, or Stripe showed later that the customer did. Which of them wait for money: `invoices_not_paid`.
WITH life AS (
    SELECT entity_id,
           arg_max(split_part(topic, '.', 2), entity_version)
               FILTER (WHERE topic IN ('invoice.requested', 'invoice.drafted', 'invoice.lines_added', 'invoice.lines_differ',
                                       'invoice.finalized', 'invoice.sent', 'invoice.unpaid', 'invoice.paid',
                                       'invoice.uncollectible', 'invoice.voided', 'invoice.refused',
                                       'invoice.reopened')) AS newest,
           max(number) IS NOT NULL AS has_number,
           coalesce(min(happened_at) FILTER (WHERE topic = 'invoice.finalized'), min(happened_at)) AS begins,
           any_value(CASE WHEN topic = 'invoice.requested' THEN coalesce(account, 'own') END) AS account,
           any_value(currency) AS currency,
           any_value(minor) AS minor
      FROM facts
     WHERE entity_type = 'invoice' AND happened_at < $until
     GROUP BY entity_id
), aged AS (
    SELECT CASE WHEN newest != 'reopened' THEN newest WHEN has_number THEN 'finalized' ELSE 'requested' END AS state,
           (epoch_us($as_of) - epoch_us(begins)) // 86400000000 AS days,
           coalesce(account, 'unknown') AS account,
           currency,
           minor
      FROM life
     WHERE newest IS NOT NULL
)
SELECT state,
       CASE WHEN days <= 30 THEN '0-30 days'
            WHEN days <= 60 THEN '31-60 days'
            WHEN days <= 90 THEN '61-90 days'
            ELSE 'over 90 days'
       END AS age,
       account,
       currency,
       count(*) AS invoices,
       sum(minor) AS minor
  FROM aged
 GROUP BY ALL
 ORDER BY state, age, account, currency NULLS FIRST
