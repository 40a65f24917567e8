-- title: Partial captures
-- answers: Which captures took less than the customer had authorized, and how much was released?
-- reads: capture
-- parameters: since, until
-- columns: captured_at time, account text, payment_intent text?, id text, currency text, authorized_minor money, captured_minor money, released_minor money
-- days: in range
-- Stripe releases the rest at once. Captures whose authorization is not known are counted in `released_money`.
SELECT happened_at AS captured_at,
       coalesce(account, 'unknown') AS account,
       payment_intent,
       entity_id AS id,
       currency,
       authorized_minor,
       minor AS captured_minor,
       authorized_minor - minor AS released_minor
  FROM facts
 WHERE topic = 'capture.captured' AND authorized_minor > minor AND happened_at >= $since AND happened_at < $until
 ORDER BY happened_at, id
