-- title: Switches
-- answers: Which switches were pulled in this time, by whom, for how long, and what did they hold?
-- reads: capture, invoice, admin
-- parameters: since, until
-- columns: scope text, pulled_at time, pulled_by text?, released_at time?, released_by text?, minutes int, continued text,
--   operations int?, currency text?, held_minor money?
-- Listed is every switch that was pulled at some moment of the range. `billing` is the service itself.
-- `operations`, `held_minor`: captures, voids, refunds and invoices of the scope that had been requested and had not ended when it was released (or as of
-- `until`), one line for each currency. Some of them may have waited for another reason.
WITH told AS (
    SELECT * FROM facts WHERE happened_at < $until
), pulls AS (
    SELECT entity_id,
           any_value(scope) AS scope,
           min(happened_at) FILTER (WHERE topic = 'switch.pulled') AS pulled_at,
           string_agg(actor, ', ' ORDER BY entity_version) FILTER (WHERE topic = 'switch.pulled') AS pulled_by,
           max(happened_at) FILTER (WHERE topic = 'switch.released') AS released_at,
           any_value(actor) FILTER (WHERE topic = 'switch.released') AS released_by,
           any_value(per_hour) FILTER (WHERE topic = 'switch.released') AS per_hour
      FROM told
     WHERE entity_type = 'switch'
     GROUP BY entity_id
), wanted AS (
    SELECT *, coalesce(released_at, $as_of) AS end_at
      FROM pulls
     WHERE pulled_at IS NOT NULL AND coalesce(released_at, $as_of) >= $since
), operations AS (
    SELECT entity_id,
           any_value(entity_type) AS kind,
           any_value('account:' || coalesce(account, 'own')) FILTER (WHERE topic LIKE '%.requested') AS account,
           any_value(currency) FILTER (WHERE topic LIKE '%.requested') AS currency,
           any_value(minor) FILTER (WHERE topic LIKE '%.requested') AS minor,
           min(happened_at) FILTER (WHERE topic LIKE '%.requested') AS asked_at,
           min(happened_at) FILTER (WHERE topic IN ('capture.captured', 'capture.declined', 'capture.refused', 'capture.expired',
                                                    'capture.canceled', 'void.voided', 'void.refused', 'void.expired',
                                                    'refund.succeeded', 'refund.failed', 'refund.canceled', 'refund.refused',
                                                    'invoice.sent', 'invoice.paid', 'invoice.refused', 'credit_note.issued',
                                                    'credit_note.refused')) AS ended_at
      FROM told
     WHERE entity_type IN ('capture', 'void', 'refund', 'invoice', 'credit_note')
     GROUP BY entity_id
), held AS (
    SELECT wanted.entity_id, operations.currency, count(*) AS operations, sum(operations.minor) AS minor
      FROM wanted
      JOIN operations
        ON operations.asked_at < wanted.end_at
       AND (operations.ended_at IS NULL OR operations.ended_at >= wanted.end_at)
       AND (wanted.scope IN ('everything', operations.account, 'currency:' || operations.currency)
            OR (operations.kind = 'capture' AND wanted.scope IN ('captures', 'queue:captures', 'contract:take_capture'))
            OR (operations.kind = 'void' AND wanted.scope IN ('voids', 'queue:captures', 'contract:void_authorization'))
            OR (operations.kind = 'refund' AND wanted.scope IN ('refunds', 'queue:refunds', 'contract:make_refund'))
            OR (operations.kind = 'credit_note' AND wanted.scope IN ('invoices', 'queue:invoices', 'contract:issue_credit_note'))
            OR (operations.kind = 'invoice' AND wanted.scope IN ('invoices', 'queue:invoices', 'contract:issue_invoice')))
     GROUP BY wanted.entity_id, operations.currency
)
SELECT coalesce(wanted.scope, 'unknown') AS scope,
       wanted.pulled_at,
       wanted.pulled_by,
       wanted.released_at,
       wanted.released_by,
       (epoch_us(wanted.end_at) - epoch_us(wanted.pulled_at)) // 60000000 AS minutes,
       CASE WHEN wanted.released_at IS NULL THEN 'still pulled'
            WHEN wanted.per_hour IS NULL THEN 'all at once'
            ELSE 'at ' || wanted.per_hour || ' an hour'
       END AS continued,
       CASE WHEN wanted.scope IS NOT NULL THEN coalesce(held.operations, 0) END AS operations,
       held.currency,
       held.minor AS held_minor
  FROM wanted LEFT JOIN held USING (entity_id)
 ORDER BY wanted.pulled_at, scope, wanted.entity_id, held.currency
