"""Your own servers, named by environment variables. If one does not answer, the check names it before anything
starts."""

import socket
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import psycopg
from redis import Redis, exceptions

from jobs.config import postgres_url, redis_url
from jobs.config.connection_strings import BadConnectionString
from jobs.config.secrets import bare
from jobs.local.supervisor import LocalServerError

PATIENCE_S = 5


def check(given: Mapping[str, str]) -> None:
    """Raises LocalServerError for a variable whose address no server of its kind answers.

    Such variables are often left over in a shell from a `billing up` that has ended.
    """
    for variable, (kind, answers) in _KINDS.items():
        if url := given.get(variable):
            try:
                there = answers(url)
            except BadConnectionString as error:
                raise LocalServerError(f"{variable}: {error}; or unset it to have one started") from None
            except ValueError:
                # Neither chained nor shown, because a URL may hold a password.
                raise LocalServerError(f"{variable}: not a URL of {kind}; unset it to have one started") from None
            if not there:
                raise LocalServerError(f"{variable} is set, and no {kind} answers there; unset it to have one started")


def postgres(url: str) -> str:
    """A DATABASE_URL as its owner wrote it, for our clients. Raises BadConnectionString."""
    return postgres_url.read(bare(url)).url


def redis(url: str) -> str:
    """The same of a REDIS_URL."""
    return redis_url.read(bare(url)).url


def _postgres(url: str) -> bool:
    try:
        psycopg.connect(postgres(url), connect_timeout=PATIENCE_S).close()
    except psycopg.OperationalError as error:
        # A server that refuses our login is there. The command that needs it reports the refusal.
        return "FATAL" in str(error)
    return True


def _redis(url: str) -> bool:
    with Redis.from_url(redis(url), socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S) as client:
        try:
            client.ping()
        except exceptions.AuthenticationError:
            return True
        except (exceptions.ConnectionError, exceptions.TimeoutError):
            return False
        except exceptions.RedisError:
            return True
    return True


def _listens(url: str) -> bool:
    """Sends nothing, because it may be Stripe itself."""
    parts = urlsplit(url)
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        socket.create_connection((parts.hostname or "", port), timeout=PATIENCE_S).close()
    except KeyError:
        raise ValueError(url) from None
    except OSError:
        return False
    return True


_KINDS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "DATABASE_URL": ("Postgres", _postgres),
    "REDIS_URL": ("Redis", _redis),
    "STRIPE_API_BASE": ("Stripe stand-in", _listens),
    "S3_ENDPOINT_URL": ("S3", _listens),
}
