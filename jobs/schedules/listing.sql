-- name: last_runs
-- Of each schedule the newest run, with its work and its last call.
SELECT s.name, r.id, r.at, r.state, r.missed, r.asked_by, w.id AS work_id, w.state AS work,
       w.reason AS work_reason, w.due_at, c.began, c.ended
  FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS s (name, place)
  LEFT JOIN LATERAL (SELECT * FROM billing.scheduled_runs WHERE schedule = s.name ORDER BY at DESC LIMIT 1) AS r ON true
  LEFT JOIN LATERAL (SELECT * FROM billing.work WHERE entity_id = r.id ORDER BY id DESC LIMIT 1) AS w ON true
  LEFT JOIN LATERAL (SELECT first_sent_at AS began, concluded_at AS ended FROM billing.idempotency_records
                      WHERE operation_id = r.id ORDER BY generation DESC LIMIT 1) AS c ON true
 ORDER BY s.place;
