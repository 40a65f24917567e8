-- title: Attempts per capture
-- answers: How much effort did the captures take that were captured in this time: how many of them needed so many calls
--   and looks?
-- reads: capture, attempt
-- parameters: since, until
-- columns: calls int, looks int, captures int
-- days: all
-- Attempts outside this time count, too.
WITH taken AS (
    SELECT entity_id FROM facts
     WHERE topic = 'capture.captured' AND happened_at >= $since AND happened_at < $until
), effort AS (
    SELECT entity_id,
           count(*) FILTER (WHERE topic IN ('capture.attempted', 'capture.attempt_lapsed', 'capture.late_answer')) AS calls,
           count(*) FILTER (WHERE topic = 'capture.looked') AS looks
      FROM facts
     WHERE entity_id IN (SELECT entity_id FROM taken)
     GROUP BY entity_id
)
SELECT calls, looks, count(*) AS captures
  FROM effort
 GROUP BY calls, looks
 ORDER BY calls, looks
