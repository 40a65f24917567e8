-- title: In doubt, and for how long
-- answers: For which captures, voids, refunds, invoices and credit notes was it not known, as of `until`, what a call did at Stripe?
-- reads: capture, invoice, attempt
-- parameters: until
-- columns: state text, kind text, id text, account text, payment_intent text?, customer text?, currency text?, minor money?, since time, hours int
-- `in doubt`: a call was sent and no answer came that says what it did; Stripe is asked. `undecided`: Stripe was asked,
-- and that could not decide it so far. `conflict`: Stripe holds something other than was asked; a person must decide.
-- A call that is under way at that moment, for the first time, is none of these.
WITH told AS (
    SELECT *, split_part(topic, '.', 2) AS what
      FROM facts
     WHERE entity_type IN ('capture', 'void', 'refund', 'invoice', 'credit_note') AND happened_at < $until
), opened AS (
    -- What only reads, or only tidies up drafts, leaves no doubt about money.
    SELECT *
      FROM told
     WHERE (what IN ('attempt_lapsed', 'undecided', 'conflict')
            OR (what = 'attempted' AND (outcome = 'no_answer' OR learned = 'ask')))
       AND NOT regexp_matches(coalesce(step, ''), '^(read_|list_|delete_duplicate_|observe)')
), settled AS (
    SELECT entity_id,
           max(entity_version) FILTER (WHERE what NOT IN ('attempted', 'attempt_lapsed', 'looked', 'late_answer',
                                                          'undecided', 'conflict', 'disproved', 'replayed',
                                                          'noticed')) AS version,
           list(entity_version) FILTER (WHERE what = 'replayed') AS replays
      FROM told
     WHERE entity_id IN (SELECT entity_id FROM opened)
     GROUP BY entity_id
), judged AS (
    -- A conflict is over once an operator has decided (`replayed`) and the operation has ended after that.
    SELECT opened.entity_id,
           opened.entity_type,
           opened.happened_at,
           opened.what,
           len(list_filter(settled.replays, lambda v: v > opened.entity_version)) > 0 AS decided,
           CASE WHEN opened.what = 'conflict'
                THEN settled.version > list_min(list_filter(settled.replays, lambda v: v > opened.entity_version))
                ELSE settled.version > opened.entity_version
                     OR EXISTS (FROM told AS proof
                                 WHERE proof.entity_id = opened.entity_id AND proof.what = 'disproved'
                                   AND proof.step = opened.step AND proof.generation = opened.generation
                                   AND proof.entity_version > opened.entity_version)
           END AS over
      FROM opened JOIN settled USING (entity_id)
), open AS (
    SELECT entity_id,
           any_value(entity_type) AS kind,
           CASE WHEN bool_or(what = 'conflict' AND NOT coalesce(decided, false)) THEN 'conflict'
                WHEN bool_or(what = 'undecided') THEN 'undecided'
                ELSE 'in doubt'
           END AS state,
           min(happened_at) AS since
      FROM judged
     WHERE NOT coalesce(over, false)
     GROUP BY entity_id
), asked AS (
    SELECT entity_id, coalesce(any_value(account), 'own') AS account, any_value(payment_intent) AS payment_intent,
           any_value(customer) AS customer, any_value(currency) AS currency, any_value(minor) AS minor
      FROM told
     WHERE what = 'requested' AND entity_id IN (SELECT entity_id FROM open)
     GROUP BY entity_id
)
SELECT open.state,
       open.kind,
       open.entity_id AS id,
       coalesce(asked.account, 'unknown') AS account,
       asked.payment_intent,
       asked.customer,
       asked.currency,
       asked.minor,
       open.since,
       (epoch_us($as_of) - epoch_us(open.since)) // 3600000000 AS hours
  FROM open LEFT JOIN asked USING (entity_id)
 ORDER BY open.since, id
