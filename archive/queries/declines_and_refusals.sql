-- title: Declines and refusals by reason
-- answers: What was not captured or not invoiced in this time, why, and how much of it succeeded later?
-- reads: capture, invoice
-- parameters: since, until
-- columns: kind text, outcome text, why text?, account text, currency text?, how_many int, minor money?, succeeded_later int
-- `succeeded_later`, until `until`: the same authorization was captured, or the same invoice was issued, after all.
-- Lapsed authorizations have a question of their own.
WITH told AS (
    SELECT * FROM facts WHERE entity_type IN ('capture', 'invoice') AND happened_at < $until
), bad AS (
    SELECT *
      FROM told
     WHERE topic IN ('capture.declined', 'capture.refused', 'capture.canceled', 'invoice.refused')
       AND happened_at >= $since
), asked AS (
    SELECT entity_id, coalesce(any_value(account), 'own') AS account, any_value(currency) AS currency,
           any_value(minor) AS minor, any_value(payment_intent) AS payment_intent
      FROM told
     WHERE topic IN ('capture.requested', 'invoice.requested') AND entity_id IN (SELECT entity_id FROM bad)
     GROUP BY entity_id
), ended AS (
    SELECT bad.entity_type,
           bad.topic,
           bad.why,
           bad.happened_at,
           coalesce(bad.account, asked.account, 'unknown') AS account,
           coalesce(bad.currency, asked.currency) AS currency,
           coalesce(bad.minor, asked.minor) AS minor,
           bad.entity_id,
           asked.payment_intent
      FROM bad LEFT JOIN asked USING (entity_id)
), succeeded AS (
    -- Under the id of the capture or invoice, and under that of the payment.
    SELECT entity_id AS id, max(happened_at) AS last_at
      FROM told
     WHERE topic IN ('capture.captured', 'invoice.finalized') AND entity_id IN (SELECT entity_id FROM bad)
     GROUP BY entity_id
    UNION ALL
    SELECT payment_intent, max(happened_at)
      FROM told
     WHERE topic = 'capture.captured' AND payment_intent IN (SELECT payment_intent FROM asked)
     GROUP BY payment_intent
)
SELECT ended.entity_type AS kind,
       split_part(ended.topic, '.', 2) AS outcome,
       ended.why,
       ended.account,
       ended.currency,
       count(*) AS how_many,
       sum(ended.minor) AS minor,
       count(*) FILTER (WHERE itself.last_at > ended.happened_at OR payment.last_at > ended.happened_at) AS succeeded_later
  FROM ended
  LEFT JOIN succeeded AS itself ON itself.id = ended.entity_id
  LEFT JOIN succeeded AS payment ON payment.id = ended.payment_intent
 GROUP BY ALL
 ORDER BY kind, outcome, why NULLS FIRST, account, currency NULLS FIRST
