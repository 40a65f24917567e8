-- name: concluded_keys
SELECT key FROM billing.idempotency_records WHERE key = ANY (:keys) AND concluded_at IS NOT NULL;

-- name: work_of
-- Of each, its own work: the oldest. What observes it came later.
SELECT DISTINCT ON (entity_id) entity_id, id FROM billing.work WHERE entity_id = ANY (:ids) ORDER BY entity_id, id;

-- name: newest_version
SELECT coalesce(max(entity_version), 0) FROM billing.facts WHERE entity_type = :kind AND entity_id = :id;
