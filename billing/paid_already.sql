-- name: captures_of_invoices
SELECT mine.invoice_id, capture.id, capture.state, capture.amount_minor - capture.refunds_minor AS left_minor
  FROM billing.invoiced_captures AS mine JOIN billing.captures AS capture ON capture.id = mine.capture_id
 WHERE mine.invoice_id = ANY (:ids) AND mine.at_once;
