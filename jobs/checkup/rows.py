"""What the rows in Postgres show: facts, work and calls that wait, stopped work, ids that may be card numbers."""

import re
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from billing import audit, database
from billing.cards import may_hold_card_number
from billing.lineage import SIGNS
from jobs.checkup.findings import NAMED, Finding, Level, some
from jobs.config import queues
from jobs.road.quarantine_list import UNTOUCHED_WARN, untouched

FACTS_WARN_S = 10.0
"""A relay plans facts within a second."""
READY_WARN_S, READY_READ = 120.0, 10_000
"""Ready work is claimed at once while a worker is free. The alert BillingQueueStalls uses the same time."""
UNANSWERED_WARN_S = 300.0
"""A lost answer is asked for again within seconds, and a dead worker's call is taken up within a minute."""
BEGUN_WARN, BEGUN_FORGOTTEN, COMMANDS_READ = timedelta(minutes=10), timedelta(days=7), 10_000
"""A command that began so long ago, and has not ended, still runs or died; `billing audit` lists it for ever."""
IDS_READ, IDS_LEAST, IDS_SHARE = 1000, 20, 0.9
"""All card numbers have a card's first digits and check digit; of other numbers at most a third have both."""


def _facts(session: Session) -> Finding:
    count, age_s = session.execute(
        text(
            # An infinite time has no age.
            "SELECT count(*), coalesce(extract(epoch FROM clock_timestamp()"
            "                          - min(happened_at) FILTER (WHERE isfinite(happened_at))), 0)"
            "  FROM (SELECT happened_at FROM billing.facts WHERE planned_version IS NULL ORDER BY id LIMIT 10000) AS f"
        )
    ).one()
    if age_s > FACTS_WARN_S:
        message = f"{count} {'is' if count == 1 else 'are'} not planned, the oldest for {age_s:.0f} s"
        return Finding("facts", Level.WARN, message, "start a relay (`billing relay`), or a newer one for new topics")
    return Finding("facts", Level.OK, f"{count} not planned yet" if count else "all are planned")


def _facts_set_aside(session: Session) -> Finding:
    """Facts that cannot be planned: what they ask for is not done."""
    part = "facts set aside"
    first = session.execute(_SET_ASIDE, {"most": NAMED}).all()
    if not first:
        return Finding(part, Level.OK, "none")
    count: int = session.execute(text("SELECT count(*) FROM billing.facts WHERE planned_version < 0")).scalar_one()
    message = some([f"{fact_id} ({topic} of {entity_id})" for fact_id, topic, entity_id in first], count)
    fix = "the relay's log says why (fact.unplannable); what to do: docs/cli.md, billing doctor"
    return Finding(part, Level.WARN, f"{count} {'fact is' if count == 1 else 'facts are'} set aside: {message}", fix)


_SET_ASIDE = text("SELECT id, topic, entity_id FROM billing.facts WHERE planned_version < 0 ORDER BY id LIMIT :most")


def _ready(session: Session) -> Finding:
    """Work that a worker could take, and that none takes."""
    rows = session.execute(_READY, {"queues": list(queues.NAMES), "most": READY_READ})
    late = [row for row in rows if row.oldest_s > READY_WARN_S]
    if not late:
        return Finding("ready work", Level.OK, "none waits for long")
    waiting = "; ".join(
        f"{row.pieces}{' or more' if row.pieces == READY_READ else ''} on {row.queue}, "
        f"the oldest for {row.oldest_s:.0f} s"
        for row in late
    )
    fix = f"billing health worker-{late[0].queue}, where that worker runs; start one if none runs"
    return Finding("ready work", Level.WARN, f"no worker takes it: {waiting}", fix)


# An infinite time has no age.
_READY = text(
    "SELECT q.name AS queue, count(*) AS pieces, coalesce(extract(epoch FROM clock_timestamp()"
    "       - min(ready.state_since) FILTER (WHERE isfinite(ready.state_since))), 0) AS oldest_s"
    "  FROM unnest(CAST(:queues AS text[])) AS q (name),"
    "       LATERAL (SELECT state_since FROM billing.work WHERE queue = q.name AND state = 'ready'"
    "                 ORDER BY urgency, id LIMIT :most) AS ready"
    " GROUP BY q.name ORDER BY q.name"
)


