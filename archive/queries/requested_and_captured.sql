-- title: Requested and captured
-- answers: What became of the captures that were requested in this time, and why was the rest not captured?
-- reads: capture
-- parameters: since, until
-- columns: account text, currency text, outcome text, why text?, captures int, requested_minor money, captured_minor money, difference_minor money
-- The outcome is as of `until`, whenever the request was. Without --until it is the newest that is archived.
-- `conflict`: Stripe holds something other than was asked, and nobody has decided. `open`: it has not ended.
WITH asked AS (
    SELECT entity_id, coalesce(any_value(account), 'own') AS account, any_value(currency) AS currency,
           any_value(minor) AS minor
      FROM facts
     WHERE topic = 'capture.requested' AND happened_at >= $since AND happened_at < $until
     GROUP BY entity_id
), told AS (
    SELECT entity_id, entity_version, topic, why
      FROM facts
     WHERE entity_id IN (SELECT entity_id FROM asked) AND happened_at < $until
), ends AS (
    -- A capture that was declined may be tried again by an operator, and one that was captured stays captured.
    SELECT entity_id,
           bool_or(topic = 'capture.captured') AS captured,
           arg_max(replace(topic, 'capture.', ''), entity_version)
               FILTER (WHERE topic IN ('capture.declined', 'capture.refused', 'capture.expired', 'capture.canceled')) AS ended,
           arg_max_null(why, entity_version)
               FILTER (WHERE topic IN ('capture.declined', 'capture.refused', 'capture.expired', 'capture.canceled')) AS why,
           coalesce(max(entity_version)
               FILTER (WHERE topic IN ('capture.declined', 'capture.refused', 'capture.expired', 'capture.canceled')), 0) AS ended_v,
           coalesce(max(entity_version) FILTER (WHERE topic = 'capture.conflict'), 0) AS conflict_v,
           coalesce(max(entity_version) FILTER (WHERE topic = 'capture.replayed'), 0) AS replayed_v,
           coalesce(max(entity_version) FILTER (WHERE topic = 'capture.upheld'), 0) AS upheld_v
      FROM told
     GROUP BY entity_id
), judged AS (
    SELECT entity_id,
           CASE WHEN captured THEN 'captured'
                WHEN conflict_v > replayed_v THEN 'conflict'
                WHEN ended_v > replayed_v OR (ended_v > 0 AND upheld_v > replayed_v) THEN ended
                ELSE 'open'
           END AS outcome,
           why
      FROM ends
)
SELECT account,
       currency,
       outcome,
       CASE WHEN outcome IN ('declined', 'refused', 'expired', 'canceled') THEN why END AS why,
       count(*) AS captures,
       sum(minor) AS requested_minor,
       sum(CASE WHEN outcome = 'captured' THEN minor ELSE 0 END) AS captured_minor,
       sum(CASE WHEN outcome = 'captured' THEN 0 ELSE minor END) AS difference_minor
  FROM asked JOIN judged USING (entity_id)
 GROUP BY ALL
 ORDER BY account, currency, outcome, why NULLS FIRST
