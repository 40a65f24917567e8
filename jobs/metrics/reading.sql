-- name: work
-- Every queue and state has a row, also where there is none. States are literals, so that the partial indexes fit.
WITH counted AS (
    SELECT queue, state, count(*) AS pieces,
           extract(epoch FROM clock_timestamp() - min(state_since) FILTER (WHERE isfinite(state_since))) AS oldest_s
      FROM (
           SELECT q.name AS queue, 'ready' AS state, w.state_since
             FROM unnest(CAST(:queues AS text[])) AS q (name),
                  LATERAL (SELECT state_since FROM billing.work WHERE queue = q.name AND state = 'ready'
                            ORDER BY urgency, id LIMIT :most) AS w
           UNION ALL
           (SELECT queue, state, state_since FROM billing.work WHERE state = 'running' ORDER BY id LIMIT :most)
           UNION ALL
           (SELECT queue, state, state_since FROM billing.work WHERE state = 'waiting' AND due_at IS NOT NULL
             ORDER BY due_at LIMIT :most)
           UNION ALL
           -- What waits without a time waits for a look at its record.
           (SELECT w.queue, w.state, w.state_since
              FROM billing.idempotency_records AS r JOIN billing.work AS w ON w.id = r.work_id
             WHERE r.queue = ANY (:queues) AND r.concluded_at IS NULL AND r.look_at IS NOT NULL
               AND w.state = 'waiting' AND w.due_at IS NULL LIMIT :most)
           UNION ALL
           (SELECT queue, state, state_since FROM billing.work WHERE state = 'held' ORDER BY id LIMIT :most)
           UNION ALL
           (SELECT queue, state, state_since FROM billing.work WHERE state = 'parked' ORDER BY id LIMIT :most)
           UNION ALL
           (SELECT queue, state, state_since FROM billing.work WHERE state = 'quarantined' ORDER BY id LIMIT :most)
           ) AS unfinished
     GROUP BY queue, state)
SELECT q.name AS queue, s.name AS state, coalesce(c.pieces, 0) AS pieces, coalesce(c.oldest_s, 0) AS oldest_s
  FROM unnest(CAST(:queues AS text[])) AS q (name) CROSS JOIN unnest(CAST(:states AS text[])) AS s (name)
  LEFT JOIN counted AS c ON c.queue = q.name AND c.state = s.name;

-- name: in_doubt
-- A first call in flight is not in doubt, unless its worker has not reported in time; sent again, it stays in doubt.
WITH doubtful AS (
    SELECT r.operation_id, min(r.first_sent_at) FILTER (WHERE isfinite(r.first_sent_at)) AS since
      FROM billing.idempotency_records AS r
     WHERE r.concluded_at IS NULL
       AND (r.state = 'in_doubt'
            OR r.state = 'sent' AND r.unanswered > 1
            OR r.state = 'sent' AND r.unanswered > 0
               AND (r.lease_until IS NULL OR r.lease_until < clock_timestamp()
                    OR r.lease_until > clock_timestamp() + make_interval(secs => r.lease_s + 1)))
     GROUP BY r.operation_id)
SELECT split_part(d.operation_id, '_', 1) AS operation, coalesce(o.currency, 'none') AS currency,
       count(*) AS operations, coalesce(sum(o.minor), 0) AS minor,
       coalesce(extract(epoch FROM clock_timestamp() - min(d.since)), 0) AS oldest_s
  FROM doubtful AS d
  LEFT JOIN :about_money AS o ON o.id = d.operation_id
 GROUP BY 1, 2;

-- name: undecided
SELECT queue, count(*) AS calls
  FROM billing.idempotency_records WHERE concluded_at IS NULL AND parked_at IS NOT NULL GROUP BY queue;

-- name: stopped_money
SELECT split_part(w.entity_id, '_', 1) AS operation, w.state, o.currency, sum(o.minor) AS minor
  FROM billing.work AS w
  JOIN :about_money AS o ON o.id = w.entity_id
 WHERE w.state IN ('held', 'parked', 'quarantined')
   -- What only observes stops no money, and would count it twice.
   AND NOT starts_with(w.contract, 'observe_')
 GROUP BY 1, 2, 3;

-- name: expiring
-- Only unfinished work can still take the money, and it is found by its own indexes.
SELECT c.currency, count(*) AS captures, sum(c.amount_minor) AS minor
  FROM ((SELECT entity_id FROM billing.work
          WHERE queue = 'captures' AND state = 'ready' AND urgency < clock_timestamp() + interval '24 hours'
          ORDER BY urgency LIMIT :most)
        UNION
        (SELECT entity_id FROM billing.work WHERE state = 'running' LIMIT :most)
        UNION
        (SELECT entity_id FROM billing.work WHERE state = 'waiting' AND due_at IS NOT NULL ORDER BY due_at LIMIT :most)
        UNION
        (SELECT w.entity_id
           FROM billing.idempotency_records AS r JOIN billing.work AS w ON w.id = r.work_id
          WHERE r.queue = 'captures' AND r.concluded_at IS NULL AND r.look_at IS NOT NULL
          ORDER BY r.look_at LIMIT :most)
        UNION
        (SELECT entity_id FROM billing.work WHERE state IN ('held', 'parked', 'quarantined') LIMIT :most)) AS w
  JOIN billing.captures AS c ON c.id = w.entity_id
 WHERE c.state = 'requested' AND c.capture_before < clock_timestamp() + interval '24 hours'
 GROUP BY c.currency;

