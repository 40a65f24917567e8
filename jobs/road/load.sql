-- name: read
SELECT queue, measured_at, waiting, lag_s, started, starts_per_s, behind_since FROM billing.queue_loads;

-- name: measure
-- What waits for its first call: ready work, and facts that are not planned yet. Its lag is that of the oldest of the next
-- thousand, because what is claimed later by its urgency is meant to wait.
SELECT q.name AS queue,
       (SELECT count(*)
          FROM (SELECT record_id FROM billing.work
                 WHERE queue = q.name AND state = 'ready' ORDER BY urgency, id LIMIT q.most) AS ready
         WHERE record_id IS NULL)
     + (SELECT count(*)
          FROM (SELECT FROM billing.facts
                 WHERE planned_version IS NULL AND topic || ':' || version = ANY (string_to_array(q.starters, ' '))
                 LIMIT q.most) AS unplanned) AS waiting,
       coalesce(greatest(0, extract(epoch FROM clock_timestamp() - least(
           (SELECT min(created_at) FILTER (WHERE record_id IS NULL AND isfinite(created_at))
              FROM (SELECT created_at, record_id FROM billing.work
                     WHERE queue = q.name AND state = 'ready' ORDER BY urgency, id LIMIT 1000) AS next),
           (SELECT min(happened_at) FILTER (WHERE isfinite(happened_at))
              FROM (SELECT happened_at FROM billing.facts
                     WHERE planned_version IS NULL
                       AND topic || ':' || version = ANY (string_to_array(q.starters, ' '))
                     ORDER BY id LIMIT 1000) AS next)))), 0) AS lag_s,
       coalesce(s.operations, 0) AS started
  FROM unnest(CAST(:queues AS text[]), CAST(:mosts AS bigint[]), CAST(:starters AS text[]))
       WITH ORDINALITY AS q (name, most, starters, place)
  LEFT JOIN (SELECT queue, count(*) AS operations FROM billing.idempotency_records
              WHERE id >= :since AND generation = 1 GROUP BY queue) AS s ON s.queue = q.name
 ORDER BY q.place;

-- name: write
INSERT INTO billing.queue_loads (queue, measured_at, waiting, lag_s, started, starts_per_s, behind_since)
VALUES (:queue, :measured_at, :waiting, :lag_s, :started, :starts_per_s, :behind_since)
ON CONFLICT (queue) DO UPDATE
   SET measured_at = excluded.measured_at, waiting = excluded.waiting, lag_s = excluded.lag_s,
       started = excluded.started, starts_per_s = excluded.starts_per_s, behind_since = excluded.behind_since;

-- name: recently_started
SELECT r.queue, count(*) AS operations,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY r.waited_s) AS p50_s,
       percentile_disc(0.99) WITHIN GROUP (ORDER BY r.waited_s) AS p99_s,
       max(r.waited_s) AS max_s
  FROM (SELECT r.queue, CAST(extract(epoch FROM r.created_at - o.requested_at) AS float8) AS waited_s
          FROM billing.idempotency_records AS r
          -- The limit keeps Postgres to their indexes: it may read all of the tables for those of a minute otherwise.
          JOIN LATERAL (SELECT asked.requested_at FROM :requested AS asked
                         WHERE asked.id = r.operation_id LIMIT 1) AS o ON true
         WHERE r.id >= :since AND r.generation = 1 AND isfinite(o.requested_at)) AS r
 GROUP BY r.queue;
