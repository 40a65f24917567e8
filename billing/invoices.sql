-- name: lines_of_invoices
-- Only so much is ever loaded: one line more than there may be shows that there are too many, and a description that is
-- too long is left out. Its length in bytes is known without reading it.
SELECT line.invoice_id, line.position, line.amount_minor, line.description
  FROM unnest(CAST(:ids AS text[])) AS wanted (id)
 CROSS JOIN LATERAL (
       SELECT invoice_id, position, amount_minor,
              CASE WHEN octet_length(description) <= :most_bytes THEN description END AS description
         FROM billing.invoice_lines
        WHERE invoice_id = wanted.id
        ORDER BY position LIMIT :most) AS line
 ORDER BY line.invoice_id, line.position;
