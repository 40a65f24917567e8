-- title: Decisions about quarantine
-- answers: Who assigned, put back, ended or reopened work that needed a decision, and what became of it?
-- reads: capture, invoice, admin
-- parameters: since, until
-- columns: decided_at time, who text?, decision text, work_id text?, id text?, account text?, currency text?, minor money?,
--   in_conflict_since time?, became text?
-- `replay`: put back, after which Stripe is looked at. `discard`: ended, nothing was sent for it. `conclude`: an undecided
-- refund was ruled out. `reopen`: a refused invoice is made again. `in_conflict_since` is empty if it was in quarantine for another reason.
-- `became`: the first end after the decision, until `until`.
WITH told AS (
    SELECT *, split_part(topic, '.', 2) AS what FROM facts WHERE happened_at < $until
), decided AS (
    SELECT happened_at AS decided_at,
           actor AS who,
           CASE WHEN what = 'replayed' THEN 'replay' WHEN what = 'reopened' THEN 'reopen'
                WHEN why = 'ruled_out' THEN 'conclude' ELSE 'discard' END AS decision,
           work_id,
           entity_id,
           entity_version
      FROM told
     WHERE entity_type IN ('capture', 'void', 'refund', 'invoice', 'credit_note')
       AND (what IN ('replayed', 'reopened') OR (what = 'refused' AND why IN ('discarded', 'ruled_out')))
       AND happened_at >= $since
    UNION ALL
    SELECT told.happened_at, told.actor, 'assign', told.about, work.entity_id, NULL
      FROM told
      LEFT JOIN (SELECT DISTINCT work_id, entity_id FROM told WHERE work_id IS NOT NULL) AS work ON work.work_id = told.about
     WHERE told.topic = 'command.done' AND told.command = 'quarantine assign' AND told.happened_at >= $since
)
SELECT decided.decided_at,
       decided.who,
       decided.decision,
       decided.work_id,
       decided.entity_id AS id,
       asked.account,
       asked.currency,
       asked.minor,
       (SELECT min(conflict.happened_at)
          FROM told AS conflict
         WHERE conflict.entity_id = decided.entity_id AND conflict.what = 'conflict'
           AND conflict.entity_version < decided.entity_version
           AND conflict.entity_version > coalesce((SELECT max(earlier.entity_version)
                                                     FROM told AS earlier
                                                    WHERE earlier.entity_id = decided.entity_id
                                                      AND earlier.what = 'replayed'
                                                      AND earlier.entity_version < decided.entity_version), 0)
       ) AS in_conflict_since,
       CASE WHEN decided.decision IN ('discard', 'conclude') THEN 'refused'
            ELSE (SELECT arg_min(next.what, next.entity_version)
                    FROM told AS next
                   WHERE next.entity_id = decided.entity_id AND next.entity_version > decided.entity_version
                     AND next.what IN ('captured', 'declined', 'refused', 'expired', 'canceled', 'voided', 'succeeded', 'failed',
                                       'sent', 'paid', 'unpaid', 'uncollectible', 'upheld', 'conflict'))
       END AS became
  FROM decided
  LEFT JOIN (SELECT entity_id, coalesce(any_value(account), 'own') AS account, any_value(currency) AS currency,
                    any_value(minor) AS minor
               FROM told
              WHERE what = 'requested' AND entity_id IN (SELECT entity_id FROM decided)
              GROUP BY entity_id) AS asked USING (entity_id)
 ORDER BY decided.decided_at, decided.work_id, decided.decision, id
