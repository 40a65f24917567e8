-- Of which requests of a bulk something is known here. The others can only be new.

-- name: known_captures
-- A request that a restored database made again is known by its digest.
SELECT asked.number
  FROM unnest(CAST(:numbers AS bigint[]), CAST(:names AS text[]), CAST(:made_again AS text[]),
              CAST(:objects AS text[])) AS asked (number, name, made_again, object)
 WHERE EXISTS (SELECT FROM billing.captures AS c
                WHERE c.account = :account AND c.request_id = ANY (ARRAY[asked.name, asked.made_again]))
    OR EXISTS (SELECT FROM billing.captures AS c
                WHERE c.account = :account AND c.payment_intent = asked.object
                  AND c.state NOT IN ('declined', 'refused', 'canceled'))
    OR EXISTS (SELECT FROM billing.voids AS v
                WHERE v.account = :account AND v.payment_intent = asked.object AND v.state NOT IN ('refused'));

-- name: known_captures_of_our_own_account
SELECT asked.number
  FROM unnest(CAST(:numbers AS bigint[]), CAST(:names AS text[]), CAST(:made_again AS text[]),
              CAST(:objects AS text[])) AS asked (number, name, made_again, object)
 WHERE EXISTS (SELECT FROM billing.captures AS c
                WHERE c.account IS NULL AND c.request_id = ANY (ARRAY[asked.name, asked.made_again]))
    OR EXISTS (SELECT FROM billing.captures AS c
                WHERE c.account IS NULL AND c.payment_intent = asked.object
                  AND c.state NOT IN ('declined', 'refused', 'canceled'))
    OR EXISTS (SELECT FROM billing.voids AS v
                WHERE v.account IS NULL AND v.payment_intent = asked.object AND v.state NOT IN ('refused'));
