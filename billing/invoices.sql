-- name: lines_of_invoices
-- One line more than is allowed is loaded, which shows that there are too many. A description that is too long is left
-- out: Postgres knows its length in bytes without reading it.
SELECT line.invoice_id, line.position, line.amount_minor, line.details, line.description
  FROM unnest(CAST(:ids AS text[])) AS wanted (id)
 CROSS JOIN LATERAL (
       SELECT invoice_id, position, amount_minor, details,
              CASE WHEN octet_length(description) <= :most_bytes THEN description END AS description
         FROM billing.invoice_lines
        WHERE invoice_id = wanted.id
        ORDER BY position LIMIT :most) AS line
 ORDER BY line.invoice_id, line.position;
