-- name: any_unplanned
SELECT EXISTS (SELECT FROM billing.facts WHERE planned_version IS NULL AND topic || ':' || version = ANY (:accepted));

-- name: stamp
UPDATE billing.facts SET planned_version = :planned_version WHERE id = ANY (:ids);

-- name: set_aside
-- A fact that another relay has set aside meanwhile stays as it is.
UPDATE billing.facts SET planned_version = :planned_version
 WHERE id = ANY (:ids) AND coalesce(planned_version, 1) > 0
RETURNING id, topic, entity_id, correlation_id;

-- name: stamp_the_rest
UPDATE billing.facts SET planned_version = :planned_version
 WHERE id = ANY (ARRAY(SELECT id FROM billing.facts
                        WHERE planned_version IS NULL AND version = 1 AND topic = ANY (:only_stamped)
                        ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED));
