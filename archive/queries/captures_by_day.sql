-- title: Captured by day
-- answers: What was captured, by local day, account and currency?
-- reads: capture
-- parameters: since, until, tz
-- columns: day date, account text, currency text, captures int, minor money
-- days: in range
-- `own` is the account of our own key. `unknown`: an older version wrote the fact, and named no account.
SELECT CAST(happened_at AS DATE) AS day,
       coalesce(account, 'unknown') AS account,
       currency,
       count(*) AS captures,
       sum(minor) AS minor
  FROM facts
 WHERE topic = 'capture.captured' AND happened_at >= $since AND happened_at < $until
 GROUP BY ALL
 ORDER BY ALL
