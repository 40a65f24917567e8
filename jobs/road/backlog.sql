-- name: read_backlog
-- Each condition is also in the statement that then takes the rows: in planning.sql, housekeeping.sql or work_queue.sql.
SELECT EXISTS (SELECT FROM billing.facts
                WHERE planned_version IS NULL AND topic || ':' || version = ANY (:accepted)) AS unplanned,

       EXISTS (SELECT FROM billing.facts
                WHERE planned_version IS NULL AND version = 1 AND topic = ANY (:only_stamped)) AS unstamped,

       EXISTS (SELECT FROM billing.work
                WHERE state = 'waiting'
                  AND (due_at <= clock_timestamp() OR due_at > clock_timestamp() + interval '2 hours')) AS due,

       EXISTS (SELECT FROM billing.work AS w JOIN billing.idempotency_records AS r ON r.id = w.record_id
                WHERE w.state = 'running'
                  AND (r.lease_until IS NULL OR r.lease_until < clock_timestamp()
                       OR r.lease_until > clock_timestamp() + make_interval(secs => r.lease_s + 1))) AS lapsed,

       EXISTS (SELECT FROM billing.switches WHERE state = 'pulled' AND expires_at <= clock_timestamp()) AS expired,

       :stopped_too
       AND EXISTS (SELECT FROM billing.switches WHERE state = 'pulled')
       AND EXISTS (SELECT FROM billing.work
                    WHERE (state = 'ready' OR state = 'waiting' AND due_at IS NOT NULL)
                      AND scopes && (SELECT CAST(coalesce(array_agg(scope), '{}') AS text[])
                                       FROM billing.switches WHERE state = 'pulled')) AS switched_off,

       :stopped_too
       AND EXISTS (SELECT FROM billing.idempotency_records AS r, billing.work AS w
                    WHERE w.id = r.work_id AND w.state IN ('held', 'parked', 'quarantined')
                      AND r.concluded_at IS NULL AND r.look_at IS NULL AND r.unanswered > 0
                      AND r.state IN ('sent', 'in_doubt')
                      AND (r.lease_until IS NULL OR r.lease_until < clock_timestamp()
                           OR r.lease_until > clock_timestamp() + make_interval(secs => r.lease_s + 1))) AS unseen,

       :stopped_too
       AND EXISTS (SELECT FROM billing.work
                    WHERE state = 'held'
                      AND NOT scopes && (SELECT CAST(coalesce(array_agg(scope), '{}') AS text[])
                                           FROM billing.switches
                                          WHERE state = 'pulled' OR release_per_hour IS NOT NULL)) AS released,

       EXISTS (SELECT FROM billing.switches
                WHERE release_per_hour IS NOT NULL
                  AND (release_next_at <= clock_timestamp()
                       OR release_next_at > clock_timestamp() + interval '2 hours')) AS paced,

       :unknown_too
       AND EXISTS (SELECT FROM billing.work
                    WHERE state = 'ready' AND NOT contract || ':' || version = ANY (:known)
                       OR state = 'parked' AND contract || ':' || version = ANY (:known)) AS unknown,

       EXISTS (SELECT FROM billing.received_events
                WHERE state = 'received'
                  AND (match_at <= clock_timestamp() OR match_at > clock_timestamp() + interval '2 hours')) AS unmatched,

       ARRAY (SELECT (SELECT count(*)
                        FROM (SELECT FROM billing.work
                               WHERE queue = q.name AND state = 'ready'
                                 AND contract || ':' || version = ANY (:known)
                                 AND urgency <= (SELECT CASE WHEN q.name = ANY (:may_wait) AND EXISTS
                                                        (SELECT FROM billing.queue_loads AS l
                                                          WHERE l.behind_since IS NOT NULL AND NOT l.queue = ANY (:may_wait)
                                                            AND l.measured_at > clock_timestamp() - interval '2 minutes')
                                                   THEN clock_timestamp() ELSE 'infinity' END)
                               LIMIT q.most) AS ready)
                   + (SELECT count(*)
                        FROM (SELECT FROM billing.idempotency_records AS r
                               WHERE r.queue = q.name AND r.look_at IS NOT NULL AND r.concluded_at IS NULL
                                 AND (r.look_at <= clock_timestamp()
                                      OR r.look_at > clock_timestamp() + interval '2 hours')
                                 AND (r.lease_until IS NULL OR r.lease_until < clock_timestamp()
                                      OR r.lease_until > clock_timestamp() + make_interval(secs => r.lease_s + 1))
                               LIMIT q.most) AS looks)
                FROM unnest(CAST(:queues AS text[]), CAST(:mosts AS bigint[]))
                     WITH ORDINALITY AS q (name, most, place)
               ORDER BY q.place) AS claimable;
