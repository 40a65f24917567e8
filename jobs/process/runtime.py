"""The one place where a process is assembled: settings, database, Redis, gateway, and the loop that uses them.

Nothing is opened before it is needed. Before it does anything else, a process checks that its database and Redis belong
to its environment.
"""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from functools import cached_property

import structlog
from redis import Redis
from sqlalchemy import Engine, QueuePool, select

from billing import database
from billing.gateway import Budget, Gateway, KeyUnavailable, Request, Response, boot_clock
from billing.records import CallSettings
from billing.stripe_gateway import API_VERSION, StripeGateway
from billing.tables.schema import Installation
from billing.timing import PRODUCTION, SHORT, Timing
from jobs.config import postgres_url, queues, redis_url
from jobs.config.connection_strings import Address, BadConnectionString
from jobs.config.secrets import Secret, SecretError, check_stripe_key
from jobs.config.settings import Settings
from jobs.config.sources import SettingsError, variable
from jobs.metrics.exported import exported
from jobs.metrics.sources import Process
from jobs.process.health import ARCHIVER_STUCK_S, STUCK_S, Heartbeat
from jobs.process.waiting import until_ready
from jobs.road.relay import Relay
from jobs.road.ringer import Ringer
from jobs.road.runner import Runner
from jobs.road.shift import Control, Shift
from jobs.rq import bells, workers

log = structlog.get_logger()

Complain = Callable[[Exception], str | None]


def _nothing(_: Exception) -> None:
    return None


def _never() -> bool:
    return False


class Runtime:
    """The parts of one process. `name` is shown in `pg_stat_activity` and in the logs."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.settings = settings
        self.name = name
        self._own_account: str | None = None
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

    @cached_property
    def redis(self) -> Redis:
        return bells.open_redis(self.redis_url)

    @cached_property
    def call_settings(self) -> CallSettings:
        settings = self.settings
        return CallSettings(
            settings.service, settings.environment, settings.livemode, API_VERSION, self.timing, self._own_account
        )

    def gateway(self, connections: int) -> Gateway:
        """A gateway that calls Stripe with this process's key, which is read at the first call."""
        key: Secret = self.settings.stripe_key

        def reveal() -> str:
            try:
                # Checked every time: the key may have been replaced by one of the wrong mode.
                check_stripe_key(key, self.settings)
                return key.reveal()
            except SecretError as error:
                raise KeyUnavailable(str(error)) from error

        def read_again() -> None:
            # A replaced key is used from the next call on. If it cannot be read now, the old one stays.
            with contextlib.suppress(SecretError):
                key.reload()

        return StripeGateway(
            reveal,
            self.settings.stripe_api_base,
            livemode=self.settings.livemode,
            connections=connections,
            refused=read_again,
        )

    def check(self, *, provider: bool) -> None:
        """Refuse to start on another environment's database or Redis, or with a key of the wrong mode or account.

        Raises WrongDatabase, WrongEnvironment, SecretError, and what an unreachable server raises. If Stripe
        is away, the process starts all the same: its work waits for Stripe.
        """
        with database.transaction(self.engine) as session:
            database.check_stamp(session, environment=self.settings.environment, livemode=self.settings.livemode)
        bells.check_stamp(self.redis, self.settings.environment)
        if provider:
            check_stripe_key(self.settings.stripe_key, self.settings)
            self._check_account()

    def _check_account(self) -> None:
        budget = Budget(not_after=boot_clock() + 10, over_at=boot_clock() + 10)
        answer = self.gateway(1).send(Request("GET", "/v1/account"), budget)
        data = answer.data if isinstance(answer, Response) and answer.status == 200 else None
        with database.transaction(self.engine) as session:
            if data is not None and data.get("object") == "account" and data.get("id"):
                database.stamp_account(session, str(data["id"]))
            self._own_account = session.scalars(select(Installation.stripe_account)).one()

    def relay(self) -> Relay:
        by_queue = {name: self.settings.queue(name) for name in queues.NAMES}
        return Relay(
            self.engine,
            self.timing,
            Ringer(
                self.redis,
                self.settings.environment,
                workers={name: queue.workers for name, queue in by_queue.items()},
                crews={name: queue.crew for name, queue in by_queue.items()},
            ),
        )

    def shift(self, queue: str, gateway: Gateway, runner: Runner) -> Shift:
        own = self.settings.queue(queue)
        return Shift(self.engine, gateway, runner, queue, crew=own.crew, slice_s=own.slice_s)

    def run_relay(self, stop_requested: Callable[[], bool], complain: Complain = _nothing) -> None:
        """Run a relay until asked to stop. It waits for a server that is away, at the start and later.

        `complain` gives the one line that a command prints for an error, or None. Raises what `check` raises if
        waiting cannot help.
        """

        def open_all() -> Relay:
            self.check(provider=False)
            bells.write_stamp(self.redis, self.settings.environment)
            return self.relay()

        with self.in_service("relay") as heartbeat:
            relay = until_ready(open_all, self.forget, stop_requested, heartbeat, complain)
            if relay is not None:
                relay.run(stop_requested, heartbeat)

    def run_worker(self, queue: str, stop_requested: Callable[[], bool] = _never, complain: Complain = _nothing) -> int:
        """Run a worker of one queue, otherwise as `run_relay`. Returns the exit code: 0 after a stop, else 1."""

        def open_all() -> Gateway:
            self.check(provider=True)
            return self.gateway(self.settings.queue(queue).crew)

        with self.in_service(f"worker-{queue}") as heartbeat:
            gateway = until_ready(open_all, self.forget, stop_requested, heartbeat, complain)
            if gateway is None:
                return 0
            runner = Runner(self.call_settings, self.settings.queue(queue).crew, random.Random())  # noqa: S311 - jitter, no secret

            def take_shift(control: workers.ShiftControl) -> int:
                return self.shift(queue, gateway, runner).run(_WithHeartbeat(control, heartbeat))

            environment = self.settings.environment
            return workers.run_worker(self.redis_url, environment, queue, take_shift, heartbeat, stop_requested)

    @contextlib.contextmanager
    def in_service(self, role: str) -> Iterator[Heartbeat]:
        """While it is open, this process beats, and exports its metrics where they are on."""
        with self.heartbeat(role) as heartbeat:
            process = Process(
                role,
                turns=lambda: heartbeat.turns,
                quiet_s=lambda: time.monotonic() - heartbeat.turned_at,
                waits_for=lambda: heartbeat.waiting_for,
                connections=self._connections,
            )
            with exported(self.settings, process, self._open_for_reading if role == "relay" else None):
                yield heartbeat

    def _connections(self) -> dict[str, int]:
        """Of the pool, if it is open."""
        pool = self.engine.pool if "engine" in self.__dict__ else None
        if not isinstance(pool, QueuePool):
            return {"in_use": 0, "idle": 0}
        return {"in_use": pool.checkedout(), "idle": pool.checkedin()}

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
        for name in ("engine", "redis", "call_settings"):
            self.__dict__.pop(name, None)
        for secret in vars(self.settings).values():
            if isinstance(secret, Secret):
                secret.forget()

    def close(self) -> None:
        if "engine" in self.__dict__:
            self.engine.dispose()
        if "redis" in self.__dict__:
            self.redis.close()


class _WithHeartbeat(Control):
    """Shows both RQ and the health check that the shift is alive."""

    def __init__(self, control: workers.ShiftControl, heartbeat: Heartbeat) -> None:
        self._control, self._heartbeat = control, heartbeat

    def stop_requested(self) -> bool:
        return self._control.stop_requested()

    def keep_alive(self) -> None:
        self._heartbeat()
        self._control.keep_alive()
