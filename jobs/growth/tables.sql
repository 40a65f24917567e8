-- name: sizes
-- Postgres' own estimates of rows: counting would read whole tables.
SELECT c.relname AS name,
       greatest(s.n_live_tup, CAST(c.reltuples AS bigint), 0) AS rows, s.n_dead_tup AS dead_rows,
       pg_relation_size(c.oid) AS heap_bytes, pg_indexes_size(c.oid) AS index_bytes,
       pg_total_relation_size(c.oid) - pg_relation_size(c.oid) - pg_indexes_size(c.oid) AS other_bytes
  FROM pg_class AS c JOIN pg_stat_all_tables AS s ON s.relid = c.oid
 WHERE c.relnamespace = to_regnamespace('billing') AND c.relkind = 'r' AND c.relname <> 'alembic_version'
 ORDER BY pg_total_relation_size(c.oid) DESC, c.relname;

-- name: age
SELECT clock_timestamp() AS now, extract(epoch FROM clock_timestamp() - created_at) AS age_s FROM billing.installation;

-- name: requests
-- This one and the next three: rows whose ids lie between two, from the index alone. An id begins with its kind, so those
-- of one kind lie between.
SELECT (SELECT count(*) FROM (SELECT FROM :requested AS o WHERE o.id >= b.low AND o.id < b.high LIMIT :most) AS day)
  FROM unnest(CAST(:lows AS text[]), CAST(:highs AS text[])) WITH ORDINALITY AS b (low, high, place) ORDER BY b.place;

-- name: invoice_lines
SELECT (SELECT count(*) FROM (SELECT FROM billing.invoice_lines
                               WHERE invoice_id >= b.low AND invoice_id < b.high LIMIT :most) AS day)
  FROM unnest(CAST(:lows AS text[]), CAST(:highs AS text[])) WITH ORDINALITY AS b (low, high, place) ORDER BY b.place;

-- name: work
SELECT (SELECT count(*) FROM (SELECT FROM billing.work WHERE id >= b.low AND id < b.high LIMIT :most) AS day)
  FROM unnest(CAST(:lows AS text[]), CAST(:highs AS text[])) WITH ORDINALITY AS b (low, high, place) ORDER BY b.place;

-- name: idempotency_records
SELECT (SELECT count(*) FROM (SELECT FROM billing.idempotency_records
                               WHERE id >= b.low AND id < b.high LIMIT :most) AS day)
  FROM unnest(CAST(:lows AS text[]), CAST(:highs AS text[])) WITH ORDINALITY AS b (low, high, place) ORDER BY b.place;

-- name: facts
SELECT (SELECT count(*) FROM (SELECT FROM billing.facts WHERE id >= b.low AND id < b.high LIMIT :most) AS day)
  FROM unnest(CAST(:lows AS bigint[]), CAST(:highs AS bigint[])) WITH ORDINALITY AS b (low, high, place)
 ORDER BY b.place;

-- name: last_fact
SELECT coalesce(max(id), 0) FROM billing.facts;

-- name: next_fact
SELECT id, happened_at FROM billing.facts WHERE id >= :id ORDER BY id LIMIT 1;
