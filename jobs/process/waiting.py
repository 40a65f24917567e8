"""How relay, worker and archiver wait for their servers before they start.

A server that is away comes back without this process, and if it ended, its supervisor would only restart it again and
again. An error that waiting cannot correct (another environment's database, a key of the wrong mode) is raised at once.
"""

import random
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import psycopg
import redis.exceptions
import structlog
from sqlalchemy.exc import DBAPIError, ProgrammingError

from archive.errors import StoreAway
from jobs.config.secrets import SecretAway
from jobs.process.health import Heartbeat
from jobs.road.verdicts import Failure, classify

log = structlog.get_logger()

T = TypeVar("T")

FIRST_S = 0.2
LONGEST_S = 10.0
"""A pause doubles up to this. Its length is random between half of it and all of it, so that processes that start
together do not connect together."""
_STOP_EVERY_S = 0.05


class Away(NamedTuple):
    """Why a process cannot start yet."""

    server: str
    """postgres, redis, s3 or secrets."""
    setting: str
    """The setting that leads there."""
    refuses: bool = False
    """It answers and refuses our login. An operator should correct the login; the process waits until it is
    accepted."""


def away(error: Exception) -> Away | None:
    """The server to wait for after this error; None where waiting cannot help."""
    match error:
        case StoreAway():
            return Away("s3", "S3_ENDPOINT_URL")
        case SecretAway():
            return Away("secrets", error.setting)
        case redis.exceptions.RedisError():
            refuses = isinstance(error, _REDIS_REFUSES)
            return Away("redis", "REDIS_URL", refuses)
        case ProgrammingError():
            return None  # an operator adds a missing table or grant with a command, and then restarts the process
        case DBAPIError() if classify(error) is not Failure.DATA:
            return Away("postgres", "DATABASE_URL", _postgres_refuses(error.orig))
        case _:
            return None


_REDIS_REFUSES = (
    redis.exceptions.AuthenticationError,
    redis.exceptions.AuthorizationError,
    redis.exceptions.NoPermissionError,
)


def _postgres_refuses(error: BaseException | None) -> bool:
    """Whether the server asked for a password and then refused us. libpq gives no SQLSTATE for a failed connection, and
    the text is in the server's language, so no more is known: the database may also be missing."""
    tried = error.pgconn if isinstance(error, psycopg.OperationalError) else None
    return tried is not None and bool(tried.needs_password or tried.used_password)


def until_ready(
    open_all: Callable[[], T],
    forget: Callable[[], object],
    stop_requested: Callable[[], bool],
    heartbeat: Heartbeat,
    complain: Callable[[Exception], str | None] = lambda _: None,
) -> T | None:
    """Call `open_all` until it returns, and return that; None if asked to stop before.

    After each failure `forget` drops connections and secrets, so that the next try uses a changed login. Each outage
    is logged once, with the line that `complain` gives, and its end once. Raises errors that waiting cannot correct.
    """
    rng, tries = random.Random(), 0  # noqa: S311 - jitter, no secret
    logged: Away | None = None
    began = time.monotonic()
    while not stop_requested():
        try:
            ready = open_all()
        except Exception as error:
            found = away(error)
            if found is None:
                raise
            if found != logged:
                _log_away(found, error, complain(error))
                logged, tries = found, 0
            forget()
            tries += 1
            heartbeat.waits_for(found.server)
            _rest(rng.uniform(0.5, 1.0) * min(LONGEST_S, FIRST_S * 2**tries), stop_requested, heartbeat)
        else:
            if logged is not None:
                log.info("server.found", server=logged.server, after_s=round(time.monotonic() - began, 1))
            heartbeat.waits_for(None)
            return ready
    return None


def _log_away(found: Away, error: Exception, message: str | None) -> None:
    server, setting, kind = found.server, found.setting, type(error).__name__
    if found.refuses:
        log.error("server.refused", server=server, setting=setting, error=kind, message=message)
    else:
        log.warning("server.awaited", server=server, setting=setting, error=kind, message=message)


def _rest(seconds: float, stop_requested: Callable[[], bool], heartbeat: Heartbeat) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stop_requested():
        heartbeat()
        time.sleep(_STOP_EVERY_S)
