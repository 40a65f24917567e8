-- name: behind
-- There are few facts of switches, and the index of entity versions begins with the type.
SELECT f.entity_id, f.entity_version, f.topic, f.actor, f.happened_at, f.payload
  FROM billing.facts AS f LEFT JOIN billing.switches AS s ON s.id = f.entity_id
 WHERE f.entity_type = 'switch' AND f.entity_version > coalesce(s.version, 0) AND f.happened_at >= :since
   AND jsonb_typeof(f.payload) = 'object'
 ORDER BY f.entity_id, f.entity_version;
