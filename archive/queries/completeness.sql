-- title: Completeness
-- answers: Is any fact missing in the archive, or there twice? No line is the proof that none is.
-- reads: capture, invoice, attempt, admin
-- columns: what text, id text, first_missing int?, last_missing int?, how_many int, explanation text
-- days: all
-- The facts of each class are numbered 1, 2, 3 ..., and so are those of each capture, invoice, switch and command.
WITH classes AS (
    SELECT retention_class, archive_seq,
           lag(archive_seq, 1, 0) OVER (PARTITION BY retention_class ORDER BY archive_seq) AS before
      FROM facts
), newest AS (
    -- Classes are archived one after the other, so calls may come later than what they led to.
    SELECT max(happened_at) AS attempt FROM facts WHERE retention_class = 'attempt'
), incomplete AS (
    SELECT entity_id
      FROM facts
     GROUP BY entity_id
    -- One bit for each number up to 60: all are there, once each, if there are as many as the highest says. An entity
    -- with more is looked at one by one.
    HAVING max(entity_version) > 60
        OR count(*) != max(entity_version)
        OR bit_or(1::BIGINT << CAST(least(entity_version, 61) AS INTEGER)) != (1::BIGINT << CAST(least(count(*), 61) + 1 AS INTEGER)) - 2
), entities AS (
    SELECT entity_type, entity_id, entity_version, happened_at,
           lag(entity_version, 1, 0) OVER (PARTITION BY entity_type, entity_id ORDER BY entity_version) AS before
      FROM facts
     WHERE entity_id IN (FROM incomplete)
), answer AS (
    SELECT 'class' AS what, retention_class AS id, before + 1 AS first_missing, archive_seq - 1 AS last_missing,
           archive_seq - before - 1 AS how_many,
           'these numbers of the class are missing: verify the archive' AS explanation
      FROM classes
     WHERE archive_seq > before + 1
    UNION ALL
    SELECT 'class', retention_class, archive_seq, archive_seq, 2, 'this number of the class is there twice: verify the archive'
      FROM classes
     WHERE archive_seq = before
    UNION ALL
    SELECT entity_type, entity_id, before + 1, entity_version - 1, entity_version - before - 1,
           CASE WHEN happened_at > coalesce((SELECT attempt FROM newest), TIMESTAMPTZ '1970-01-01 00:00:00+00')
                THEN 'may be on its way: ask again when the class attempt is archived up to now'
                ELSE 'missing: set aside, kept for a shorter time, or removed'
           END
      FROM entities
     WHERE entity_version > before + 1
    UNION ALL
    SELECT entity_type, entity_id, entity_version, entity_version, 2, 'this fact is there twice'
      FROM entities
     WHERE entity_version = before
)
SELECT what, id, first_missing, last_missing, how_many, explanation
  FROM answer
 ORDER BY what, id, first_missing, explanation
