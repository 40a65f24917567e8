"""The one place where a relay and a worker are assembled: Redis, gateway, and the loop that uses them.

Before it does anything else, a process checks that its database and Redis belong to its environment.
"""

import contextlib
import random
import signal
from collections.abc import Callable, Mapping
from functools import cached_property

import structlog
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import select

from billing import database
from billing.call_settings import CallSettings
from billing.gateway import KEEP, Budget, Gateway, KeyUnavailable, Request, Response, boot_clock
from billing.stripe_gateway import API_VERSION, StripeGateway
from billing.tables.schema import Installation
from jobs.config import queues
from jobs.config.secrets import Secret, SecretError, check_stripe_key
from jobs.config.settings import Settings
from jobs.config.sources import SettingsError
from jobs.growth import redis_memory
from jobs.limits.bucket import Terms
from jobs.limits.pace import Pace, Unpaced
from jobs.limits.shared import TIMEOUT_S, SharedBuckets
from jobs.process.apart import DOCUMENT, Apart
from jobs.process.health import Heartbeat
from jobs.process.runtime import Runtime
from jobs.process.waiting import until_ready
from jobs.process.wear import Wear
from jobs.road.relay import Relay
from jobs.road.ringer import Ringer
from jobs.road.runner import Runner
from jobs.road.shift import Control, Shift
from jobs.road.watermark import Watermark
from jobs.rq import bells, workers

log = structlog.get_logger()

Complain = Callable[[Exception], str | None]


def _nothing(_: Exception) -> None:
    return None


def _never() -> bool:
    return False


class ServiceProcess(Runtime):
    """A process that uses Redis or Stripe beside the database."""

    def __init__(self, settings: Settings, name: str) -> None:
        super().__init__(settings, name)
        self._own_account: str | None = None

    @cached_property
    def redis(self) -> Redis:
        return bells.open_redis(self.redis_url)

    def redis_bytes(self) -> Mapping[str, float]:
        """Asked at each scrape, by the thread that answers it."""
        try:
            memory = redis_memory.memory(self.redis)
        except (RedisError, SettingsError, SecretError):
            return {}
        return {"used": memory.used_bytes} | ({"limit": memory.limit_bytes} if memory.limit_bytes else {})

    @cached_property
    def call_settings(self) -> CallSettings:
        settings = self.settings
        return CallSettings(
            settings.service,
            settings.environment,
            settings.livemode,
            API_VERSION,
            self.timing,
            self._own_account,
            mails_invoices=settings.mails_invoices,
            mails_receipts=settings.mails_receipts,
            keeps_documents=settings.keeps_documents,
        )

    def _keeping(self, memory_mb: int) -> Gateway:
        """What stores documents, each in a process of its own. Raises SettingsError where no bucket is set, WrongBucket
        for that of another environment, and what an S3 raises that does not answer."""
        from jobs.process import buckets  # noqa: PLC0415 - boto3 and pyarrow, which no other worker needs

        with buckets.opened(self.settings) as store:
            store.check(self.settings.environment)
        niceness = self.settings.function_niceness
        return Apart(memory_mb, livemode=self.settings.livemode, niceness=niceness, program=DOCUMENT, method=KEEP)

    def _mailing(self, stripe: StripeGateway) -> Gateway:
        """What sends e-mails. Raises SettingsError where it is not installed, or not set up."""
        try:
            from jobs.email import mailing  # noqa: PLC0415 - an extra, which few processes need
        except ImportError:
            raise SettingsError(
                "this worker sends e-mails and needs the extra `email`: pip install 'billing-reference[email]'"
            ) from None
        return mailing.opened(self.settings, stripe)

    def gateway(self, connections: int) -> StripeGateway:
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

    def gateway_of(self, queue: str, connections: int) -> Gateway:
        """That of a queue whose workers call others: what sends e-mails, or Stripe's. Raises as `_mailing`."""
        stripe = self.gateway(connections)
        return self._mailing(stripe) if queue in queues.MAILING else stripe

    def check(self, *, provider: bool) -> None:
        """Refuse to start on another environment's database or Redis, or with a key of the wrong mode or account. If
        the database was restored, pull the switch of everything before anything is sent.

        Raises WrongDatabase, WrongEnvironment, SecretError, and what an unreachable server raises. If Stripe
        is away, the process starts all the same: its work waits for Stripe.
        """
        with database.transaction(self.engine) as session:
            database.check_stamp(session, environment=self.settings.environment, livemode=self.settings.livemode)
        bells.check_stamp(self.redis, self.settings.environment)
        Watermark(self.engine, self.redis, self.settings.environment).compare()
        if provider:
            self.check_provider()

    def check_provider(self) -> None:
        """Refuse a Stripe key of the wrong mode or account, with a worker's login. Raises SecretError and OtherAccount.
        Afterwards `call_settings` names our own account."""
        check_stripe_key(self.settings.stripe_key, self.settings)
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

    @property
    def terms(self) -> Terms:
        """How fast a Stripe account may be called, and how often one that does not answer is tried."""
        return Terms(self.settings.calls_per_s, self.timing.probe_s)

    def pace(self, queue: str, redis: Redis) -> Pace:
        """How fast a worker of this queue calls. `redis` has a short timeout, because a captain waits for it."""
        if queue in queues.MAILING | queues.KEEPING:
            # One read at Stripe for what takes another server a second: no limit comes near.
            return Unpaced(self.timing.probe_s)
        (leaves,) = [each.leaves for each in queues.QUEUES if each.name == queue]
        calling = [each.name for each in queues.QUEUES if not (each.apart or each.mails)]
        workers_in_all = sum(self.settings.queue(name).workers for name in calling)
        shared = SharedBuckets(redis, self.settings.environment)
        return Pace(self.terms, shared=shared, share=1 / workers_in_all, leaves=leaves)

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

        own = self.settings.queue(queue)

        def open_all() -> Gateway:
            local = queue in queues.LOCAL
            self.check(provider=not local)
            if local:
                return Apart(own.memory_mb, livemode=self.settings.livemode, niceness=self.settings.function_niceness)
            if queue in queues.KEEPING:
                return self._keeping(own.memory_mb)
            return self.gateway_of(queue, own.crew)

        with self.in_service(f"worker-{queue}") as heartbeat:
            gateway = until_ready(open_all, self.forget, stop_requested, heartbeat, complain)
            if gateway is None:
                return 0
            with bells.open_redis(self.redis_url, TIMEOUT_S) as redis:
                pace = None if queue in queues.LOCAL else self.pace(queue, redis)
                runner = Runner(self.call_settings, random.Random(), pace)  # noqa: S311 - jitter, no secret
                wear = Wear(own)

                def take_shift(control: workers.ShiftControl) -> None:
                    settled = self.shift(queue, gateway, runner).run(_WithHeartbeat(control, heartbeat))
                    if (why := wear.after(settled)) is not None:
                        log.info("worker.recycled", queue=queue, why=why)
                        # As a supervisor that replaces it would: it claims nothing more, and starts anew.
                        signal.raise_signal(signal.SIGTERM)

                environment = self.settings.environment
                return workers.run_worker(self.redis_url, environment, queue, take_shift, heartbeat, stop_requested)

    def forget(self) -> None:
        super().forget()
        for name in ("redis", "call_settings"):
            self.__dict__.pop(name, None)

    def close(self) -> None:
        super().close()
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
