-- reads: capture
-- What was captured, by UTC day and currency. Amounts are minor units and are never summed over currencies.
SELECT CAST(happened_at AS DATE) AS day,
       currency,
       count(*) AS captures,
       CAST(sum(minor) AS BIGINT) AS minor
  FROM facts
 WHERE topic = 'capture.captured' AND happened_at >= $since AND happened_at < $until
 GROUP BY ALL
 ORDER BY day, currency