def _undecided(session: Session) -> Finding:
    count, ids, _ = _calls(session, "parked_at IS NOT NULL", by="parked_at")
    if not count:
        return Finding("undecided", Level.OK, "none")
    what = "call" if count == 1 else "calls"
    message = f"{count} {what} could not be decided so far; Stripe is asked again and again: {some(ids, count)}"
    return Finding(
        "undecided", Level.WARN, message, f"billing explain {ids[0]}; all: billing quarantine list --undecided"
    )


def _unanswered(session: Session) -> Finding:
    """Calls that may have had an effect of which Postgres does not know: in flight, or in doubt."""
    count, ids, age_s = _calls(session, "state IN ('sent', 'in_doubt') AND first_sent_at IS NOT NULL", "first_sent_at")
    if not count:
        return Finding("unanswered", Level.OK, "none")
    message = f"{count} {'call' if count == 1 else 'calls'}, the oldest for {age_s:.0f} s"
    if age_s <= UNANSWERED_WARN_S:
        return Finding("unanswered", Level.OK, message)
    fix = f"billing explain {ids[0]}; start workers if none run"
    return Finding("unanswered", Level.WARN, f"{message}: {some(ids, count)}", fix)


def _calls(session: Session, which: str, by: str) -> tuple[int, list[str], float]:
    """Open calls: how many, the operations of the oldest, and the age of the oldest."""
    statement = (
        f"SELECT count(*), (array_agg(operation_id ORDER BY {by}))[1\\:{NAMED}],"  # noqa: S608 - constants of this page
        f" coalesce(extract(epoch FROM clock_timestamp() - min({by})), 0)"
        f"  FROM billing.idempotency_records WHERE concluded_at IS NULL AND {which}"
    )
    count, ids, age_s = session.execute(text(statement)).one()
    return count, ids or [], float(age_s)


def _counted(part: str, statement: str, message: tuple[str, str], fix: str) -> Callable[[Session], Finding]:
    """`message`: the text for one, and for several."""

    def check(session: Session) -> Finding:
        count: int = session.execute(text(statement)).scalar_one()
        shown = message[count != 1].format(count)
        return Finding(part, Level.WARN, shown, fix) if count else Finding(part, Level.OK, "none")

    check.__name__ = part
    return check


def _quarantined(session: Session) -> Finding:
    """Work that needs a decision, and how much of it nobody has touched for too long."""
    count: int = session.execute(_IN_QUARANTINE).scalar_one()
    if not count:
        return Finding("quarantine", Level.OK, "none")
    message = "1 piece of work needs a decision" if count == 1 else f"{count} pieces of work need a decision"
    _, overdue, oldest_s = untouched(session)
    if not overdue or oldest_s is None:
        return Finding("quarantine", Level.WARN, message, "billing quarantine list")
    late = f"{overdue} untouched for more than {UNTOUCHED_WARN}, the oldest for {timedelta(seconds=int(oldest_s))}"
    return Finding("quarantine", Level.WARN, f"{message}; {late}", "billing quarantine list --untouched")


_IN_QUARANTINE = text("SELECT count(*) FROM billing.work WHERE state = 'quarantined'")
_switches = _counted(
    "switches",
    "SELECT count(*) FROM billing.switches"
    " WHERE state = 'pulled' AND (expires_at IS NULL OR expires_at > clock_timestamp())",
    ("1 is pulled: nothing is sent in its scope", "{} are pulled: nothing is sent in their scope"),
    "billing switch list",
)
_parked = _counted(
    "parked work",
    "SELECT count(*) FROM billing.work WHERE state = 'parked'",
    ("1 piece is of a version that no worker here knows", "{} pieces are of versions that no worker here knows"),
    "billing contracts check --database",
)
_stale = _counted(
    "running work",
    "SELECT count(*) FROM billing.work AS w JOIN billing.idempotency_records AS r ON r.id = w.record_id"
    " WHERE w.state = 'running' AND (r.lease_until IS NULL OR r.lease_until < clock_timestamp() - interval '10 s')",
    ("1 piece of a dead worker was not returned", "{} pieces of dead workers were not returned"),
    "start a relay (`billing relay`)",
)
_differences = _counted(
    "differences",
    "SELECT count(*) FROM billing.differences WHERE state = 'open'",
    ("1 is open between our rows and Stripe's records", "{} are open between our rows and Stripe's records"),
    "billing differences list",
)


