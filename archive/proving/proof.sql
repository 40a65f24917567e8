-- The rules of a proof. Each statement after the first returns what breaks its rule: an id, and a sentence.
--
-- The tables `ours`, `stripe` and `archive` hold the lines of the three exports, `heads` the newest manifest of each class
-- that was read. `places` has the lines of ours that say which capture stands on an invoice: by its row (`capture`,
-- `minor`), and by the line of the invoice (`line_of`, `line_minor`); `told` what the archive says of that. An account is '' for our own. Money is in minor units.

-- name: views
-- What ended once Stripe was being read, or moments before, is too young to be compared with it.
CREATE VIEW old AS SELECT * FROM ours WHERE ended < $young;
CREATE VIEW compared AS SELECT * FROM old WHERE says = 'done';
-- What no archiver had taken yet, when the archive was read, is too young to be compared with that.
CREATE VIEW archived AS
SELECT o.* FROM ours AS o JOIN heads AS h ON h.kind = o.kind WHERE o.says = 'done' AND o.batch <= h.last;
-- One object at Stripe shows the effect of one request, or of several captures of one intent.
CREATE VIEW groups AS
SELECT kind, account, object, any_value(currency) AS currency, sum(minor) AS minor, string_agg(id, ', ' ORDER BY id) AS ids
  FROM ours WHERE says <> 'none' AND object IS NOT NULL GROUP BY kind, account, object
HAVING bool_and(says = 'done' AND ended < $young);
CREATE VIEW totals AS
WITH of_stripe AS (
    SELECT g.kind, g.currency, sum(g.minor) AS ours, sum(s.minor) AS theirs
      FROM groups AS g LEFT JOIN stripe AS s ON (s.kind, s.account, s.object) = (g.kind, g.account, g.object) GROUP BY ALL
), of_archive AS (
    SELECT a.kind, a.currency, sum(a.minor) AS ours, sum(f.minor) AS theirs
      FROM archived AS a LEFT JOIN archive AS f ON f.id = a.id GROUP BY ALL
), of_all AS (
    SELECT kind, currency, count(*) AS requests, sum(minor) AS minor FROM ours WHERE says = 'done' GROUP BY ALL
)
SELECT o.kind, o.currency, o.requests, o.minor,
       coalesce(s.ours, 0) AS compared, coalesce(s.theirs, 0) AS stripe,
       coalesce(a.ours, 0) AS archived, coalesce(a.theirs, 0) AS archive
  FROM of_all AS o LEFT JOIN of_stripe AS s USING (kind, currency) LEFT JOIN of_archive AS a USING (kind, currency)
 ORDER BY ALL;

-- name: effect_without_request
SELECT s.object AS id, s.minor || ' ' || s.currency || ' at Stripe carries ' || s.operation || ', which was never asked for' AS what
  FROM stripe AS s ANTI JOIN ours AS o ON o.id = s.operation
 WHERE s.asked >= $since;

-- name: two_effects
SELECT operation AS id, count(*) || ' effects at Stripe carry it: ' || string_agg(object, ', ' ORDER BY object) AS what
  FROM stripe WHERE asked IS NOT NULL AND state <> 'void' GROUP BY kind, operation HAVING count(*) > 1;

-- name: two_requests
SELECT o.object AS id, count(*) || ' requests claim this one effect: ' || string_agg(o.id, ', ' ORDER BY o.id) AS what
  FROM ours AS o WHERE o.says = 'done' AND o.object IS NOT NULL
 GROUP BY o.kind, o.account, o.object, o.part HAVING count(*) > 1;

-- name: no_effect
SELECT c.id, 'it is ' || c.state || ' here with ' || c.minor || ' ' || c.currency || ', and Stripe shows no effect of it at '
    || coalesce(c.object, 'any object') AS what
  FROM compared AS c ANTI JOIN stripe AS s ON (s.kind, s.object) = (c.kind, c.object);

-- name: effect_of_what_failed
SELECT o.id, 'it is ' || o.state || ' here, and Stripe shows ' || s.minor || ' ' || s.currency || ' for it at ' || s.object AS what
  FROM ours AS o JOIN stripe AS s ON s.operation = o.id WHERE o.says = 'none' AND s.state <> 'void';

