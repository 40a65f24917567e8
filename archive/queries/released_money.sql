-- title: Released money
-- answers: How much of what customers had authorized was captured in this time, and how much was released?
-- reads: capture
-- parameters: since, until
-- columns: account text, currency text, captured_in text, captures int, authorized_minor money?, captured_minor money,
--   released_minor money?
-- days: in range
-- `full`, `part`, or `unknown`: an older version did not write how much was authorized, or the money was already taken
-- at Stripe when the authorization was read.
WITH taken AS (
    SELECT coalesce(account, 'unknown') AS account,
           currency,
           minor,
           CASE WHEN authorized_minor >= minor THEN authorized_minor END AS authorized_minor
      FROM facts
     WHERE topic = 'capture.captured' AND happened_at >= $since AND happened_at < $until
)
SELECT account,
       currency,
       CASE WHEN authorized_minor = minor THEN 'full' WHEN authorized_minor > minor THEN 'part' ELSE 'unknown' END AS captured_in,
       count(*) AS captures,
       sum(authorized_minor) AS authorized_minor,
       sum(minor) AS captured_minor,
       sum(authorized_minor - minor) AS released_minor
  FROM taken
 GROUP BY ALL
 ORDER BY account, currency, captured_in
