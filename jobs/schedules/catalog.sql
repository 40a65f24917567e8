-- name: used_contracts
-- Ids begin with their time, so that the primary key finds what is new.
SELECT contract || ':' || version AS name, count(*) AS volume, max(created_at) AS last_use
  FROM billing.work WHERE id >= :since GROUP BY 1;

-- name: used_schedules
SELECT schedule AS name, count(*) AS volume, max(at) AS last_use
  FROM billing.scheduled_runs WHERE id >= :since GROUP BY 1;

-- name: installed_at
SELECT created_at FROM billing.installation;
