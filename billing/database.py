"""Connections with timeouts, sessions that end, and the check that this database is ours."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format
from sqlalchemy import Engine, NullPool, create_engine, event, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from billing import ids, poolers
from billing.errors import NotInstalled, OtherAccount, OtherEnvironment
from billing.tables.schema import Installation
from billing.timing import Timing

_NETWORK = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
"""If the server's machine or the network path is gone, a connection fails after 11 s of silence, or after 10 s (in ms)
without an acknowledgment of what was sent. So it fails before a lease of 15 s ends; with the kernel's defaults it would
take two hours, or fifteen minutes. Values in the URL win. Source: postgresql.org/docs/current/libpq-connect.html.
`jobs.process.health` handles a server that acknowledges but never answers."""

T = TypeVar("T")


class Transact(Protocol):
    """Runs a step in a short transaction of its own, commits it, and returns what it returns. How often it tries again
    is decided by whoever passes it."""

    def __call__(self, step: Callable[[Session], T], /) -> T: ...


TOO_SLOW = frozenset({"57014", "25P03", "25P04"})
"""Postgres ended a statement or a transaction because it took too long: `statement_timeout` (or somebody canceled it),
`idle_in_transaction_session_timeout`, `transaction_timeout`. Nothing of it was written.
Source: postgresql.org/docs/current/errcodes-appendix.html"""


def open_engine(
    url: str,
    timing: Timing,
    *,
    name: str,
    pooled: bool = True,
    durable: bool = True,
    statement_timeout_s: float | None = None,
    paging: bool = False,
) -> Engine:
    """An engine whose every connection carries the protocol's timeouts, so that no lock is held for long.

    `name` shows in `pg_stat_activity`. `pooled=False` for processes that fork, and for one-off commands.
    `durable=False` for a process that repeats whatever a crash of the server's machine loses: no commit waits for disk.
    `statement_timeout_s`: the longest statement, for a process that reads a lot and holds no locks. The default is the
    timing's transaction timeout, which is shorter than a lease. A transaction may never be idle for longer than that.
    `paging=True` for a process that reads a long queue page by page along an index.
    Connecting raises KeepsNoSession if a connection pooler does not keep these settings.
    """
    settings = {
        "lock_timeout": "200ms",
        "statement_timeout": int((statement_timeout_s or timing.transaction_timeout_s) * 1000),
        "idle_in_transaction_session_timeout": int(timing.transaction_timeout_s * 1000),
        # Otherwise Postgres plans a statement with an array parameter anew each time. Our statements name what
        # matters to the plan (the states of the partial indexes) as literals.
        "plan_cache_mode": "force_generic_plan",
        # A generic plan is kept while its table grows: a sequential scan that suits a small table would stay.
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        # A plan that must scan a table nevertheless has such a high cost that Postgres would compile it.
        "jit": "off",
        # Switches are read in a statement after their lock, which needs read committed, whatever the database's
        # default.
        "default_transaction_isolation": r"read\ committed",
        # All our statements name the schema, so that no other table of the same name is read.
        "search_path": "pg_catalog",
        **({} if durable else {"synchronous_commit": "off"}),
        # If Postgres believes that the queue is short, it reads all of it and sorts it, for every page.
        **({"enable_bitmapscan": "off"} if paging else {}),
    }
    pool = {"pool_size": 1, "max_overflow": 1, "pool_pre_ping": False} if pooled else {"poolclass": NullPool}
    return _open(url, settings, name, **pool)


def open_for_migrations(url: str) -> Engine:
    """An engine whose connections wait two seconds for a lock, and may work for as long as a migration takes."""
    return _open(url, {"lock_timeout": "2s"}, "migrate", poolclass=NullPool)


def _open(url: str, settings: Mapping[str, object], name: str, **pool: Any) -> Engine:
    target = make_url(url).set(drivername="postgresql+psycopg")
    given = target.query.get("options", "")
    # Those of the URL first: where both name a setting, the last holds.
    options = [given if isinstance(given, str) else " ".join(given)]
    options += [f"-c {setting}={value}" for setting, value in settings.items()]
    network = {setting: value for setting, value in _NETWORK.items() if setting not in target.query}
    engine = create_engine(
        target,
        # Statement text in errors hides its parameters: they may carry what a log must not.
        hide_parameters=True,
        connect_args={
            "options": " ".join(options).strip(),
            "application_name": f"billing-{name}",
            "connect_timeout": 5,
            **network,
        },
        **pool,
    )

    poolers.refuse(engine, lock_timeout=str(settings["lock_timeout"]))
    event.listen(engine, "connect", _read_every_time)
    return engine


def _read_every_time(connection: Any, _record: object) -> None:
    connection.adapters.register_loader("timestamptz", _AnyTime)


class _AnyTime(Loader):
    """A time that Python has no value for (infinity, before Christ, after the year 9999) is the nearest that it has.

    Otherwise the driver would raise, and one row with such a time would make all rows of its query unreadable. Code
    that relies on a time checks it first (`billing.timing.may_be_real`).
    """

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        self._load = _DRIVERS_OWN(oid, context).load

    def load(self, data: Buffer) -> Any:
        try:
            return self._load(data)
        except psycopg.DataError:
            shown = bytes(data)
            past = shown.startswith(b"-") or shown.endswith(b"BC")
            return datetime.min.replace(tzinfo=UTC) if past else datetime.max.replace(tzinfo=UTC)


_DRIVERS_OWN = psycopg.adapters.get_loader(psycopg.adapters.types["timestamptz"].oid, Format.TEXT) or Loader


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """One short transaction: committed at the end, rolled back on any error. Loaded rows stay readable after it."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def autocommit(engine: Engine) -> Iterator[Session]:
    """For one statement that is its own transaction: a third of the round trips of `transaction`."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection, Session(connection) as session:
        yield session


@contextmanager
def snapshot(engine: Engine) -> Iterator[Session]:
    """For reading: every statement sees the database as it was at the first. Nothing is committed."""
    with Session(engine.execution_options(isolation_level="REPEATABLE READ")) as session:
        yield session


def sqlstate(error: BaseException) -> str | None:
    """Postgres' error code; None if it sent none, as when the connection is lost."""
    code = getattr(getattr(error, "orig", None) or error, "sqlstate", None)
    return code if isinstance(code, str) else None