def _commands(session: Session) -> Finding:
    """Commands that began and have not ended. One that was done again since is made good."""
    now = database.now(session)
    done, open_ = set(), []
    for each in audit.listed(session, audit.Wanted(since=now - BEGUN_FORGOTTEN), COMMANDS_READ):
        if each.outcome == "done":
            done.add(each.command)
        elif each.outcome == "begun" and each.command not in done and now - each.at > BEGUN_WARN:
            # Whoever may write a fact chooses its words.
            open_.append(f"{each.command:.40} by {each.actor:.40}, {(now - each.at).total_seconds():.0f} s ago")
    if not open_:
        return Finding("commands", Level.OK, "none was begun and not finished")
    message = f"{len(open_)} begun and not finished: {some(open_[:NAMED], len(open_))}"
    return Finding("commands", Level.WARN, message, "billing audit; if it does not run any more, run it again")


def _ids(session: Session) -> Finding:
    """One id that looks like a card number proves nothing. If nearly all of many do, an application passes card
    numbers."""
    ids = session.scalars(_NEWEST_IDS, {"count": IDS_READ}).all()
    as_long = [each for each in ids if re.fullmatch(r"[^0-9]*[0-9]{14,19}[^0-9]*", each)]
    suspected = sum(map(may_hold_card_number, as_long))
    if len(as_long) >= IDS_LEAST and suspected >= IDS_SHARE * len(as_long):
        message = f"{suspected} of the newest {len(as_long)} request and correlation ids of that length look like cards"
        return Finding("ids", Level.WARN, message, "pass order numbers or random ids instead: docs/inputs.md")
    return Finding("ids", Level.OK, "no series of card numbers among the newest")


_NEWEST_IDS = text(
    "SELECT DISTINCT i.id FROM ("
    "(SELECT request_id, correlation_id FROM billing.captures ORDER BY id DESC LIMIT :count)"
    " UNION ALL (SELECT request_id, correlation_id FROM billing.voids ORDER BY id DESC LIMIT :count)"
    " UNION ALL (SELECT request_id, correlation_id FROM billing.refunds ORDER BY id DESC LIMIT :count)"
    " UNION ALL (SELECT request_id, correlation_id FROM billing.emails ORDER BY id DESC LIMIT :count)"
    " UNION ALL (SELECT request_id, correlation_id FROM billing.invoice_actions ORDER BY id DESC LIMIT :count)"
    " UNION ALL (SELECT request_id, correlation_id FROM billing.credit_notes ORDER BY id DESC LIMIT :count)"
    " UNION ALL (SELECT request_id, correlation_id FROM billing.invoices ORDER BY id DESC LIMIT :count)"
    ") AS newest, unnest(ARRAY[newest.request_id, newest.correlation_id]) AS i (id) WHERE i.id IS NOT NULL"
)


def _restored(session: Session) -> Finding:
    """Whether a process has found that this database was restored: then nothing is sent."""
    row = session.execute(text("SELECT restored_at, why FROM billing.lineage")).one_or_none()
    if row is None or row.restored_at is None:
        return Finding("lineage", Level.OK, "no process has found that it was restored")
    message = f"restored, found {row.restored_at:%Y-%m-%d %H:%M} UTC: {SIGNS.get(row.why, row.why)}; nothing is sent"
    return Finding("lineage", Level.FAIL, message, "billing recover, with the owner's login: docs/operate/restore.md")


CHECKS = (
    _restored,
    _facts,
    _facts_set_aside,
    _ready,
    _quarantined,
    _undecided,
    _unanswered,
    _differences,
    _switches,
    _commands,
    _parked,
    _stale,
    _ids,
)
