"""How relay, worker and archiver wait for their servers before they start.

A server that is away comes back by itself, and ending would only move the waiting into whatever restarts the
process. What no waiting mends (another environment's database, a key of the wrong mode) is raised at once.
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
"""A pause doubles up to this, and is drawn between half of it and all of it: a fleet that starts together does not ask
together."""
_STOP_EVERY_S = 0.05


class Away(NamedTuple):
    """Why a process cannot start yet."""

    server: str
    """postgres, redis, s3 or secrets."""
    setting: str
    """The setting that leads there."""
    refuses: bool = False
    """It answers, and refuses our login: a person should look, though a login that is made now ends it, too."""


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
            return None  # a missing table or grant is mended by a command, and that ends with a restart
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
    """Whether the server asked for a password, and did not let us in. libpq tells no SQLSTATE of a failed connection,
    and its text is in the server's language, so this is all that is known: the database may also be missing."""
    tried = error.pgconn if isinstance(error, psycopg.OperationalError) else None
    return tried is not None and bool(tried.needs_password or tried.used_password)


def until_ready(
    open_all: Callable[[], T],
    forget: Callable[[], object],
    stop_requested: Callable[[], bool],
    heartbeat: Heartbeat,
    complain: Callable[[Exception], str | None] = lambda _: None,
) -> T | None:
    """What `open_all` returns, once it does; None when told to stop before.

    After each failure `forget` drops connections and secrets, so that a login that was changed meanwhile is used.
    Each outage is logged once with what `complain` says about it, and its end once. Raises what waiting cannot mend.
    """
    rng, tries = random.Random(), 0  # noqa: S311 - jitter, no secret
    said: Away | None = None
    began = time.monotonic()
    while not stop_requested():
        try:
            ready = open_all()
        except Exception as error:
            found = away(error)
            if found is None:
                raise
            if found != said:
                _say(found, error, complain(error))
                said, tries = found, 0
            forget()
            tries += 1
            heartbeat.waits_for(found.server)
            _rest(rng.uniform(0.5, 1.0) * min(LONGEST_S, FIRST_S * 2**tries), stop_requested, heartbeat)
        else:
            if said is not None:
                log.info("server.found", server=said.server, after_s=round(time.monotonic() - began, 1))
            heartbeat.waits_for(None)
            return ready
    return None


def _say(found: Away, error: Exception, message: str | None) -> None:
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
