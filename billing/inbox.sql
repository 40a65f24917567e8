-- name: put
-- A second delivery changes nothing. No column is named for the conflict, so that this login need not read any.
INSERT INTO billing.received_events (id, type, thin, account, livemode, api_version, created_at, object_id,
                                     payment_intent, charge, invoice, operation_id, caused_by, source)
SELECT id, type, thin, account, livemode, api_version, created_at, object_id, payment_intent, charge, invoice,
       operation_id, caused_by, source
  FROM json_populate_recordset(CAST(NULL AS billing.received_events), :events)
    ON CONFLICT DO NOTHING;

-- name: to_match
SELECT received_events.* FROM billing.received_events
 WHERE state = 'received' AND (match_at <= clock_timestamp() OR match_at > clock_timestamp() + interval '2 hours')
 ORDER BY match_at LIMIT :most FOR NO KEY UPDATE SKIP LOCKED;

-- name: open_calls
SELECT DISTINCT operation_id FROM billing.idempotency_records
 WHERE operation_id = ANY (:ids) AND concluded_at IS NULL;
