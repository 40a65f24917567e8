-- title: One history
-- answers: What happened to this capture, invoice, switch or command, from its first fact to its newest?
-- reads: capture, invoice, attempt, admin
-- parameters: entity_id required
-- columns: number int, happened_at time, what text, who text?, minor int?, currency text?, why text?, details text
-- finds: entity_id
-- `who` is empty if the name does not look like the id of a service or of a member of staff: it is not archived then.
SELECT entity_version AS number,
       happened_at,
       topic AS what,
       actor AS who,
       minor,
       currency,
       why,
       payload AS details
  FROM facts
 WHERE entity_id = $entity_id
 ORDER BY number, fact_id
