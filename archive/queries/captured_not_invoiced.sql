-- title: Captured, not invoiced
-- answers: For which captured money is there no invoice?
-- reads: capture, invoice
-- parameters: since, until
-- columns: captured_at time, account text, id text, payment_intent text?, correlation_id text?, currency text, minor money, invoice text
-- The invoice is the one that `capture.invoiced` names. Without that fact it is one with the same correlation id, if the
-- application names both after the same order. `none`: no invoice was requested.
-- `refused`: its invoice was refused. `not issued yet`: it has no number so far. `unknown`: no correlation id is archived.
WITH told AS (
    SELECT * FROM facts WHERE happened_at < $until
), placed AS (
    SELECT entity_id, arg_max(json_extract_string(payload, '$.invoice'), entity_version) AS invoice
      FROM told WHERE topic = 'capture.invoiced' GROUP BY entity_id
), invoices AS (
    SELECT entity_id AS invoice_id, correlation_id,
           coalesce(any_value(account), CASE WHEN bool_or(topic = 'invoice.requested') THEN 'own' ELSE 'unknown' END) AS account,
           bool_or(topic = 'invoice.finalized') AS numbered,
           coalesce(arg_max(topic, entity_version)
                        FILTER (WHERE topic IN ('invoice.refused', 'invoice.reopened')) = 'invoice.refused', false) AS refused
      FROM told
     WHERE entity_type = 'invoice'
     GROUP BY entity_id, correlation_id
), by_order AS (
    SELECT correlation_id, account,
           bool_or(numbered AND NOT refused) AS issued,
           bool_or(NOT refused) AS under_way
      FROM invoices
     WHERE correlation_id IS NOT NULL
     GROUP BY ALL
), captured AS (
    SELECT * FROM told WHERE topic = 'capture.captured' AND happened_at >= $since
), asked AS (
    -- An older version did not name the account when it captured.
    SELECT entity_id, coalesce(any_value(account), 'own') AS account
      FROM told
     WHERE topic = 'capture.requested' AND entity_id IN (SELECT entity_id FROM captured WHERE account IS NULL)
     GROUP BY entity_id
), taken AS (
    SELECT captured.*, coalesce(captured.account, asked.account, 'unknown') AS of_account
      FROM captured LEFT JOIN asked USING (entity_id)
)
SELECT taken.happened_at AS captured_at,
       taken.of_account AS account,
       taken.entity_id AS id,
       taken.payment_intent,
       taken.correlation_id,
       taken.currency,
       taken.minor,
       CASE WHEN placed.invoice IS NOT NULL THEN CASE WHEN its.refused THEN 'refused' ELSE 'not issued yet' END
            WHEN taken.correlation_id IS NULL THEN 'unknown'
            WHEN by_order.correlation_id IS NULL THEN 'none'
            WHEN by_order.under_way THEN 'not issued yet'
            ELSE 'refused'
       END AS invoice
  FROM taken
  LEFT JOIN placed USING (entity_id)
  LEFT JOIN invoices AS its ON its.invoice_id = placed.invoice
  LEFT JOIN by_order ON by_order.correlation_id = taken.correlation_id AND by_order.account = taken.of_account
 WHERE NOT CASE WHEN placed.invoice IS NULL THEN coalesce(by_order.issued, false)
                ELSE coalesce(its.numbered AND NOT its.refused, false) END
 ORDER BY taken.happened_at, id
