-- name: invoices_of_actions
-- The invoice of each action, whether a call of it is open or in conflict, and the newest earlier action of the same
-- invoice that is not over. LATERAL, because Postgres may read all records through for EXISTS.
SELECT mine.id AS owner, invoice.id, invoice.state, coalesce(open.call, false) AS disputed, earlier.id AS earlier,
       note.state AS note
  FROM billing.invoice_actions AS mine
  JOIN billing.invoices AS invoice ON invoice.id = mine.invoice_id
  LEFT JOIN billing.credit_notes AS note ON note.id = mine.credit_note_id
  LEFT JOIN LATERAL (
       SELECT true AS call FROM billing.idempotency_records AS r
        WHERE r.operation_id = invoice.id AND (r.concluded_at IS NULL OR r.state = 'conflict') LIMIT 1) AS open ON true
  LEFT JOIN LATERAL (
       SELECT a.id FROM billing.invoice_actions AS a
        WHERE a.stripe_invoice = mine.stripe_invoice AND a.invoice_id = mine.invoice_id AND a.id < mine.id
          AND a.state = 'requested'
        ORDER BY a.id DESC LIMIT 1) AS earlier ON true
 WHERE mine.id = ANY (:ids);
