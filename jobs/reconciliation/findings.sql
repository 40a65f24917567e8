-- name: found
-- What a person has closed stays closed while both sides say the same as then.
WITH before AS (SELECT state FROM billing.differences WHERE class = :kind AND subject = :subject),
written AS (
    INSERT INTO billing.differences AS d (id, class, subject, stripe_id, account, amount_minor, currency, what, state,
                                          state_since, first_seen_at, last_seen_at)
    VALUES (:id, :kind, :subject, :stripe_id, :account, :minor, :currency, :what, 'open',
            clock_timestamp(), clock_timestamp(), clock_timestamp())
        ON CONFLICT (class, subject) DO UPDATE
       SET stripe_id = excluded.stripe_id, account = excluded.account, amount_minor = excluded.amount_minor,
           currency = excluded.currency, what = excluded.what, last_seen_at = excluded.last_seen_at,
           state = CASE WHEN d.state = 'closed' AND d.what = excluded.what THEN 'closed' ELSE 'open' END,
           state_since = CASE WHEN d.state = 'open' OR d.state = 'closed' AND d.what = excluded.what
                              THEN d.state_since ELSE excluded.state_since END,
           first_seen_at = CASE WHEN d.state = 'open' OR d.state = 'closed' AND d.what = excluded.what
                                THEN d.first_seen_at ELSE excluded.first_seen_at END
    RETURNING state)
SELECT written.state = 'open' AND coalesce(before.state, 'none') <> 'open'
  FROM written LEFT JOIN before ON true;

-- name: gone
UPDATE billing.differences
   SET state = 'gone', state_since = clock_timestamp()
 WHERE subject = ANY (:subjects) AND state = 'open' AND class = ANY (:compared)
   AND NOT EXISTS (SELECT FROM unnest(CAST(:classes AS text[]), CAST(:found AS text[])) AS f (name, id)
                    WHERE f.name = differences.class AND f.id = differences.subject);
