-- title: Attempts per capture
-- answers: How many calls and looks did the captures take that were captured in this time?
-- reads: capture, attempt
-- parameters: since, until
-- columns: calls int, looks int, captures int
-- Attempts before this time count, too; those from `until` on do not.
WITH taken AS (
    SELECT entity_id FROM facts
     WHERE topic = 'capture.captured' AND happened_at >= $since AND happened_at < $until
), effort AS (
    SELECT entity_id,
           count(*) FILTER (WHERE topic IN ('capture.attempted', 'capture.attempt_lapsed', 'capture.late_answer')) AS calls,
           count(*) FILTER (WHERE topic = 'capture.looked') AS looks
      FROM facts
     WHERE entity_id IN (SELECT entity_id FROM taken) AND happened_at < $until
     GROUP BY entity_id
)
SELECT calls, looks, count(*) AS captures
  FROM effort
 GROUP BY calls, looks
 ORDER BY calls, looks
