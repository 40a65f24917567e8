-- title: Fees and net
-- answers: What did captures and refunds bring in each local month, less Stripe's fees, by account and currency?
-- reads: capture
-- parameters: since, until, tz
-- columns: month date, account text, currency text, captures int, captured_minor money, refunds int, refunded_minor money, fee_minor money, net_minor money
-- days: all
-- By Stripe's ledger: the month is that in which the money moved there, and the currency that of our balance, into which
-- Stripe converts. An entry is archived when its payout is known, so the last week of a month comes in the next one. A
-- refund whose money came back to us is a second entry of it, and counts against the first.
WITH entries AS (
    SELECT * FROM facts
     WHERE topic IN ('capture.booked', 'refund.booked') AND booked_at >= $since AND booked_at < $until
   QUALIFY row_number() OVER (PARTITION BY account, entry ORDER BY happened_at, archive_seq) = 1)
SELECT CAST(date_trunc('month', CAST(booked_at AS DATE)) AS DATE) AS month,
       coalesce(account, 'unknown') AS account,
       currency,
       count(*) FILTER (WHERE entity_type = 'capture') AS captures,
       coalesce(sum(minor) FILTER (WHERE entity_type = 'capture'), 0) AS captured_minor,
       count(*) FILTER (WHERE entity_type = 'refund' AND minor < 0) AS refunds,
       coalesce(-sum(minor) FILTER (WHERE entity_type = 'refund'), 0) AS refunded_minor,
       coalesce(sum(fee_minor), 0) AS fee_minor,
       coalesce(sum(net_minor), 0) AS net_minor
  FROM entries
 GROUP BY ALL
 ORDER BY month, account, currency
