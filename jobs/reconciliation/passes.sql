-- name: begin_again
UPDATE billing.stripe_cursors
   SET covered_from = least(covered_from, :since), covered_until = least(covered_until, :since),
       compared_until = least(compared_until, :since), window_until = NULL, after_id = NULL;

-- name: stand
SELECT (SELECT min(compared_until) FROM billing.stripe_cursors) AS compared_until,
       (SELECT count(DISTINCT operation_id) FROM billing.idempotency_records
         WHERE concluded_at IS NULL AND left(operation_id, 4) NOT IN ('swi_', 'run_')) AS in_doubt;

-- name: open
SELECT class AS name, count(*) AS differences FROM billing.differences WHERE state = 'open' GROUP BY class ORDER BY class;
