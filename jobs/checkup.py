"""Reaches every part that the service stands on, and says of each how it is and how it is mended."""

import platform
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from redis.exceptions import RedisError
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from archive import batches, set_aside
from archive.errors import ArchiveError, BadRetention
from archive.set_aside import SetAside
from billing import database
from billing.cards import may_hold_card_number
from billing.errors import WrongDatabase
from billing.gateway import Budget, Request, Response, boot_clock
from billing.tables import SCHEMA
from jobs import archiving, bells, grants, migrate, own_schema
from jobs.runtime import Runtime
from jobs.secrets import SecretError, check_stripe_key
from jobs.settings import SettingsError

PYTHON_LEAST = (3, 11)
POSTGRES_LEAST = 16
SKEW_WARN_S = 2.0
"""The database's clock alone judges leases; a skew confuses people who compare logs, and Stripe's signatures."""
FACTS_WARN_S = 10.0
"""A relay plans facts within a second."""
UNANSWERED_WARN_S = 300.0
"""A lost answer is asked for again within seconds, and a dead worker's call is taken up within a minute."""
NAMED = 3
"""So many ids stand in a finding."""
IDS_LOOKED_AT, IDS_LEAST, IDS_SHARE = 1000, 20, 0.9
"""Of numbers of other kinds at most a third have a card's first digits and check digit, and of card numbers all."""
LAG_WARN_S = 60.0
"""Besides the time for which facts are gathered on purpose."""


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One part: how it is, and for everything but `ok` what to do about it."""

    part: str
    level: Level
    told: str
    mend: str = ""


def examine(runtime: Runtime) -> Iterator[Finding]:
    """Every part in turn; a part that cannot be reached is a finding, never an exception."""
    yield _python()
    yield Finding("settings", Level.OK, f"environment {runtime.settings.environment}, timing {runtime.settings.timing}")
    key = _stripe_key(runtime)
    yield key
    yield from _postgres(runtime)
    yield _redis(runtime)
    if key.level is Level.OK:
        yield _stripe(runtime)
    yield from _archive(runtime)


def _python() -> Finding:
    if sys.version_info < PYTHON_LEAST:
        return Finding("python", Level.FAIL, platform.python_version(), "Python 3.11 or later is needed")
    return Finding("python", Level.OK, platform.python_version())


def _stripe_key(runtime: Runtime) -> Finding:
    settings = runtime.settings
    try:
        check_stripe_key(settings.stripe_key, settings)
    except SecretError as error:
        return Finding("stripe key", Level.FAIL, "cannot be used", str(error))
    mode = "live" if settings.livemode else "test"
    return Finding("stripe key", Level.OK, f"{mode} mode, from {settings.stripe_key.shown}")


def _postgres(runtime: Runtime) -> Iterator[Finding]:
    try:
        with runtime.engine.connect() as connection:
            yield _version(runtime, connection)
            yield _clock(connection)
            revision = _revision(connection)
            yield revision
            if revision.told == _NEVER_SET_UP:
                return
            yield _stamp(runtime, connection)
            yield _access(runtime, connection)
            yield _own_schema(connection)
    except SQLAlchemyError as error:
        yield Finding("postgres", Level.FAIL, _first_line(error), "start it, or correct DATABASE_URL")
        return
    except (SettingsError, SecretError, WrongDatabase) as error:
        yield Finding("postgres", Level.FAIL, "cannot be tried", str(error))
        return
    for look in (_facts, _facts_set_aside, _quarantined, _undecided, _unanswered, _switches, _stale, _ids):
        try:
            with database.transaction(runtime.engine) as session:
                yield look(session)
        except SQLAlchemyError as error:
            yield Finding(look.__name__.strip("_"), Level.FAIL, _first_line(error), "see the server's log")


def _version(runtime: Runtime, connection: Connection) -> Finding:
    number = int(connection.scalar(text("SELECT current_setting('server_version_num')")) or 0) // 10_000
    if number < POSTGRES_LEAST:
        return Finding("postgres", Level.FAIL, f"version {number}", f"Postgres {POSTGRES_LEAST} or later is needed")
    return Finding("postgres", Level.OK, f"version {number}{_ignored(runtime, 'DATABASE_URL')}")


def _ignored(runtime: Runtime, setting: str) -> str:
    names = runtime.ignored.get(setting)
    return f"; of {setting} this is for other clients, and ignored: {', '.join(names)}" if names else ""


def _clock(connection: Connection) -> Finding:
    before = datetime.now(UTC)
    theirs: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    after = datetime.now(UTC)
    skew = max((before - theirs).total_seconds(), (theirs - after).total_seconds(), 0.0)
    if skew > SKEW_WARN_S:
        return Finding("clock", Level.WARN, f"{skew:.1f} s between this machine and Postgres", "let both follow NTP")
    return Finding("clock", Level.OK, "this machine and Postgres agree")


_NEVER_SET_UP = "this database has no billing tables"


def _revision(connection: Connection) -> Finding:
    found, head = migrate.revision_of(connection), migrate.head()
    if found is None:
        return Finding("schema", Level.FAIL, _NEVER_SET_UP, "run `billing migrate`")
    if found != head:
        mend = "run `billing migrate`" if found < head else "install the version of billing that this database is for"
        return Finding("schema", Level.FAIL, f"revision {found}, and this version wants {head}", mend)
    if broken := connection.scalars(text(_NOT_VALID)).all():
        told = f"revision {found}; rows from before it break {', '.join(broken)}"
        return Finding("schema", Level.WARN, told, "have them corrected, then ALTER TABLE ... VALIDATE CONSTRAINT ...")
    return Finding("schema", Level.OK, f"revision {found}")


_NOT_VALID = """
    SELECT conname FROM pg_constraint
     WHERE connamespace = 'billing'::regnamespace AND contype = 'c' AND NOT convalidated ORDER BY conname
    """


def _stamp(runtime: Runtime, connection: Connection) -> Finding:
    settings = runtime.settings
    try:
        with Session(connection) as session:
            row = database.check_stamp(session, environment=settings.environment, livemode=settings.livemode)
            told = f"{row.environment}, {'live' if row.livemode else 'test'} mode, {row.identity}"
    except WrongDatabase as error:
        return Finding("installation", Level.FAIL, "this database is not ours", str(error))
    return Finding("installation", Level.OK, told)


def _access(runtime: Runtime, connection: Connection) -> Finding:
    """Whether the kinds of process may what they must and no more, and whether we are one of them."""
    if wrong := grants.differences(connection):
        told = wrong[0] + (f", and {len(wrong) - 1} more" if len(wrong) > 1 else "")
        return Finding("access", Level.WARN, told, "run `billing migrate`; REVOKE what is too much: docs/access.md")
    login, everything = connection.execute(_LOGIN).one()
    if everything and runtime.settings.livemode:
        told = f"{login} may do everything in this database"
        return Finding("access", Level.WARN, told, "use an operator's login: docs/access.md")
    return Finding("access", Level.OK, f"each kind of process may what it must, and no more; this is {login}")


# A member of the owner may whatever the owner may; a superuser is a member of everybody.
_LOGIN = text(
    "SELECT current_user, pg_has_role(current_user, relowner, 'MEMBER')"
    "  FROM pg_class WHERE oid = 'billing.installation'::regclass"
)


def _own_schema(connection: Connection) -> Finding:
    """Whether nobody else's tables lie in our schema, and no login looks there for its own."""
    if others := own_schema.strangers(connection):
        told = f"{own_schema.named(others)} lies in the schema {SCHEMA}, and is not ours"
        return Finding("neighbours", Level.WARN, told, f"ALTER TABLE {SCHEMA}.{others[0]} SET SCHEMA public")
    if own_schema.leads_here(connection):
        told = f"the login {SCHEMA} looks for its own tables in our schema"
        return Finding("neighbours", Level.WARN, told, f"run `billing migrate`, or {own_schema.mend(connection)}")
    return Finding("neighbours", Level.OK, f"the schema {SCHEMA} is ours alone")


