-- title: Operators' actions
-- answers: Who changed what with the `billing` command in this time, how often, and what failed?
-- reads: admin
-- parameters: since, until
-- columns: who text, command text, times int, things int, failed int, unfinished int, first_at time, last_at time
-- `things`: how many operations, switches and so on were changed in all. `unfinished`: no fact says how it ended.
-- `unknown`: the name does not look like the id of a member of staff, or an older version did not archive the command.
WITH commands AS (
    SELECT entity_id,
           any_value(actor) AS who,
           any_value(command) AS command,
           max(count) AS things,
           min(happened_at) AS began_at,
           bool_or(topic = 'command.failed') AS failed,
           bool_or(topic IN ('command.done', 'command.failed')) AS ended
      FROM facts
     WHERE entity_type = 'command' AND happened_at < $until
     GROUP BY entity_id
)
SELECT coalesce(who, 'unknown') AS who,
       coalesce(command, 'unknown') AS command,
       count(*) AS times,
       coalesce(sum(things) FILTER (WHERE ended AND NOT failed), 0) AS things,
       count(*) FILTER (WHERE failed) AS failed,
       count(*) FILTER (WHERE NOT ended) AS unfinished,
       min(began_at) AS first_at,
       max(began_at) AS last_at
  FROM commands
 WHERE began_at >= $since
 GROUP BY ALL
 ORDER BY who, command
