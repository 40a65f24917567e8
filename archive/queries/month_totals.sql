-- title: Month totals
-- answers: What was requested, captured, not captured, given back, invoiced and credited in each local month, by account and currency?
-- reads: capture, invoice
-- parameters: since, until, tz
-- columns: month date, account text, currency text?, what text, how_many int, minor money?
-- days: in range
-- Each line counts what happened in that month: a capture that was requested in one month and captured in the next is
-- `requested` in the first and `captured` in the second. `month` is its first day. `unknown`, and an empty currency or
-- amount: an older version wrote the facts. A refund that failed after its success is counted in both lines: what was
-- given back for good is `refund succeeded` minus those. docs/moves/refunds.md says more.
SELECT CAST(date_trunc('month', CAST(happened_at AS DATE)) AS DATE) AS month,
       coalesce(account, CASE WHEN topic LIKE '%.requested' THEN 'own' ELSE 'unknown' END) AS account,
       currency,
       replace(topic, '.', ' ') AS what,
       count(*) AS how_many,
       sum(minor) AS minor
  FROM facts
 WHERE topic IN ('capture.requested', 'capture.captured', 'capture.declined', 'capture.refused', 'capture.expired',
                 'capture.canceled', 'refund.requested', 'refund.succeeded', 'refund.failed', 'refund.canceled',
                 'refund.refused', 'invoice.requested', 'invoice.finalized', 'invoice.sent', 'invoice.paid',
                 'invoice.refused', 'credit_note.requested', 'credit_note.issued', 'credit_note.voided',
                 'credit_note.refused')
   AND happened_at >= $since AND happened_at < $until
 GROUP BY ALL
 ORDER BY month, account, currency NULLS FIRST, what