def _redis(runtime: Runtime) -> Finding:
    try:
        information = runtime.redis.info("server")
        told = f"version {information.get('valkey_version') or information.get('redis_version')}"
        bells.check_stamp(runtime.redis, runtime.settings.environment)
        stamped = runtime.redis.get(bells.STAMP)
    except bells.WrongEnvironment as error:
        return Finding("redis", Level.FAIL, "this Redis is not ours", str(error))
    except (SettingsError, SecretError) as error:
        return Finding("redis", Level.FAIL, "cannot be tried", str(error))
    except RedisError as error:
        return Finding("redis", Level.FAIL, _first_line(error), "start it, or correct REDIS_URL")
    if stamped is None:
        return Finding("redis", Level.WARN, f"{told}, without a stamp", "start a relay: it stamps an empty Redis")
    return Finding("redis", Level.OK, told + _ignored(runtime, "REDIS_URL"))


def _stripe(runtime: Runtime) -> Finding:
    where = runtime.settings.stripe_api_base
    now = boot_clock()
    request = Request("GET", "/v1/account", account=runtime.settings.stripe_account)
    answer = runtime.gateway(connections=1).send(request, Budget(now + 5, now + 10))
    if not isinstance(answer, Response):
        return Finding("stripe", Level.FAIL, f"{where}: {answer.why}", "correct STRIPE_API_BASE, or let us out to it")
    if answer.status != 200 or answer.data is None:
        mend = (
            "BILLING_STRIPE_KEY is refused: use a valid one" if answer.status in (401, 403) else "see Stripe's status"
        )
        return Finding("stripe", Level.FAIL, f"{where} answers {answer.status}", mend)
    return Finding("stripe", Level.OK, f"{where}, account {answer.data.get('id')}")