-- name: refunded_more
SELECT r.of AS id, sum(r.minor) || ' ' || s.currency || ' of it were given back, and ' || s.minor || ' were taken' AS what
  FROM stripe AS r JOIN stripe AS s ON (s.kind, s.account, s.object) = ('capture', r.account, r.of)
 WHERE r.kind = 'refund' GROUP BY r.account, r.of, s.currency, s.minor HAVING sum(r.minor) > s.minor;

-- name: amount
SELECT g.ids AS id, 'Stripe has ' || coalesce(s.minor::VARCHAR, 'no amount') || ' ' || s.currency || ' at ' || s.object || ', and here it is '
    || g.minor AS what
  FROM groups AS g JOIN stripe AS s ON (s.kind, s.account, s.object) = (g.kind, g.account, g.object)
 WHERE s.minor IS DISTINCT FROM g.minor;

-- name: currency
SELECT c.id, 'Stripe has ' || s.currency || ' at ' || s.object || ', and here it is ' || c.currency AS what
  FROM compared AS c JOIN stripe AS s ON (s.kind, s.account, s.object) = (c.kind, c.account, c.object)
 WHERE s.currency <> c.currency;

-- name: account
SELECT c.id, 'Stripe has ' || c.object || ' in ' || coalesce(nullif(s.account, ''), 'our own account') || ', and here it is '
    || coalesce(nullif(c.account, ''), 'our own account') AS what
  FROM compared AS c JOIN stripe AS s ON (s.kind, s.object) = (c.kind, c.object)
 WHERE s.account <> c.account;

-- name: mode
SELECT s.object AS id, 'it is in ' || if(s.livemode, 'live', 'test') || ' mode, and the exports are of the other' AS what
  FROM stripe AS s WHERE s.livemode <> $livemode AND (s.asked IS NOT NULL
        OR EXISTS (SELECT 1 FROM ours AS o WHERE (o.kind, o.object) = (s.kind, s.object)));

-- name: not_archived
SELECT a.id, 'it is ' || a.state || ' here with ' || a.minor || ' ' || a.currency || ', and the archive does not tell of it' AS what
  FROM archived AS a ANTI JOIN archive AS f ON f.id = a.id;

-- name: archived_without_request
SELECT f.id, 'the archive tells of ' || coalesce(f.minor || ' ' || f.currency, 'an effect') || ', and '
    || coalesce('here it is ' || o.state, 'nothing of that id was asked for') AS what
  FROM archive AS f LEFT JOIN ours AS o ON o.id = f.id
 WHERE (o.id IS NULL AND (f.asked IS NULL OR f.asked >= $since)) OR o.says = 'none';

-- name: archived_twice
SELECT id, 'the archive tells of ' || count(*) || ' effects of it' AS what FROM archive GROUP BY id HAVING count(*) > 1;

-- name: archived_otherwise
SELECT o.id, 'the archive has ' || coalesce(f.minor::VARCHAR, 'no amount') || ' ' || coalesce(f.currency, 'without a currency')
    || ', and here it is ' || o.minor || ' ' || o.currency AS what
  FROM ours AS o JOIN archive AS f ON f.id = o.id
 WHERE o.says = 'done' AND (f.minor, f.currency) IS DISTINCT FROM (o.minor, o.currency);

-- name: invoiced_not_taken
SELECT p.capture AS id, 'it is ' || p.state || ' here with ' || p.taken || ' ' || p.taken_in || ', and ' || p.minor || ' ' || p.currency
    || ' of it are on ' || p.invoice AS what
  FROM places AS p JOIN ours AS o ON o.id = p.invoice
 WHERE o.says = 'done' AND (p.state <> 'captured' OR p.taken < p.minor OR p.taken_in <> p.currency OR p.account <> o.account);

-- name: invoiced_twice
WITH placed AS (
    SELECT capture, invoice, position FROM places UNION SELECT line_of, invoice, position FROM places)
