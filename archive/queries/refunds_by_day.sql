-- title: Refunds by day
-- answers: What was given back, and what came of every other refund, by local day, account, currency, state and reason?
-- reads: capture
-- parameters: since, until, tz
-- columns: day date, account text, currency text, state text, refund_reason text?, why text?, refunds int, minor money
-- days: in range
-- `day` is the day on which a refund came to that state. `refund_reason`: what the application named, of Stripe's three.
-- `why`: Stripe's or our code, of a failure or a refusal. `failed` on a later day than `succeeded`: the bank returned it.
SELECT CAST(happened_at AS DATE) AS day,
       coalesce(account, 'unknown') AS account,
       currency,
       replace(topic, 'refund.', '') AS state,
       refund_reason,
       nullif(why, '') AS why,
       count(*) AS refunds,
       sum(minor) AS minor
  FROM facts
 WHERE topic IN ('refund.succeeded', 'refund.failed', 'refund.canceled', 'refund.refused', 'refund.requires_action',
                 'refund.pending')
   AND happened_at >= $since AND happened_at < $until
 GROUP BY ALL
 ORDER BY day, account, currency, state, refund_reason NULLS FIRST, why NULLS FIRST
