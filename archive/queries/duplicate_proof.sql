-- title: Duplicates: the proof
-- answers: Was anything that was captured in this time captured more than once, ever?
-- reads: capture, attempt
-- parameters: since, until
-- columns: what text, times int, how_many int, for_instance text?
-- days: all
-- Every line must say 1 time.
-- `capture`: how often one of our captures says that it was captured.
-- `authorization`: how often one PaymentIntent was captured.
-- `provider success`: how often the provider took the money of one capture, replays of an answer left out.
WITH taken AS (
    SELECT entity_id, payment_intent FROM facts
     WHERE topic = 'capture.captured' AND happened_at >= $since AND happened_at < $until
), counted AS (
    SELECT 'capture' AS what, entity_id AS id, count(*) AS times
      FROM facts
     WHERE topic = 'capture.captured' AND entity_id IN (SELECT entity_id FROM taken)
     GROUP BY entity_id
    UNION ALL
    SELECT 'authorization', payment_intent, count(*)
      FROM facts
     WHERE topic = 'capture.captured' AND payment_intent IN (SELECT payment_intent FROM taken)
     GROUP BY payment_intent
    UNION ALL
    SELECT 'provider success', entity_id, count(*)
      FROM facts
     WHERE topic IN ('capture.attempted', 'capture.late_answer') AND step = 'capture'
       AND learned = 'succeeded' AND replayed = false
       AND entity_id IN (SELECT entity_id FROM taken)
     GROUP BY entity_id
)
SELECT what, times, count(*) AS how_many, CASE WHEN times > 1 THEN min(id) END AS for_instance
  FROM counted
 GROUP BY what, times
 ORDER BY what, times
