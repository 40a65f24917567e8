"""What every request has in common, made fit or refused before anything is written."""

from dataclasses import dataclass

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session, SessionTransaction, scoped_session, sessionmaker

from billing.errors import WrongSession
from billing.provider_ids import provider_id
from billing.texts import opaque_id, plain_text


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for what, as it is stored. Without a correlation id the request id is one, so that a search of the logs
    for an order finds it."""

    request_id: str
    correlation_id: str
    account: str | None
    actor: str


def asked(request_id: object, correlation_id: object, account: object, actor: object) -> Asked:
    """An empty correlation id or account is none: Stripe's SDK and many frameworks write it so. Raises InvalidText."""
    known = opaque_id("request_id", request_id)
    return Asked(
        request_id=known,
        correlation_id=known if _is_none(correlation_id) else opaque_id("correlation_id", correlation_id),
        account=None if _is_none(account) else provider_id("account", account),
        actor=plain_text("actor", actor, 255),
    )


def _is_none(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value)


def the_session(session: object) -> Session:
    """The caller's own session, in whose transaction everything is written. Raises WrongSession, which says what to
    pass instead."""
    if isinstance(session, Session):
        return session
    if isinstance(session, scoped_session):
        # This thread's own one, as Flask's extension hands it out.
        own = session()
        assert isinstance(own, Session)
        return own
    raise WrongSession(type(session).__name__, _INSTEAD.get(_kind(session), ""))


def _kind(session: object) -> type | str:
    """By name where the class lives in SQLAlchemy's asyncio, which is not loaded for this."""
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
