"""What all requests have in common: their arguments are checked before anything is written, and each is written
once.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine, String, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session, SessionTransaction, scoped_session, sessionmaker

from billing import request_ids, statements, traceparent
from billing.errors import InvalidRequest, InvalidText, RequestReused, WrongSession
from billing.provider_ids import provider_id
from billing.tables.entities import Requested
from billing.tables.facts import Fact
from billing.texts import opaque_id, plain_text

R = TypeVar("R", bound=Requested)
NOTHING: Mapping[str, str] = MappingProxyType({})
Differing = dict[str, tuple[object, object]]
"""Parameter name -> (its value in the first request, its value now)."""


@dataclass(frozen=True, slots=True)
class CommonArguments:
    """The checked arguments that all requests have. If no correlation id was given, it is the request id, so that a
    search of the logs for an order finds it. `traceparent` is of the caller's open span."""

    request_id: str
    correlation_id: str
    account: str | None
    actor: str
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Wanted(Generic[R]):
    """A request that was checked, and is written nowhere yet. `row` has its id and its correlation id; for `parameters`
    and `further` see `write_once`. `first_fact` makes the fact that goes with it, once."""

    row: R
    parameters: Mapping[str, Any]
    further: Mapping[str, Any]
    first_fact: Callable[[], Fact]


def common_arguments(request_id: object, correlation_id: object, account: object, actor: object) -> CommonArguments:
    """Check the arguments that all requests have. An empty correlation id or account counts as None, because Stripe's
    SDK and many frameworks write it so. Raises InvalidText."""
    checked = opaque_id("request_id", request_id)
    if checked.startswith(request_ids.RECOVERED):
        raise InvalidText(
            "request_id", f"must not begin with {request_ids.RECOVERED}, as those do that `billing recover` has made"
        )
    return CommonArguments(
        request_id=checked,
        correlation_id=checked if _is_none(correlation_id) else opaque_id("correlation_id", correlation_id),
        account=None if _is_none(account) else provider_id("account", account),
        actor=plain_text("actor", actor, 255),
        traceparent=traceparent.current(),
    )


def _is_none(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value)


def write_once(
    session: Session,
    row: R,
    common: CommonArguments,
    parameters: Mapping[str, Any],
    *,
    further: Mapping[str, Any] | None = None,
    differing: Callable[[R], Differing] = lambda _first: {},
    computed: Mapping[str, str] = NOTHING,
    unless: str = "",
) -> R | None:
    """Write a request, or find the one that was written under its request id.

    Returns `row` itself if it was written; the caller has set its id and correlation id, and writes its first fact.
    Returns the earlier row if that asks for the same. Returns None if another unique index of the table forbids it, or
    `unless`.

    `parameters` are the columns that two requests under one id must share. `further` are other columns: written, and
    not compared. `differing` compares what is not always known of the earlier one, such as an invoice's lines.
    `computed` are columns that the statement computes, by SQL that may name the other parameters; `row` gets them.
    Where the SQL `unless` is true, nothing is written. In both `{of_account}` means rows of the same account.

    Raises RequestReused, which names the parameters that differ; the caller's transaction stays usable.
    """
    table = type(row)
    values = {
        "id": row.id,
        "correlation_id": row.correlation_id,
        # The number of the fact that the caller writes next. `new_fact` counts it in `row`, which is not saved.
        "version": 1,
        "account": common.account,
        "request_id": common.request_id,
        **parameters,
        **(further or {}),
    }
    # A column without a value is left out, so that a request with few of them costs no more than it needs.
    values = {name: value for name, value in values.items() if value is not None}
    named, places = tuple(values), tuple(computed.items())
    statement = _insertion(table, named, places, unless, own_account=common.account is None)
    given = {name: _as_json(value) for name, value in values.items()}
    written = statements.run(session, statement, **given, made_again=_made_again(common)).one_or_none()
    if written is not None:
        for name in computed:
            setattr(row, name, getattr(written, name))
        return row
    return written_before(session, table, common, parameters, differing)


