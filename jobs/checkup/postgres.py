"""Postgres: the server, its clock, our schema, the rights of each login, and then the rows."""

from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from billing import database
from billing.errors import WrongDatabase
from billing.tables.schema import SCHEMA
from jobs.access import grants, migrate, own_schema
from jobs.checkup import growth, rows
from jobs.checkup.findings import Finding, Level, first_line
from jobs.checkup.servers import ignored_parameters
from jobs.config.secrets import SecretError
from jobs.config.sources import SettingsError
from jobs.process.runtime import Runtime

POSTGRES_LEAST = 16
SKEW_WARN_S = 2.0
"""Leases use the clock of the database only. A skew makes logs hard to compare, and breaks the check of signatures."""


def postgres(runtime: Runtime) -> Iterator[Finding]:
    try:
        with runtime.engine.connect() as connection:
            # No transaction is open while a finding is shown, or the migrations are read: Postgres would end it.
            connection.execution_options(isolation_level="AUTOCOMMIT")
            yield _version(runtime, connection)
            yield _clock(connection)
            revision = _revision(connection)
            yield revision
            if revision.message == _NEVER_SET_UP:
                return
            yield _stamp(runtime, connection)
            yield _access(runtime, connection)
            yield _own_schema(connection)
    except SQLAlchemyError as error:
        yield Finding("postgres", Level.FAIL, first_line(error), "start it, or correct DATABASE_URL")
        return
    except (SettingsError, SecretError) as error:
        yield Finding("postgres", Level.FAIL, "cannot be tried", str(error))
        return
    except WrongDatabase as error:
        yield Finding("postgres", Level.FAIL, "cannot be tried", f"DATABASE_URL: {error}")
        return
    for check in rows.CHECKS:
        try:
            with database.transaction(runtime.engine) as session:
                yield check(session)
        except SQLAlchemyError as error:
            yield Finding(check.__name__.strip("_"), Level.FAIL, first_line(error), "see the server's log")
    yield growth.postgres(runtime)


def _version(runtime: Runtime, connection: Connection) -> Finding:
    number = int(connection.scalar(text("SELECT current_setting('server_version_num')")) or 0) // 10_000
    if number < POSTGRES_LEAST:
        return Finding("postgres", Level.FAIL, f"version {number}", f"Postgres {POSTGRES_LEAST} or later is needed")
    if connection.scalar(text("SELECT current_setting('transaction_read_only')")) == "on":
        message = f"version {number}, and takes no writes: a standby, or the primary before a failover"
        return Finding("postgres", Level.FAIL, message, "let DATABASE_URL lead to the primary")
    return Finding("postgres", Level.OK, f"version {number}{ignored_parameters(runtime, 'DATABASE_URL')}")


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
        fix = "run `billing migrate`" if found < head else "install the version of billing that this database is for"
        return Finding("schema", Level.FAIL, f"revision {found}, and this version wants {head}", fix)
    if broken := connection.scalars(text(_NOT_VALID)).all():
        message = f"revision {found}; rows from before it break {', '.join(broken)}"
        return Finding(
            "schema", Level.WARN, message, "correct these rows, then ALTER TABLE ... VALIDATE CONSTRAINT ..."
        )
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
            message = f"{row.environment}, {'live' if row.livemode else 'test'} mode, {row.identity}"
    except WrongDatabase as error:
        return Finding("installation", Level.FAIL, "this database is not ours", f"DATABASE_URL: {error}")
    return Finding("installation", Level.OK, message)


def _access(runtime: Runtime, connection: Connection) -> Finding:
    """Whether each kind of process has exactly its rights, and whether this login is one of them."""
    if wrong := grants.differences(connection):
        message = wrong[0] + (f", and {len(wrong) - 1} more" if len(wrong) > 1 else "")
        fix = "run `billing migrate`; REVOKE extra rights, ENABLE the trigger: docs/access.md#what-the-doctor-finds"
        return Finding("access", Level.WARN, message, fix)
    login, everything = connection.execute(_LOGIN).one()
    if everything and runtime.settings.livemode:
        message = f"{login} has all rights in this database"
        return Finding("access", Level.WARN, message, "use an operator's login: docs/access.md")
    return Finding("access", Level.OK, f"each kind of process has exactly its rights; this is {login}")


# A member of the owner has all rights of the owner; a superuser counts as a member of every role.
_LOGIN = text(
    "SELECT current_user, pg_has_role(current_user, relowner, 'MEMBER')"
    "  FROM pg_class WHERE oid = 'billing.installation'::regclass"
)


def _own_schema(connection: Connection) -> Finding:
    """Whether our schema holds only our tables, and no login searches it for tables of its own."""
    if others := own_schema.strangers(connection):
        message = f"the schema {SCHEMA} holds {own_schema.named(others)}, which is not ours"
        return Finding("neighbors", Level.WARN, message, f"ALTER TABLE {SCHEMA}.{others[0]} SET SCHEMA public")
    if own_schema.is_searched(connection):
        message = f"the login {SCHEMA} searches our schema for its own tables"
        return Finding(
            "neighbors", Level.WARN, message, f"run `billing migrate`, or {own_schema.correction(connection)}"
        )
    return Finding("neighbors", Level.OK, f"the schema {SCHEMA} holds only our tables")