def violated(error: BaseException) -> str | None:
    """The name of the constraint that refused a statement; None if none did, or the driver does not say."""
    diagnosis = getattr(getattr(error, "orig", None) or error, "diag", None)
    name = getattr(diagnosis, "constraint_name", None)
    return name if isinstance(name, str) else None


def now(session: Session) -> datetime:
    """The database's clock, which judges leases, ages and horizons; not the start of the transaction."""
    moment: datetime = session.connection().exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    return moment


def stamp(session: Session, *, environment: str, livemode: bool) -> None:
    """Write which environment this database belongs to, once. Raises OtherEnvironment when its stamp names another."""
    session.execute(
        insert(Installation)
        .values(id=1, environment=environment, livemode=livemode, identity=ids.new("ins"))
        .on_conflict_do_nothing()
    )
    check_stamp(session, environment=environment, livemode=livemode)


def is_stamped(session: Session) -> bool:
    """Whether it was ever set up to its end."""
    return session.scalar(select(Installation.id)) is not None


def stamp_account(session: Session, account: str) -> None:
    """Write which Stripe account this database belongs to, once. Raises OtherAccount for a key of another one.

    Only workers may write it. Once it is there it never changes, and is read without a lock, which needs that right.
    """
    known = session.scalars(select(Installation.stripe_account)).one()
    if known is None:
        row = session.scalars(select(Installation).with_for_update()).one()
        known = row.stripe_account = row.stripe_account or account
    if known != account:
        raise OtherAccount(known, account)


def check_stamp(session: Session, *, environment: str, livemode: bool) -> Installation:
    """The installation row. Raises NotInstalled when it is missing, and OtherEnvironment when it names another."""
    try:
        row = session.scalars(select(Installation)).one_or_none()
    except ProgrammingError as error:
        found = MISSING.get(getattr(error.orig, "sqlstate", None) or "")
        if found is None:
            raise
        raise NotInstalled(found) from error
    if row is None:
        raise NotInstalled("was never set up")
    if (row.environment, row.livemode) != (environment, livemode):
        raise OtherEnvironment((row.environment, row.livemode), (environment, livemode))
    return row


MISSING = {"42P01": "has no billing tables", "42703": "has the tables of an older version"}
"""By SQLSTATE: no such table, and no such column. Every other code is another problem."""