def _archive(runtime: Runtime) -> Iterator[Finding]:
    """Bucket, lock, retention and lag; one line where there is no bucket."""
    settings = runtime.settings
    if settings.archive_bucket is None:
        yield Finding("archive", Level.OK, "no bucket is set (BILLING_ARCHIVE_BUCKET): facts are in Postgres only")
        return
    try:
        with archiving.opened(settings) as store:
            store.check(settings.environment)
            yield Finding("bucket", Level.OK, f"{store.bucket}, for {settings.environment}")
            broken = store.probe_lock()
        if broken is None:
            yield Finding("bucket's lock", Level.OK, "a locked object could not be deleted")
        else:
            mend = "this is no evidence: use a server that enforces Object Lock"
            yield Finding("bucket's lock", Level.FAIL, f"not enforced: {broken}", mend)
    except (ArchiveError, SecretError, SettingsError) as error:
        yield Finding("bucket", Level.FAIL, "cannot be used", str(error))
    try:
        rules = archiving.policy(settings).rules
        told = ", ".join(f"{name} {rule.keep_days} d {rule.mode.lower()}" for name, rule in rules.items())
        yield Finding("retention", Level.OK, told)
    except BadRetention as error:
        yield Finding("retention", Level.FAIL, "cannot be followed", str(error))
    try:
        with database.transaction(runtime.engine) as session:
            lag = batches.lag(session)
        with database.transaction(runtime.engine) as session:
            aside = set_aside.named(session)
    except (SettingsError, SecretError, WrongDatabase):
        return  # said already
    except SQLAlchemyError as error:
        yield Finding("archive", Level.FAIL, _first_line(error), "see the server's log")
        return
    yield _facts_not_archived(aside)
    if lag.waiting and lag.oldest_age_s > settings.archive_wait_s + LAG_WARN_S:
        told = f"{lag.waiting} facts wait, the oldest for {lag.oldest_age_s:.0f} s"
        yield Finding("archive", Level.WARN, told, "start an archiver (`billing archive run`), or read its log")
    else:
        yield Finding("archive", Level.OK, f"{lag.waiting} facts wait" if lag.waiting else "everything is archived")


def _facts_not_archived(aside: SetAside) -> Finding:
    """Facts that the archiver could not take, and passed."""
    if not aside.count:
        return Finding("facts not archived", Level.OK, "none")
    facts = "fact is" if aside.count == 1 else "facts are"
    named = "; ".join(f"fact {fact.fact_id}: {set_aside.words(fact.why)}" for fact in aside.facts[:NAMED])
    more = f"; and {aside.count - NAMED} more" if aside.count > NAMED else ""
    told = f"{aside.count} {facts} set aside, because they cannot be archived: {named}{more}"
    return Finding(
        "facts not archived", Level.WARN, told, "billing archive status; mend the row, then start an archiver anew"
    )


def _facts(session: Session) -> Finding:
    count, age_s = session.execute(
        text(
            # A time that is none has no age.
            "SELECT count(*), coalesce(extract(epoch FROM clock_timestamp()"
            "                          - min(happened_at) FILTER (WHERE isfinite(happened_at))), 0)"
            "  FROM (SELECT happened_at FROM billing.facts WHERE menu IS NULL ORDER BY id LIMIT 10000) AS f"
        )
    ).one()
    if age_s > FACTS_WARN_S:
        told = f"{count} {'is' if count == 1 else 'are'} not planned, the oldest for {age_s:.0f} s"
        return Finding("facts", Level.WARN, told, "start a relay (`billing relay`), or a newer one for new topics")
    return Finding("facts", Level.OK, f"{count} not planned yet" if count else "all are planned")


def _facts_set_aside(session: Session) -> Finding:
    """Facts that cannot be planned: whatever they ask for is not done."""
    part = "facts set aside"
    first = session.execute(_SET_ASIDE, {"most": NAMED}).all()
    if not first:
        return Finding(part, Level.OK, "none")
    count: int = session.execute(text("SELECT count(*) FROM billing.facts WHERE menu < 0")).scalar_one()
    told = _named([f"{fact_id} ({topic} of {entity_id})" for fact_id, topic, entity_id in first], count)
    mend = "the relay's log says why (fact.unplannable); what to do: docs/cli.md, billing doctor"
    return Finding(part, Level.WARN, f"{count} {'fact is' if count == 1 else 'facts are'} set aside: {told}", mend)


_SET_ASIDE = text("SELECT id, topic, entity_id FROM billing.facts WHERE menu < 0 ORDER BY id LIMIT :most")


