-- title: Invoice numbers
-- answers: Are the numbers of our invoices without a gap as of `until`, and what explains each gap?
-- reads: invoice
-- parameters: until
-- columns: account text, series text, what text, first_number text, last_number text, how_many int, invoice text?, explanation text?
-- Stripe gives the numbers: one series for each customer or for the account, as it is set up there. A series is what
-- stands before the counter. `issued`: from the first to the last of ours. `refused`: ours, and ended after it had its
-- number. `gap`: no invoice of ours has these numbers. `used twice`: must never be there.
WITH told AS (
    SELECT * FROM facts WHERE entity_type = 'invoice' AND happened_at < $until
), asked AS (
    SELECT entity_id, coalesce(any_value(account), 'own') AS account
      FROM told
     WHERE topic = 'invoice.requested'
     GROUP BY entity_id
), numbered AS (
    SELECT coalesce(asked.account, 'unknown') AS account,
           told.number,
           told.entity_id,
           regexp_extract(told.number, '^(.*?)([0-9]*)$', 1) AS series,
           TRY_CAST(regexp_extract(told.number, '^(.*?)([0-9]*)$', 2) AS BIGINT) AS counter,
           arg_max(told.topic, told.entity_version) = 'invoice.refused' AS refused,
           arg_max_null(told.why, told.entity_version) FILTER (WHERE told.topic = 'invoice.refused') AS why
      FROM told LEFT JOIN asked USING (entity_id)
     WHERE told.number IS NOT NULL
     GROUP BY ALL
), series_ends AS (
    SELECT account, series, min(counter) AS first, max(counter) AS last,
           arg_min(number, counter) AS first_number, arg_max(number, counter) AS last_number,
           count(DISTINCT counter) AS how_many
      FROM numbered
     WHERE counter IS NOT NULL
     GROUP BY account, series
), neighbors AS (
    SELECT account, series, counter,
           lag(counter) OVER each AS before,
           CAST(len(lag(number) OVER each) - len(series) AS INTEGER) AS width
      FROM (SELECT DISTINCT account, series, number, counter FROM numbered WHERE counter IS NOT NULL)
    WINDOW each AS (PARTITION BY account, series ORDER BY counter, number)
), gaps AS (
    -- The missing numbers, as wide as the one before them: 0004.
    SELECT account, series, counter - before - 1 AS how_many,
           series || lpad(CAST(before + 1 AS VARCHAR), greatest(width, len(CAST(before + 1 AS VARCHAR))::INTEGER), '0') AS first_number,
           series || lpad(CAST(counter - 1 AS VARCHAR), greatest(width, len(CAST(counter - 1 AS VARCHAR))::INTEGER), '0') AS last_number
      FROM neighbors
     WHERE counter - before > 1
), answer AS (
    SELECT account, series, 'issued' AS what, first_number, last_number, how_many, NULL AS invoice, NULL AS explanation
      FROM series_ends
    UNION ALL
    SELECT account, series, 'refused', number, number, 1, entity_id,
           'ours, and refused after it had its number: ' || coalesce(why, 'no reason is archived')
      FROM numbered
     WHERE refused
    UNION ALL
    SELECT account, series, 'gap', first_number, last_number, how_many, NULL,
           'no invoice of ours: look in Stripe for who made it, or deleted or voided it'
      FROM gaps
    UNION ALL
    SELECT account, min(series), 'used twice', number, number, count(DISTINCT entity_id), min(entity_id),
           'several invoices of ours have this number: a person must look'
      FROM numbered
     GROUP BY account, number
    HAVING count(DISTINCT entity_id) > 1
    UNION ALL
    SELECT account, series, 'no counter', number, number, 1, entity_id, 'this number does not end in digits'
      FROM numbered
     WHERE counter IS NULL
)
SELECT account, series, what, first_number, last_number, how_many, invoice, explanation
  FROM answer
 ORDER BY account, series, what, first_number, invoice
