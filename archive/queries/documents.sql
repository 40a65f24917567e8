-- title: Documents of invoices
-- answers: Of how many invoices is the document kept, and how large are they, by local day, kind, state and reason?
-- reads: invoice
-- parameters: since, until, tz
-- columns: day date, account text, kind text, state text, why text?, documents int, bytes int?
-- days: in range
-- `day` is the day on which a document came to that state. `why`: the reason of a refusal, such as `not_a_pdf`; each is a
-- task for a person. One that is requested, and neither stored nor refused later, waits.
SELECT CAST(happened_at AS DATE) AS day,
       coalesce(account, CASE WHEN topic = 'document.requested' THEN 'own' ELSE 'unknown' END) AS account,
       coalesce(kind, 'unknown') AS kind,
       replace(topic, 'document.', '') AS state,
       nullif(why, '') AS why,
       count(*) AS documents,
       sum(CAST(size_bytes AS BIGINT)) AS bytes
  FROM facts
 WHERE topic IN ('document.requested', 'document.stored', 'document.refused')
   AND happened_at >= $since AND happened_at < $until
 GROUP BY ALL
 ORDER BY day, account, kind, state, why NULLS FIRST
