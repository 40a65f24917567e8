-- title: Payouts
-- answers: Which captures and refunds explain each payout to the bank?
-- reads: capture
-- parameters: since, until, tz
-- columns: day date, account text, payout text, currency text, paid_out_minor money?, captures int, captured_minor money, refunds int, refunded_minor money, fee_minor money, net_minor money, others_minor money?
-- days: all
-- `day` is the day on which it was archived, soon after Stripe made it. `others_minor`: what else was in it, such as a
-- payment that was not taken by this service, a dispute, or a fee of Stripe's for something else.
WITH entries AS (
    SELECT * FROM facts
     WHERE topic IN ('capture.booked', 'refund.booked') AND payout IS NOT NULL
   QUALIFY row_number() OVER (PARTITION BY account, entry ORDER BY happened_at, archive_seq) = 1)
SELECT CAST(min(happened_at) AS DATE) AS day,
       coalesce(account, 'unknown') AS account,
       payout,
       currency,
       max(payout_minor) AS paid_out_minor,
       count(*) FILTER (WHERE entity_type = 'capture') AS captures,
       coalesce(sum(minor) FILTER (WHERE entity_type = 'capture'), 0) AS captured_minor,
       count(*) FILTER (WHERE entity_type = 'refund' AND minor < 0) AS refunds,
       coalesce(-sum(minor) FILTER (WHERE entity_type = 'refund'), 0) AS refunded_minor,
       coalesce(sum(fee_minor), 0) AS fee_minor,
       coalesce(sum(net_minor), 0) AS net_minor,
       max(payout_minor) - coalesce(sum(net_minor), 0) AS others_minor
  FROM entries
 GROUP BY account, payout, currency
HAVING min(happened_at) >= $since AND min(happened_at) < $until
 ORDER BY day, account, payout, currency
