-- name: newest
-- A tick in the future was made before the clock was set back: it is not made again, and hides none that come before it.
SELECT s.name, (SELECT max(r.at) FROM billing.scheduled_runs AS r
                 WHERE r.schedule = s.name AND r.asked_by IS NULL AND r.at <= clock_timestamp()) AS at
  FROM unnest(CAST(:names AS text[])) AS s (name);
