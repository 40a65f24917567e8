-- title: Lapsed authorizations
-- answers: Which money was lost because its authorization lapsed before it was captured, and which may be?
-- reads: capture
-- parameters: since, until
-- columns: stands text, id text, account text, payment_intent text?, currency text?, minor money?, requested_at time?,
--   capture_before time?, lapsed_at time?
-- `lapsed`: Stripe said so, in this time. `past its time`: Stripe's time for it was over as of `until`, and it had not
-- ended. A capture that succeeded after all is not listed.
WITH not_taken AS (
    SELECT entity_id
      FROM facts
     WHERE entity_type = 'capture' AND happened_at < $until
     GROUP BY entity_id
    HAVING NOT bool_or(topic = 'capture.captured')
), life AS (
    SELECT entity_id,
           bool_or(topic IN ('capture.declined', 'capture.refused', 'capture.canceled')) AS ended,
           max(happened_at) FILTER (WHERE topic = 'capture.expired') AS lapsed_at,
           max(capture_before) AS capture_before,
           any_value(CASE WHEN topic = 'capture.requested' THEN coalesce(account, 'own') END) AS account,
           any_value(payment_intent) AS payment_intent,
           any_value(currency) AS currency,
           any_value(CASE WHEN topic IN ('capture.requested', 'capture.expired') THEN minor END) AS minor,
           any_value(CASE WHEN topic = 'capture.requested' THEN happened_at END) AS requested_at
      FROM facts
     WHERE entity_id IN (SELECT entity_id FROM not_taken) AND happened_at < $until
     GROUP BY entity_id
), judged AS (
    SELECT *,
           CASE WHEN lapsed_at >= $since THEN 'lapsed'
                WHEN lapsed_at IS NULL AND NOT ended AND capture_before < $as_of THEN 'past its time'
           END AS stands
      FROM life
)
SELECT stands,
       entity_id AS id,
       coalesce(account, 'unknown') AS account,
       payment_intent,
       currency,
       minor,
       requested_at,
       capture_before,
       lapsed_at
  FROM judged
 WHERE stands IS NOT NULL
 ORDER BY stands, capture_before NULLS FIRST, id
