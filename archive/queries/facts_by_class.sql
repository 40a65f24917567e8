-- title: Evidence by class
-- answers: How much evidence of each class is there, from which days, and until when is it locked?
-- reads: capture, invoice, attempt, admin
-- parameters: since, until
-- columns: retention_class text, lock_mode text, facts int, objects int, bytes int, first_day date, last_day date,
--   first_lock_ends time, last_lock_ends time
-- Days are UTC here, because each object holds the facts of one UTC day. The range is of these days, as a whole.
SELECT retention_class,
       lock_mode,
       sum(rows) AS facts,
       count(*) AS objects,
       sum(size) AS bytes,
       min(event_date) AS first_day,
       max(event_date) AS last_day,
       min(locked_until) AS first_lock_ends,
       max(locked_until) AS last_lock_ends
  FROM batches
 WHERE rows > 0
   AND event_date >= CAST($since AT TIME ZONE 'UTC' AS DATE)
   AND event_date < CAST($until AT TIME ZONE 'UTC' AS DATE)
 GROUP BY ALL
 ORDER BY ALL