def written_before(
    session: Session,
    table: type[R],
    common: CommonArguments,
    parameters: Mapping[str, Any],
    differing: Callable[[R], Differing],
) -> R | None:
    """The request that was written under this request id; None if there is none. As `write_once` otherwise."""
    of_account = table.account.is_(None) if common.account is None else table.account == common.account
    mine = table.request_id.in_((common.request_id, _made_again(common)))
    found = session.scalars(select(table).where(of_account, mine)).all()
    if not found:
        return None
    first = min(found, key=lambda each: each.id)
    pairs = {name: (getattr(first, name), now) for name, now in parameters.items()}
    differences = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]} | differing(first)
    if differences:
        raise RequestReused(common.request_id, differences)
    return first


def _as_json(value: object) -> object:
    return json.dumps(value) if isinstance(value, Mapping) else value


def _made_again(common: CommonArguments) -> str:
    return request_ids.recovered(request_ids.digest_of(common.request_id) or "")


@cache
def _insertion(
    table: type[Requested],
    names: tuple[str, ...],
    computed: tuple[tuple[str, str], ...],
    unless: str,
    *,
    own_account: bool,
) -> str:
    """Inserts these columns of a row, where neither an index nor `unless` forbids it, and no row has its digest: one
    that was made again after a restore.

    ON CONFLICT, because an integrity error would end the caller's transaction even if it were caught here.
    """
    types = {name: table.__table__.c[name].type for name in names}
    # Not as VARCHAR(255), because a cast to that cuts.
    casts = {name: "text" if isinstance(kind, String) else kind.compile(_DIALECT) for name, kind in types.items()}
    of_account = "account IS NULL" if own_account else "account = %(account)s"
    selected = [*(f"CAST(%({name})s AS {kind})" for name, kind in casts.items()), *(sql for _, sql in computed)]
    further = [name for name, _ in computed]
    statement = (
        f"INSERT INTO {table.__table__} ({', '.join([*names, *further])})"  # noqa: S608 - names of our own columns
        f" SELECT {', '.join(selected)}"
        f" WHERE NOT EXISTS (SELECT FROM {table.__table__} WHERE {{of_account}} AND request_id = %(made_again)s)"
        f"{f' AND NOT ({unless})' if unless else ''}"
        f" ON CONFLICT DO NOTHING RETURNING {', '.join(['id', *further])}"
    )
    return statement.replace("{of_account}", of_account)


_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


def seconds(name: str, given: object, most: float) -> float:
    """A number of seconds from 0 to `most`; else InvalidRequest."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= most:
        raise InvalidRequest(name, f"must be a number of seconds from 0 to {most:,}")
    return given


def callers_session(session: object) -> Session:
    """The caller's own session, in whose transaction everything is written. Raises WrongSession, which says what to
    pass instead."""
    if isinstance(session, Session):
        return session
    if isinstance(session, scoped_session):
        # The session of this thread: Flask-SQLAlchemy's `db.session` is such a proxy.
        own = session()
        assert isinstance(own, Session)
        return own
    raise WrongSession(type(session).__name__, _INSTEAD.get(_kind(session), ""))


def _kind(session: object) -> type | str:
    """Its key in `_INSTEAD`. An asynchronous session is recognized by its module's name: SQLAlchemy's asyncio need not
    be loaded for that."""
    if any(each.__module__.startswith("sqlalchemy.ext.asyncio") for each in type(session).__mro__):
        return "async"
    return next((kind for kind in _INSTEAD if isinstance(kind, type) and isinstance(session, kind)), object)


_INSTEAD: dict[type | str, str] = {
    "async": "in async code: await session.run_sync(lambda session: billing.request_capture(session, ...))",
    SessionTransaction: "pass the session that `begin()` was called on",
    Connection: "over a connection of yours: sqlalchemy.orm.Session(connection)",
    Engine: "with sqlalchemy.orm.Session(engine) as session, session.begin(): ...",
    sessionmaker: "with it as `factory`: with factory() as session, session.begin(): ...",
}
