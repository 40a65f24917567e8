-- title: How long it takes
-- answers: How long did captures take from request to money, and how long did single calls at Stripe take, on each local day?
-- reads: capture, attempt
-- parameters: since, until, tz
-- columns: day date, what text, how_many int, p50_ms int, p95_ms int, p99_ms int, longest_ms int
-- `p95_ms`: 95 of 100 took at most so long. `request to money` is counted on the day of the money. `one call` is every
-- call that Stripe answered.
WITH captured AS (
    SELECT entity_id, happened_at
      FROM facts
     WHERE topic = 'capture.captured' AND happened_at >= $since AND happened_at < $until
), asked AS (
    SELECT entity_id, min(happened_at) AS asked_at
      FROM facts
     WHERE topic = 'capture.requested' AND entity_id IN (SELECT entity_id FROM captured)
     GROUP BY entity_id
), took AS (
    SELECT CAST(captured.happened_at AS DATE) AS day,
           'request to money' AS what,
           (epoch_us(captured.happened_at) - epoch_us(asked.asked_at)) // 1000 AS ms
      FROM captured JOIN asked USING (entity_id)
    UNION ALL
    SELECT CAST(happened_at AS DATE), 'one call', took_ms
      FROM facts
     WHERE topic IN ('capture.attempted', 'capture.late_answer') AND status IS NOT NULL AND took_ms IS NOT NULL
       AND happened_at >= $since AND happened_at < $until
)
SELECT day,
       what,
       count(*) AS how_many,
       quantile_disc(ms, 0.5) AS p50_ms,
       quantile_disc(ms, 0.95) AS p95_ms,
       quantile_disc(ms, 0.99) AS p99_ms,
       max(ms) AS longest_ms
  FROM took
 GROUP BY ALL
 ORDER BY ALL
