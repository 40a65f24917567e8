-- title: Captured and not paid out
-- answers: What was captured, by local day, and had not gone to the bank at this time?
-- reads: capture
-- parameters: until, tz
-- columns: day date, account text, currency text, captures int, minor money
-- days: until
-- Automatic payouts come some days after the money. Where payouts are made by hand, Stripe does not say what is in them,
-- and everything stays in this list.
SELECT CAST(happened_at AS DATE) AS day,
       coalesce(account, 'unknown') AS account,
       currency,
       count(*) AS captures,
       sum(minor) AS minor
  FROM facts
 WHERE topic = 'capture.captured' AND happened_at < $until
   AND entity_id NOT IN (SELECT entity_id FROM facts
                          WHERE topic = 'capture.booked' AND payout IS NOT NULL AND happened_at < $until)
 GROUP BY ALL
 ORDER BY day, account, currency
