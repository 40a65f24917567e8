-- title: Late facts
-- answers: Which facts came into the archive after facts of their class that are much younger?
-- reads: capture, invoice, attempt, admin
-- parameters: since, until
-- columns: retention_class text, archive_seq int, what text, id text, happened_at time, behind_minutes int
-- days: all
-- The archive numbers facts in the order in which it takes them. A fact whose transaction was committed late, or that
-- was set aside and corrected, has a higher number than younger facts. Listed is what is an hour behind or more: for a
-- period that was reported already, it is missing in that report.
WITH numbered AS (
    SELECT retention_class, archive_seq, topic, entity_id, happened_at,
           max(happened_at) OVER (PARTITION BY retention_class ORDER BY archive_seq) AS newest_so_far
      FROM facts
)
SELECT retention_class,
       archive_seq,
       topic AS what,
       entity_id AS id,
       happened_at,
       (epoch_us(newest_so_far) - epoch_us(happened_at)) // 60000000 AS behind_minutes
  FROM numbered
 WHERE epoch_us(newest_so_far) - epoch_us(happened_at) >= 3600000000 AND happened_at >= $since AND happened_at < $until
 ORDER BY retention_class, archive_seq