-- name: not_invoiced
-- Captured, to be collected, and on no invoice although the period was over: since its end.
SELECT count(*) AS captures,
       coalesce(extract(epoch FROM clock_timestamp() - min(period_end)), 0) AS oldest_s
  FROM (SELECT period_end FROM billing.invoiced_captures
         WHERE invoice_id IS NULL AND left_out IS NULL AND period_start IS NOT NULL AND period_end < clock_timestamp()
         ORDER BY account, period_start LIMIT :most) AS waiting;

-- name: documents
-- Those that are not stored, each state by the partial index that has no others.
SELECT 'requested' AS state, count(*) AS documents
  FROM (SELECT FROM billing.documents WHERE state = 'requested' AND state <> 'stored' LIMIT :most) AS waiting
UNION ALL
SELECT 'refused', count(*)
  FROM (SELECT FROM billing.documents WHERE state = 'refused' AND state <> 'stored' LIMIT :most) AS refused;

-- name: unplanned
SELECT count(*) AS facts,
       coalesce(extract(epoch FROM clock_timestamp()
                                   - min(happened_at) FILTER (WHERE isfinite(happened_at))), 0) AS oldest_s
  FROM (SELECT happened_at FROM billing.facts WHERE planned_version IS NULL ORDER BY id LIMIT :most) AS waiting;

-- name: unarchived
SELECT c.name AS retention_class, waiting.facts, waiting.oldest_s
  FROM unnest(CAST(:classes AS text[])) AS c (name),
       LATERAL (SELECT count(*) AS facts,
                       coalesce(extract(epoch FROM clock_timestamp()
                                 - min(happened_at) FILTER (WHERE isfinite(happened_at))), 0) AS oldest_s
                  FROM (SELECT happened_at FROM billing.facts
                         WHERE batch_no IS NULL AND planned_version IS NOT NULL
                           AND :class_of_fact = c.name
                         ORDER BY id LIMIT :most) AS oldest) AS waiting;

-- name: set_aside
SELECT 'planning' AS withheld_from, count(*) AS facts
  FROM (SELECT FROM billing.facts WHERE planned_version < 0 LIMIT :most) AS unplannable
UNION ALL
SELECT 'archiving', count(*) FROM (SELECT FROM billing.facts WHERE batch_no = 0 LIMIT :most) AS unarchivable;

-- name: events
SELECT count(*) AS unmatched,
       coalesce(extract(epoch FROM clock_timestamp()
                                   - min(received_at) FILTER (WHERE isfinite(received_at))), 0) AS oldest_s
  FROM (SELECT received_at FROM billing.received_events WHERE state = 'received' ORDER BY match_at LIMIT :most) AS waiting;

-- name: strange_events
-- Of the last day, and of Stripe's: into a mailbox anybody may write. Its key or the metadata of its object names an
-- operation of ours, and for an hour none had this id.
SELECT count(*) AS events
  FROM (SELECT FROM billing.received_events
         WHERE state = 'unknown' AND (operation_id IS NOT NULL OR caused_by IS NOT NULL)
           AND source IN ('webhook', 'sweep')
           AND received_at > clock_timestamp() - interval '1 day' LIMIT :most) AS strange;

-- name: switches
SELECT count(*) AS switches FROM billing.switches WHERE state = 'pulled';

-- name: differences
SELECT open.class, count(*) AS differences, extract(epoch FROM clock_timestamp() - min(open.first_seen_at)) AS oldest_s
  FROM (SELECT class, first_seen_at FROM billing.differences
         WHERE state = 'open' ORDER BY class, first_seen_at LIMIT :most) AS open
 GROUP BY open.class;

-- name: reconciliation
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(compared_until)), 0) AS lag_s
  FROM billing.stripe_cursors WHERE list <> 'archive';

-- name: tables
SELECT c.relname AS "table", pg_total_relation_size(c.oid) AS bytes
  FROM pg_class AS c WHERE c.relnamespace = to_regnamespace('billing') AND c.relkind = 'r';

-- name: loads
-- As a relay has measured them, unless none does any more.
SELECT queue, lag_s, CAST(behind_since IS NOT NULL AS int) AS behind
  FROM billing.queue_loads WHERE measured_at > clock_timestamp() - interval '2 minutes';
