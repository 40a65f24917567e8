"""Runs the web application until it is asked to stop: settings, the server around it, and its heartbeat.

TLS ends in front of this process, at a proxy or a load balancer, which must leave the body as it is.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import structlog
from sqlalchemy.exc import SQLAlchemyError
from uvicorn import Config, Server

from billing import database
from billing.errors import WrongDatabase
from billing.events import SECRETS_MOST
from jobs.config.secrets import Secret, SecretError, SecretMissing
from jobs.config.sources import SettingsError
from jobs.process.health import Heartbeat
from jobs.process.runtime import Runtime
from jobs.process.waiting import until_ready
from jobs.web.application import Application
from jobs.web.connection import Connection
from jobs.web.inbox_writer import InboxWriter
from jobs.web.notices import Notices
from jobs.web.sns import Sns

log = structlog.get_logger()

REQUESTS_MOST = 1000
"""At once. Others are answered 503, and Stripe sends them again."""
READ_AGAIN_S = 10.0
"""Whoever sends wrong signatures makes the secrets be read again at most so often."""


class Secrets:
    """The signing secrets, which stand in one place, separated by commas or blanks: one for each endpoint, and a new
    one beside the old while it is rolled."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret
        self._read_at = float("-inf")
        self._reading = threading.Lock()

    def __call__(self, refresh: bool) -> list[str]:
        """Raises SecretError. `refresh`: read them again, if that was not done a moment ago."""
        if refresh:
            # Whoever comes while they are read waits for the new ones: events of a rolled secret come together.
            with self._reading:
                self._read_again()
        secrets = self._secret.reveal().replace(",", " ").split()
        if not all(each.startswith("whsec_") for each in secrets) or not 0 < len(secrets) <= SECRETS_MOST:
            raise SecretMissing(
                self._secret.setting,
                f"what is at {self._secret.shown} is not 1 to {SECRETS_MOST} signing secrets, whsec_..., separated by "
                "commas",
            )
        return secrets

    def _read_again(self) -> None:
        if time.monotonic() >= self._read_at + READ_AGAIN_S:
            self._read_at = time.monotonic()
            # If they cannot be read now, the old ones stay.
            with contextlib.suppress(SecretError):
                self._secret.reload()


def serve(
    runtime: Runtime,
    host: str,
    port: int,
    stop_requested: Callable[[], bool],
    complain: Callable[[Exception], str | None],
    said: Callable[[str], object],
) -> None:
    """Serve until asked to stop. `said` is given the address. Raises what waiting cannot help: WrongDatabase,
    SettingsError (also if the address cannot be used), SecretError."""
    secrets = Secrets(runtime.settings.webhook_secrets)
    settings = runtime.settings

    def open_all() -> bool:
        secrets(False)
        with database.transaction(runtime.engine) as session:
            database.check_stamp(session, environment=settings.environment, livemode=settings.livemode)
        return True

    def unready() -> str | None:
        try:
            open_all()
        except (SecretError, WrongDatabase) as error:
            return str(error)
        except SQLAlchemyError as error:
            return f"Postgres does not answer as it should: {type(error).__name__}"
        return None

    with runtime.in_service("web") as heartbeat:
        if until_ready(open_all, runtime.forget, stop_requested, heartbeat, complain) is None:
            return
        with _listening(host, port) as listener, contextlib.closing(InboxWriter(runtime.engine)) as writer:
            topics = settings.topics
            taker = Notices(Sns(topics), runtime.engine, settings.livemode) if topics else None
            application = Application(writer, secrets, unready, livemode=settings.livemode, taker=taker)
            log.info("web.listening", host=host, port=listener.getsockname()[1])
            said(f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}")
            _Server(_config(application), heartbeat, stop_requested).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise SettingsError(f"--host {host} --port {port}: {error.strerror or error}; name another") from None


def _config(application: Application) -> Config:
    return Config(
        application,
        http=Connection,
        loop="asyncio",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=REQUESTS_MOST,
        # A load balancer keeps its connections for a minute; if this side closed first, a request would be lost.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )


class _Server(Server):
    """uvicorn's server, with our heartbeat in its loop, and a plain exit."""

    def __init__(self, config: Config, heartbeat: Heartbeat, stop_requested: Callable[[], bool]) -> None:
        super().__init__(config)
        self._heartbeat, self._stop_requested = heartbeat, stop_requested

    async def on_tick(self, counter: int) -> bool:
        self._heartbeat()
        return await super().on_tick(counter) or self._stop_requested()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal again at the end, and the exit status would not be 0.
        yield
