-- name: alone
-- Captures that were invoiced at once, by the facts that requested their invoices.
INSERT INTO billing.invoiced_captures
       (capture_id, account, customer, currency, description, at_once, invoice_id, position, billed_minor)
SELECT capture.id, coalesce(capture.account, 'own'), invoice.customer, invoice.currency, :text, true, invoice.id, 0,
       invoice.total_minor
  FROM billing.facts AS f
  JOIN billing.invoices AS invoice ON invoice.id = f.entity_id
  JOIN billing.captures AS capture ON capture.id = f.payload ->> 'capture'
 WHERE f.id > :after AND f.topic = 'invoice.requested' AND f.payload ? 'capture' AND invoice.total_minor > 0
    ON CONFLICT DO NOTHING;

-- name: periods
-- With the bounds that were told. What was set is in no fact, and nothing is reckoned with it.
INSERT INTO billing.invoice_periods (account, period_start, period_end, length, zone)
SELECT DISTINCT f.payload ->> 'account', CAST(f.payload ->> 'period_start' AS timestamptz),
       CAST(f.payload ->> 'period_end' AS timestamptz), 'month', 'UTC'
  FROM billing.facts AS f
 WHERE f.id > :after AND f.topic = 'capture.invoiced' AND f.payload ? 'period_start'
    ON CONFLICT DO NOTHING;

-- name: collected
-- Captures that were invoiced, with one that waits here for its invoice among them.
INSERT INTO billing.invoiced_captures AS mine
       (capture_id, account, customer, currency, description, at_once, captured_at, period_start, period_end, part,
        invoice_id, position, billed_minor)
SELECT capture.id, f.payload ->> 'account', f.payload ->> 'customer', f.payload ->> 'currency', :text,
       NOT f.payload ? 'part', capture.state_since, CAST(f.payload ->> 'period_start' AS timestamptz),
       CAST(f.payload ->> 'period_end' AS timestamptz), CAST(f.payload ->> 'part' AS bigint), invoice.id,
       CAST(f.payload ->> 'line' AS bigint), CAST(f.payload ->> 'minor' AS bigint)
  FROM billing.facts AS f
  JOIN billing.invoices AS invoice ON invoice.id = f.payload ->> 'invoice'
  JOIN billing.captures AS capture ON capture.id = f.entity_id
 WHERE f.id > :after AND f.topic = 'capture.invoiced'
    ON CONFLICT (capture_id) DO UPDATE
       SET captured_at = excluded.captured_at, period_start = excluded.period_start, period_end = excluded.period_end,
           part = excluded.part, invoice_id = excluded.invoice_id, position = excluded.position,
           billed_minor = excluded.billed_minor, left_out = NULL
     WHERE mine.invoice_id IS NULL;
