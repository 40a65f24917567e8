-- name: begin_again
UPDATE billing.stripe_cursors
   SET covered_from = least(covered_from, :since), covered_until = least(covered_until, :since),
       compared_until = least(compared_until, :since), window_until = NULL, after_id = NULL
 WHERE list = :list;

-- name: stand
SELECT (SELECT min(compared_until) FROM billing.stripe_cursors WHERE list <> 'archive') AS compared_until,
       (SELECT count(DISTINCT r.operation_id) FROM billing.idempotency_records AS r
         WHERE r.concluded_at IS NULL AND r.state <> 'planned' AND left(r.operation_id, 4) NOT IN ('swi_', 'run_')
           AND NOT EXISTS (SELECT FROM billing.refunds AS f
                            WHERE f.id = r.operation_id AND f.state IN ('pending', 'requires_action'))) AS in_doubt;

-- name: open
SELECT class AS name, count(*) AS differences FROM billing.differences WHERE state = 'open' GROUP BY class ORDER BY class;
