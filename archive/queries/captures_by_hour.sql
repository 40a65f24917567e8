-- title: Captured by weekday and hour
-- answers: At which hours of the week is money captured, in local time?
-- reads: capture
-- parameters: since, until, tz
-- columns: weekday int, hour int, currency text, captures int, minor money
-- days: in range
-- Weekday 1 is Monday. The hour that comes twice when clocks are set back counts as one.
SELECT isodow(happened_at) AS weekday,
       hour(happened_at) AS hour,
       currency,
       count(*) AS captures,
       sum(minor) AS minor
  FROM facts
 WHERE topic = 'capture.captured' AND happened_at >= $since AND happened_at < $until
 GROUP BY ALL
 ORDER BY ALL
