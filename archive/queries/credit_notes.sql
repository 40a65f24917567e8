-- title: Credit notes
-- answers: What was invoiced in each local month, what did credit notes take off, in which way, and what is left, by account and currency?
-- reads: invoice
-- parameters: since, until, tz
-- columns: month date, account text, currency text, invoices int, invoiced_minor money, credit_notes int, reduced_minor money, balance_minor money, out_of_band_minor money, refunded_minor money, net_minor money
-- days: in range
-- `month` is its first day: of an invoice when it got its number, of a credit note when it was issued. A note that was
-- voided counts against the month of that. `net_minor` is what was invoiced less what was credited, whatever was paid.
WITH noted AS (
    SELECT CAST(date_trunc('month', CAST(happened_at AS DATE)) AS DATE) AS month,
           coalesce(account, 'unknown') AS account,
           currency,
           settle,
           CASE topic WHEN 'invoice.finalized' THEN minor END AS invoiced,
           CASE topic WHEN 'credit_note.issued' THEN 1 WHEN 'credit_note.voided' THEN -1 END AS notes,
           CASE topic WHEN 'credit_note.issued' THEN minor WHEN 'credit_note.voided' THEN -minor END AS credited
      FROM facts
     WHERE topic IN ('invoice.finalized', 'credit_note.issued', 'credit_note.voided') AND currency IS NOT NULL
       AND happened_at >= $since AND happened_at < $until
)
SELECT month, account, currency,
       count(invoiced) AS invoices,
       coalesce(sum(invoiced), 0) AS invoiced_minor,
       coalesce(sum(notes), 0) AS credit_notes,
       coalesce(sum(credited) FILTER (WHERE settle = 'reduce'), 0) AS reduced_minor,
       coalesce(sum(credited) FILTER (WHERE settle = 'balance'), 0) AS balance_minor,
       coalesce(sum(credited) FILTER (WHERE settle = 'out_of_band'), 0) AS out_of_band_minor,
       coalesce(sum(credited) FILTER (WHERE settle = 'refund'), 0) AS refunded_minor,
       coalesce(sum(invoiced), 0) - coalesce(sum(credited), 0) AS net_minor
  FROM noted
 GROUP BY ALL
 ORDER BY month, account, currency
