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
    SELECT retention_class, archive_seq, happened_at,
           max(happened_at) OVER (PARTITION BY retention_class ORDER BY archive_seq) AS newest_so_far
      FROM facts
), late AS (
    SELECT DISTINCT retention_class, archive_seq,
           (epoch_us(newest_so_far) - epoch_us(happened_at)) // 60000000 AS behind_minutes
      FROM numbered
     WHERE epoch_us(newest_so_far) - epoch_us(happened_at) >= 3600000000
       AND happened_at >= $since AND happened_at < $until
)
SELECT facts.retention_class,
       facts.archive_seq,
       facts.topic AS what,
       facts.entity_id AS id,
       facts.happened_at,
       late.behind_minutes
  FROM facts JOIN late USING (retention_class, archive_seq)
 ORDER BY facts.retention_class, facts.archive_seq
