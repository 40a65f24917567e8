-- name: write
INSERT INTO billing.invoiced_captures
       (capture_id, account, customer, currency, description, at_once, invoice_id, position, billed_minor)
VALUES (:capture_id, :account, :customer, :currency, :description, :at_once, :invoice_id, :position, :billed_minor)
    ON CONFLICT DO NOTHING RETURNING capture_id;
