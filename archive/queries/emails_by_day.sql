-- title: E-mails by day
-- answers: Which e-mails were asked for, sent, bounced and refused, by local day, template, state and reason?
-- reads: admin
-- parameters: since, until, tz
-- columns: day date, account text, template text?, state text, why text?, emails int
-- days: in range
-- `day` is the day on which an e-mail came to that state. `why`: the reason of a refusal, such as `no_address`, or of a bounce,
-- such as `hard 5.1.1`. `sent`: a mail server has accepted it. One that is asked for, and neither sent nor refused later, waits or is undecided. Of one
-- that an operator of an older version refused, `account` is `unknown` and `template` is empty: `history` of its id has
-- both.
SELECT CAST(happened_at AS DATE) AS day,
       coalesce(account, CASE WHEN topic = 'email.requested' THEN 'own' ELSE 'unknown' END) AS account,
       template,
       replace(topic, 'email.', '') AS state,
       nullif(why, '') AS why,
       count(*) AS emails
  FROM facts
 WHERE topic IN ('email.requested', 'email.sent', 'email.bounced', 'email.complained', 'email.refused')
   AND happened_at >= $since AND happened_at < $until
 GROUP BY ALL
 ORDER BY day, account, template NULLS FIRST, state, why NULLS FIRST
