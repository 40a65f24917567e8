-- name: known
SELECT number, last_seq, manifest_sha256, manifest_format FROM billing.archive_batches
 WHERE class = :retention_class AND state = 'archived' ORDER BY number DESC LIMIT 1;

-- name: unclaim_facts
-- An archiver of the restored database has claimed what the bucket has under this number already.
UPDATE billing.facts AS f SET batch_no = NULL, archive_seq = NULL
  FROM billing.archive_batches AS b
 WHERE b.class = :retention_class AND b.number = :number AND b.state = 'claimed'
   AND f.batch_no = b.number AND f.id BETWEEN b.first_fact AND b.last_fact
   AND f.archive_seq BETWEEN b.first_seq AND b.last_seq
   AND b.class = :class_of_fact;

-- name: unclaim
DELETE FROM billing.archive_batches WHERE class = :retention_class AND number = :number AND state = 'claimed';

-- name: here
-- What is not archived of the same operations, or stands under one of these ids.
SELECT f.id, f.entity_type, f.entity_id, f.entity_version, f.topic, f.happened_at
  FROM billing.facts AS f
 WHERE f.id IN (SELECT o.id FROM (SELECT DISTINCT t.entity_type, t.entity_id
                                    FROM unnest(CAST(:types AS text[]), CAST(:entities AS text[]))
                                         AS t (entity_type, entity_id)) AS e
                  JOIN billing.facts AS o ON o.entity_type = e.entity_type AND o.entity_id = e.entity_id
                 UNION ALL SELECT unnest(CAST(:ids AS bigint[])))
   AND (f.batch_no IS NULL OR f.batch_no = 0)
 ORDER BY f.id FOR UPDATE OF f;

-- name: newest_versions
SELECT f.entity_type, f.entity_id, max(f.entity_version) AS version
  FROM (SELECT DISTINCT t.entity_type, t.entity_id
          FROM unnest(CAST(:types AS text[]), CAST(:entities AS text[])) AS t (entity_type, entity_id)) AS e
  JOIN billing.facts AS f ON f.entity_type = e.entity_type AND f.entity_id = e.entity_id
 GROUP BY f.entity_type, f.entity_id;

-- name: go_ahead
-- No number is given twice: the next facts come after all that are archived.
SELECT setval('billing.facts_id_seq', greatest(nextval('billing.facts_id_seq'), :newest));

-- name: move
UPDATE billing.facts SET id = DEFAULT, entity_version = :version WHERE id = :id;

-- name: drop_repeated
DELETE FROM billing.facts WHERE id = ANY (:ids) AND batch_no IS NULL;

-- name: mark
UPDATE billing.facts AS f SET batch_no = :number, archive_seq = m.seq,
       planned_version = coalesce(f.planned_version, :planned_version)
  FROM unnest(CAST(:ids AS bigint[]), CAST(:seqs AS bigint[])) AS m (id, seq) WHERE f.id = m.id;

-- name: bring_back
INSERT INTO billing.facts (id, topic, version, entity_type, entity_id, entity_version, actor, correlation_id, payload,
                           happened_at, planned_version, batch_no, archive_seq)
OVERRIDING SYSTEM VALUE
SELECT fact_id, topic, fact_version, entity_type, entity_id, entity_version, coalesce(actor, 'not archived'),
       correlation_id, payload, happened_at, planned_version, :number, archive_seq
  FROM jsonb_to_recordset(CAST(:facts AS jsonb))
       AS f (fact_id bigint, topic text, fact_version bigint, entity_type text, entity_id text, entity_version bigint,
             actor text, correlation_id text, payload jsonb, happened_at timestamptz, planned_version bigint,
             archive_seq bigint);

-- name: without_row
-- Operations that were requested since, and have no row.
SELECT f.entity_id FROM billing.facts AS f
 WHERE f.id > :after
   AND (f.topic = 'capture.requested' AND NOT EXISTS (SELECT FROM billing.captures AS c WHERE c.id = f.entity_id)
        OR f.topic = 'void.requested' AND NOT EXISTS (SELECT FROM billing.voids AS v WHERE v.id = f.entity_id)
        OR f.topic = 'refund.requested' AND NOT EXISTS (SELECT FROM billing.refunds AS r WHERE r.id = f.entity_id)
        OR f.topic = 'document.requested' AND NOT EXISTS (SELECT FROM billing.documents AS d WHERE d.id = f.entity_id)
        OR f.topic = 'credit_note.requested'
           AND NOT EXISTS (SELECT FROM billing.credit_notes AS n WHERE n.id = f.entity_id)
        OR f.topic = 'email.requested' AND NOT EXISTS (SELECT FROM billing.emails AS e WHERE e.id = f.entity_id)
        OR f.topic = 'invoice_action.requested'
           AND NOT EXISTS (SELECT FROM billing.invoice_actions AS a WHERE a.id = f.entity_id)
        OR f.topic = 'invoice.requested' AND NOT EXISTS (SELECT FROM billing.invoices AS i WHERE i.id = f.entity_id))
 ORDER BY f.id;

-- name: closed_in_the_gap
-- Months that a command closed since, and that are open here; a later one that is closed closes them, too.
SELECT DISTINCT f.payload->>'about' AS month FROM billing.facts AS f
 WHERE f.entity_type = 'command' AND f.topic = 'command.done' AND f.payload->>'command' = 'close'
   AND f.payload->>'about' ~ '^[0-9]{4}-(0[1-9]|1[0-2])$' AND f.happened_at >= :since
   AND NOT EXISTS (SELECT FROM billing.closed_periods AS p WHERE p.period >= f.payload->>'about')
 ORDER BY month;

-- name: newest_before
SELECT id FROM billing.facts WHERE happened_at < :since ORDER BY id DESC LIMIT 1;