SELECT p.capture AS id, 'it is on ' || count(*) || ' lines: '
    || string_agg(p.invoice || ' line ' || p.position, ', ' ORDER BY p.invoice, p.position) AS what
  FROM placed AS p JOIN ours AS o ON o.id = p.invoice
 WHERE p.capture IS NOT NULL AND o.says <> 'none' GROUP BY p.capture HAVING count(*) > 1;

-- name: invoiced_otherwise
-- Of an invoice that was made again after a restore, no line names its capture.
SELECT p.invoice AS id, 'its line ' || p.position || ' is ' || coalesce(p.line_of || ' with ' || p.line_minor, 'of no capture')
    || ', and here that place is ' || coalesce('of ' || p.capture || ' with ' || p.minor, 'of none') AS what
  FROM places AS p JOIN ours AS o ON o.id = p.invoice
 WHERE o.says <> 'none' AND p.invoice IN (SELECT invoice FROM places WHERE line_of IS NOT NULL)
   AND (p.capture, p.minor) IS DISTINCT FROM (p.line_of, p.line_minor);

-- name: invoiced_total
SELECT o.id, 'it comes to ' || o.minor || ' ' || o.currency || ' here, and the captures on it to ' || coalesce(sum(p.minor), 0) || ' '
    || coalesce(string_agg(DISTINCT p.currency, ', '), o.currency) AS what
  FROM places AS p JOIN ours AS o ON o.id = p.invoice
 WHERE o.says = 'done' GROUP BY o.id, o.minor, o.currency
HAVING coalesce(sum(p.minor), 0) <> o.minor OR bool_or(p.currency <> o.currency);

-- name: not_marked_paid
-- An invoice of captures is paid out of band as a whole: it asks for nothing, and neither a payment nor a credit went into it.
SELECT o.id, 'it is ' || o.state || ' here, and its money was taken before; Stripe has it as ' || coalesce(s.state, 'nothing') || ', asks for '
    || coalesce(s.asks::VARCHAR, 'an unknown amount') || ' and has ' || coalesce(s.off_stripe::VARCHAR, 'an unknown amount') || ' of ' || o.minor
    || ' ' || o.currency || ' as paid out of band' AS what
  FROM old AS o LEFT JOIN stripe AS s ON (s.kind, s.account, s.object) = (o.kind, o.account, o.object)
 WHERE o.id IN (SELECT invoice FROM places)
   AND (o.state IN ('sent', 'unpaid', 'voided', 'uncollectible')
        OR o.state = 'paid' AND (s.state <> 'paid' OR s.asks <> 0 OR s.off_stripe <> s.minor));

-- name: invoiced_not_archived
SELECT p.capture AS id, 'it is on ' || p.invoice || ' here, and the archive does not tell of it' AS what
  FROM places AS p JOIN heads AS h ON h.kind = 'capture'
 WHERE p.batch <= h.last AND NOT EXISTS (SELECT 1 FROM told AS t WHERE t.told_of = p.capture);

-- name: invoiced_archived_otherwise
SELECT DISTINCT t.told_of AS id, 'the archive has ' || coalesce(t.minor || ' ' || t.currency, 'no amount') || ' of it on ' || coalesce(t.invoice, 'an invoice')
    || ', and here ' || coalesce(p.minor || ' ' || p.currency || ' are on ' || p.invoice, 'it is on none') AS what
  FROM told AS t LEFT JOIN places AS p ON p.capture = t.told_of
 WHERE (p.capture IS NOT NULL OR t.asked >= $since)
   AND (p.invoice, p.position, p.minor, p.currency) IS DISTINCT FROM (t.invoice, t.line, t.minor, t.currency);

-- name: totals
-- Once more, added up: of what is compared, both sides have the same sum. Broken alone, it shows a gap in the other rules.
SELECT kind || ' ' || currency AS id, 'requests add up to ' || compared || ' and Stripe to ' || stripe || '; of what must be archived, '
    || archived || ' and the archive to ' || archive AS what
  FROM totals WHERE compared <> stripe OR archived <> archive;
