"""What every process and command stands on: its settings, its database, and how it shows that it is alive.

Nothing is opened before it is needed. `jobs.process.service` adds what a relay and a worker need beside it: a command
that only reads the database does not load Redis, RQ and Stripe.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

import structlog
from sqlalchemy import Engine, QueuePool

from billing import database
from billing.timing import PRODUCTION, SHORT, Timing
from jobs.config import postgres_url, redis_url
from jobs.config.connection_strings import Address, BadConnectionString
from jobs.config.secrets import Secret
from jobs.config.settings import Settings
from jobs.config.sources import SettingsError, variable
from jobs.metrics import exported as metrics
from jobs.metrics.sources import Process
from jobs.process.health import ARCHIVER_STUCK_S, STUCK_S, Heartbeat
from jobs.traces import exported as traces

log = structlog.get_logger()


class Runtime:
    """The parts of one process. `name` is shown in `pg_stat_activity` and in the logs."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.settings = settings
        self.name = name
        self.ignored: dict[str, tuple[str, ...]] = {}
        """By setting, the parameters of its URL that are for other clients. Known once the URL has been read."""

    @property
    def timing(self) -> Timing:
        return SHORT if self.settings.timing == "short" else PRODUCTION

    @property
    def database_url(self) -> str:
        """For `database.open_engine`. Raises SettingsError, SecretError."""
        return self._url("database_url", postgres_url.read)

    @property
    def redis_url(self) -> str:
        """For `bells.open_redis`. Raises SettingsError, SecretError."""
        return self._url("redis_url", redis_url.read)

    def _url(self, field: str, read: Callable[[str], Address]) -> str:
        try:
            address = read(getattr(self.settings, field).reveal())
        except BadConnectionString as error:
            raise SettingsError(f"{variable(field)}: {error}") from None
        if address.ignored and variable(field) not in self.ignored:
            self.ignored[variable(field)] = address.ignored
            # Without logs, this is a command whose standard output is its answer.
            if structlog.is_configured():
                log.info("parameters.ignored", setting=variable(field), parameters=list(address.ignored))
        return address.url

    @cached_property
    def engine(self) -> Engine:
        # What a relay commits may be lost when Postgres crashes: its next round does it again.
        # The other processes hold no lock that a worker waits for, and read many rows at once.
        in_the_protocol = self.name == "relay" or self.name.startswith("worker")
        return database.open_engine(
            self.database_url,
            self.timing,
            name=self.name,
            durable=self.name != "relay",
            statement_timeout_s=None if in_the_protocol else self.timing.reading_timeout_s,
            paging=self.name == "archiver",
        )

    @contextlib.contextmanager
    def in_service(self, role: str) -> Iterator[Heartbeat]:
        """While it is open, this process beats, and exports its metrics and its traces where they are on."""
        with self.heartbeat(role) as heartbeat, traces.exported(self.settings, role) as spans:
            process = Process(
                role,
                turns=lambda: heartbeat.turns,
                quiet_s=lambda: time.monotonic() - heartbeat.turned_at,
                waits_for=lambda: heartbeat.waiting_for,
                connections=self._connections,
                spans=spans,
                redis_bytes=self.redis_bytes if role == "relay" else dict,
            )
            with metrics.exported(self.settings, process, self._open_for_reading if role == "relay" else None):
                yield heartbeat

    def _connections(self) -> dict[str, int]:
        """Of the pool, if it is open."""
        pool = self.engine.pool if "engine" in self.__dict__ else None
        if not isinstance(pool, QueuePool):
            return {"in_use": 0, "idle": 0}
        return {"in_use": pool.checkedout(), "idle": pool.checkedin()}

    def redis_bytes(self) -> Mapping[str, float]:
        """How much memory Redis has; nothing from a process that does not use it."""
        return {}

    def _open_for_reading(self, limit_s: float) -> Engine:
        """A connection of its own, so that the relay never waits for it."""
        name = "relay-metrics"
        return database.open_engine(self.database_url, self.timing, name=name, statement_timeout_s=limit_s)

    def heartbeat(self, role: str) -> Heartbeat:
        """The heartbeat of this process. Its watchdog ends the process when the loop no longer turns."""
        limits = ARCHIVER_STUCK_S if role == "archiver" else STUCK_S
        return Heartbeat(role, self.settings.health_directory, stuck_after_s=limits[self.settings.timing])

    def forget(self) -> None:
        """Close what is open, and read every secret again at its next use, because it may have changed."""
        self.close()
        self.__dict__.pop("engine", None)
        for secret in vars(self.settings).values():
            if isinstance(secret, Secret):
                secret.forget()

    def close(self) -> None:
        if "engine" in self.__dict__:
            self.engine.dispose()
