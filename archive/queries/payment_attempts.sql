-- title: Calls of one payment
-- answers: Which calls and looks were made at Stripe for this payment, and under which request ids does Stripe know them?
-- reads: capture, attempt
-- parameters: payment_intent required
-- columns: id text, number int, happened_at time, what text, step text?, try_no int?, outcome text?, learned text?,
--   status int?, request_id text?, took_ms int?, replayed bool?, why text?
-- finds: payment_intent
-- `number` counts the facts of one capture. `replayed`: Stripe repeated an answer that it had given before, and did nothing.
SELECT entity_id AS id,
       entity_version AS number,
       happened_at,
       split_part(topic, '.', 2) AS what,
       step,
       generation AS try_no,
       outcome,
       learned,
       status,
       request_id,
       took_ms,
       replayed,
       why
  FROM facts
 WHERE entity_type = 'capture'
   AND entity_id IN (SELECT entity_id FROM facts
                      WHERE topic = 'capture.requested' AND payment_intent = $payment_intent)
 ORDER BY id, number
