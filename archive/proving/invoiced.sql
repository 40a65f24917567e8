-- name: places
-- Each place of these invoices that is a capture's: by the capture's row, and by the line of the invoice.
SELECT coalesce(mine.invoice_id, line.invoice_id) AS invoice, coalesce(mine.position, line.position) AS position,
       mine.capture_id AS capture, mine.billed_minor AS minor, mine.currency,
       capture.state, capture.account, capture.amount_minor AS taken, capture.currency AS taken_in,
       line.capture AS line_of, line.minor AS line_minor,
       mine.captured_at IS NOT NULL AS told, told.batch_no AS batch, told.id IS NOT NULL AS in_postgres
  FROM (SELECT invoice_id, position, capture_id, billed_minor, currency, captured_at
          FROM billing.invoiced_captures WHERE invoice_id = ANY (:invoices)) AS mine
  FULL JOIN (SELECT invoice_id, position, details ->> 'capture' AS capture, amount_minor AS minor
               FROM billing.invoice_lines WHERE invoice_id = ANY (:invoices) AND details ? 'capture') AS line
    ON line.invoice_id = mine.invoice_id AND line.position = mine.position
  LEFT JOIN billing.captures AS capture ON capture.id = mine.capture_id
  LEFT JOIN LATERAL (
       SELECT f.id, f.batch_no FROM billing.facts AS f
        WHERE f.entity_type = 'capture' AND f.entity_id = mine.capture_id AND f.topic = 'capture.invoiced'
        ORDER BY f.id LIMIT 1) AS told ON true
 ORDER BY invoice, position;