def _undecided(session: Session) -> Finding:
    count, ids, _ = _calls(session, "parked_at IS NOT NULL", by="parked_at")
    if not count:
        return Finding("undecided", Level.OK, "none")
    what = "call" if count == 1 else "calls"
    told = f"{count} {what} could not be decided so far, and Stripe is asked again and again: {_named(ids, count)}"
    return Finding("undecided", Level.WARN, told, f"billing explain {ids[0]}; all: billing quarantine list --undecided")


def _unanswered(session: Session) -> Finding:
    """Calls that may have had an effect which is not known here: in the air, or in doubt."""
    count, ids, age_s = _calls(session, "state IN ('sent', 'in_doubt') AND first_sent_at IS NOT NULL", "first_sent_at")
    if not count:
        return Finding("unanswered", Level.OK, "none")
    told = f"{count} {'call' if count == 1 else 'calls'}, the oldest for {age_s:.0f} s"
    if age_s <= UNANSWERED_WARN_S:
        return Finding("unanswered", Level.OK, told)
    mend = f"billing explain {ids[0]}; start workers if none run"
    return Finding("unanswered", Level.WARN, f"{told}: {_named(ids, count)}", mend)


def _calls(session: Session, which: str, by: str) -> tuple[int, list[str], float]:
    """Open calls: how many, the operations of the oldest, and the age of the oldest."""
    statement = (
        f"SELECT count(*), (array_agg(operation_id ORDER BY {by}))[1\\:{NAMED}],"  # noqa: S608 - constants of this page
        f" coalesce(extract(epoch FROM clock_timestamp() - min({by})), 0)"
        f"  FROM billing.idempotency_records WHERE concluded_at IS NULL AND {which}"
    )
    count, ids, age_s = session.execute(text(statement)).one()
    return count, ids or [], float(age_s)


def _named(ids: list[str], count: int) -> str:
    return ", ".join(ids) + (f" and {count - len(ids)} more" if count > len(ids) else "")


def _counted(part: str, statement: str, told: tuple[str, str], mend: str) -> Callable[[Session], Finding]:
    """`told`: of one, and of several."""

    def look(session: Session) -> Finding:
        count: int = session.execute(text(statement)).scalar_one()
        words = told[count != 1].format(count)
        return Finding(part, Level.WARN, words, mend) if count else Finding(part, Level.OK, "none")

    look.__name__ = part
    return look


_quarantined = _counted(
    "quarantine",
    "SELECT count(*) FROM billing.work WHERE state = 'quarantined'",
    ("1 piece of work waits for a person", "{} pieces of work wait for a person"),
    "billing quarantine list",
)
_switches = _counted(
    "switches",
    "SELECT count(*) FROM billing.switches WHERE state = 'pulled'",
    ("1 is pulled: nothing is sent in its scope", "{} are pulled: nothing is sent in their scope"),
    "billing switch list",
)
_stale = _counted(
    "running work",
    "SELECT count(*) FROM billing.work AS w JOIN billing.idempotency_records AS r ON r.id = w.record_id"
    " WHERE w.state = 'running' AND (r.lease_until IS NULL OR r.lease_until < clock_timestamp() - interval '10 s')",
    ("1 piece is left by a dead worker and not taken back", "{} pieces are left by dead workers and not taken back"),
    "start a relay (`billing relay`)",
)


def _ids(session: Session) -> Finding:
    """One id that may be a card number tells nothing; nearly all of many do: somebody passes card numbers as ids."""
    ids = session.scalars(_NEWEST_IDS, {"count": IDS_LOOKED_AT}).all()
    as_long = [each for each in ids if re.fullmatch(r"[^0-9]*[0-9]{14,19}[^0-9]*", each)]
    suspected = sum(map(may_hold_card_number, as_long))
    if len(as_long) >= IDS_LEAST and suspected >= IDS_SHARE * len(as_long):
        told = f"{suspected} of the newest {len(as_long)} request and correlation ids of that length are card numbers"
        return Finding("ids", Level.WARN, told, "pass order numbers or random ids instead: docs/inputs.md")
    return Finding("ids", Level.OK, "no series of card numbers among the newest")


_NEWEST_IDS = text(
    "SELECT DISTINCT i.id FROM ("
    "(SELECT request_id, correlation_id FROM billing.captures ORDER BY id DESC LIMIT :count)"
    " UNION ALL (SELECT request_id, correlation_id FROM billing.invoices ORDER BY id DESC LIMIT :count)"
    ") AS newest, unnest(ARRAY[newest.request_id, newest.correlation_id]) AS i (id) WHERE i.id IS NOT NULL"
)


def _first_line(error: Exception) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return " ".join(lines[0].split()) if lines else type(error).__name__
