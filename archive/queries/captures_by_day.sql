-- title: Captured by day
-- answers: What was captured, by local day and currency?
-- reads: capture
-- parameters: since, until, tz
-- columns: day date, currency text, captures int, minor money
-- days: in range
SELECT CAST(happened_at AS DATE) AS day,
       currency,
       count(*) AS captures,
       CAST(sum(minor) AS BIGINT) AS minor
  FROM facts
 WHERE topic = 'capture.captured' AND happened_at >= $since AND happened_at < $until
 GROUP BY ALL
 ORDER BY day, currency
