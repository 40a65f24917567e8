"""The four sides: how each is started, paused, asked for captures, and observed."""

import contextlib
import json
import os
import signal
import sys
import threading
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from redis import Redis
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

import billing
from billing.database import open_engine, transaction
from billing.timing import PRODUCTION
from jobs.local.servers import LocalServers
from jobs.local.supervisor import Child, wait_until

AMOUNT = 1999
ENVIRONMENT = "development"


@dataclass(frozen=True, slots=True)
class Asked:
    """Captures that were requested in one transaction, and its id, to look up when it committed."""

    ids: list[str]
    transaction_id: str


@dataclass(slots=True)
class Ground:
    """What all sides stand on."""

    servers: LocalServers
    postgres: psycopg.Connection
    redis: Redis

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BILLING_")}
        return {**clean, **self.servers.environment, "PYTHONUNBUFFERED": "1"}

    @property
    def settings_file(self) -> Path:
        """An empty environment file, so that no settings are read from this directory."""
        file = self.servers.directory / "billing.toml"
        file.touch()
        return file

    def spawn(self, name: str, program: Sequence[str], **more: str) -> Child:
        return self.servers.supervisor.spawn(name, [sys.executable, *program], {**self.environment, **more})

    def one(self, statement: str, *values: object) -> tuple[Any, ...]:
        row = self.postgres.execute(statement, values).fetchone()
        assert row is not None
        return row

    def committed_at(self, transaction_id: str) -> float:
        (at,) = self.one("SELECT extract(epoch FROM pg_xact_commit_timestamp(%s::text::xid))::float8", transaction_id)
        return float(at)


@dataclass
class Side(ABC):
    """One side with this many calls in flight, and this many worker processes if it can choose."""

    ground: Ground
    in_flight: int
    processes: int = 1
    roles: dict[str, list[Child]] = field(default_factory=dict)
    """Its processes by role: CPU is counted for each role."""

    name = ""
    table = "bench.captures"

    @abstractmethod
    def start(self) -> None:
        """Return when it is ready to take captures."""

    @abstractmethod
    def ask(self, count: int) -> Asked:
        """As an application does: written in one committed transaction, then enqueued where there is a queue."""

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        self.resume()
        for children in self.roles.values():
            for child in children:
                child.kill()
                self._end_group(child)

    def stored(self, ids: Sequence[str]) -> int:
        (count,) = self.ground.one(
            f"SELECT count(*) FROM {self.table} WHERE id = ANY (%s) AND state = 'captured'", list(ids)
        )
        return int(count)

    def stored_at(self, ids: Sequence[str]) -> list[float]:
        """When the answers were committed."""
        rows = self.ground.postgres.execute(
            f"SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 FROM {self.table} WHERE id = ANY (%s)"
            " AND state = 'captured' ORDER BY array_position(%s, id::text)",
            (list(ids), list(ids)),
        )
        return [at for (at,) in rows]

    def together(self, ids: Sequence[str]) -> float:
        """How many answers a transaction stored, on average."""
        (average,) = self.ground.one(
            f"SELECT count(*)::float8 / count(DISTINCT xmin::text) FROM {self.table} WHERE id = ANY (%s)", list(ids)
        )
        return float(average)

    def at_rest(self) -> bool:
        """Whether everything that was requested is done."""
        return True

    def connections(self) -> int:
        """Postgres connections of its workers."""
        return self.ground.one("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", self._application)[
            0
        ]

    @property
    def _application(self) -> str:
        return self.name

    def _signal(self, number: signal.Signals) -> None:
        for children in self.roles.values():
            for child in children:
                if child.poll() is None:
                    os.killpg(child.pid, number)

    def _end_group(self, child: Child) -> None:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


@dataclass
class Ours(Side):
    name = "ours"
    table = "billing.captures"
    program = ("-m", "jobs.cli")
    """What Python runs, before the command."""
    _engine: Engine = field(init=False)

    def start(self) -> None:
        self._engine = open_engine(self.ground.servers.environment["DATABASE_URL"], PRODUCTION, name="application")
        self.roles = {
            "relay": [self._spawn("relay")],
            "worker": [self._spawn("worker", "captures") for _ in range(self.processes)],
        }
        for child in self.roles["worker"]:
            child.wait_for_output("worker.started", timeout_s=60)

    def _spawn(self, role: str, *arguments: str) -> Child:
        environment = {
            "BILLING_ENVIRONMENT": ENVIRONMENT,
            "BILLING_STRIPE_KEY": "sk_test_bench",
            "BILLING_TIMING": "production",
            "BILLING_STRIPE_RATE": "10000",
            "BILLING_LOG_LEVEL": "info",
            "BILLING_CONFIG": str(self.ground.settings_file),
            "BILLING_HEALTH_DIRECTORY": str(self.ground.servers.directory / "health"),
            "BILLING_CREW_CAPTURES": str(self.in_flight // self.processes),
            "BILLING_WORKERS_CAPTURES": str(self.processes),
            **self._more(),
        }
        return self.ground.spawn(
            f"{self.name}-{role}-{uuid4().hex[:6]}", [*self.program, role, *arguments], **environment
        )

    def _more(self) -> dict[str, str]:
        """Settings beside those."""
        return {}

    def replace_killed(self) -> None:
        """Restart it, as a process manager does."""
        self.roles["worker"] = [
            self._spawn("worker", "captures") if child.poll() is not None else child for child in self.roles["worker"]
        ]

    def ask(self, count: int) -> Asked:
        with transaction(self._engine) as session:
            ids = [
                billing.request_capture(
                    session,
                    payment_intent=f"pi_{uuid4().hex}",
                    amount=billing.Money(AMOUNT, "USD"),
                    request_id=f"order-{uuid4().hex}",
                    authorization=billing.Authorization(AMOUNT, "USD", None),
                ).capture_id
                for _ in range(count)
            ]
            transaction_id = session.scalar(text("SELECT pg_current_xact_id()::xid::text"))
        return Asked([str(one) for one in ids], str(transaction_id))

    def at_rest(self) -> bool:
        return not self.ground.one("SELECT count(*) FROM billing.facts WHERE planned_version IS NULL")[0]

    def stop(self) -> None:
        super().stop()
        self._engine.dispose()

    @property
    def _application(self) -> str:
        return "billing-worker-captures"


@dataclass
class Measured(Ours):
    """Ours with metrics on, and each of its processes scraped three times as often as deploy/prometheus asks.

    It is measured beside `Ours` alone, and has a Redis of its own: a bell must not ring for the one that is stopped.
    """

    name = "measured"
    EVERY_S = 5.0
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        super().start()
        for child in (child for children in self.roles.values() for child in children):
            child.wait_for_output("metrics.served", timeout_s=60)
            (line,) = [line for line in child.output().splitlines() if '"metrics.served"' in line]
            url = f"http://127.0.0.1:{json.loads(line)['port']}/metrics"
            threading.Thread(target=self._scrape, args=(url,), daemon=True).start()

    def _more(self) -> dict[str, str]:
        redis_url = make_url(self.ground.servers.environment["REDIS_URL"]).set(database="1")
        return {"BILLING_METRICS_PORT": "0", "REDIS_URL": redis_url.render_as_string(hide_password=False)}

    def stop(self) -> None:
        self._over.set()
        super().stop()

    def _scrape(self, url: str) -> None:
        while not self._over.wait(self.EVERY_S):
            # While this side rests, its processes are stopped and do not answer.
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - our own
                answer.read()


@dataclass
class Bare(Side):
    """What baseline, rival and floor share: a table of their own, and ids handed over after its commit."""

    module = ""

    def start(self) -> None:
        self.roles = {"worker": [self._spawn() for _ in range(self.processes)]}
        for child in self.roles["worker"]:
            child.wait_for_output("started", timeout_s=60)

    def _spawn(self) -> Child:
        threads = str(self.in_flight // self.processes)
        name = f"{self.name}-{uuid4().hex[:6]}"
        # Not `-m`: Huey finds a task by its module's name, which must be the same here and in the process that
        # enqueues.
        program = ["-c", f"from bench.{self.module} import main; main()", threads]
        return self.ground.spawn(name, program, BENCH_SIDE=self.name, BENCH_THREADS=threads)

    def ask(self, count: int) -> Asked:
        ids = [f"bench_{uuid4().hex}" for _ in range(count)]
        with self.ground.postgres.transaction():
            self.ground.postgres.execute(
                "INSERT INTO bench.captures (id, payment_intent, amount_minor, state)"
                " SELECT id, 'pi_' || id, %s, 'requested' FROM unnest(%s::text[]) AS id",
                (AMOUNT, ids),
            )
            (transaction_id,) = self.ground.one("SELECT pg_current_xact_id()::xid::text")
        self.enqueue(ids)
        return Asked(ids, transaction_id)

    @abstractmethod
    def enqueue(self, ids: list[str]) -> None: ...


@dataclass
class Baseline(Bare):
    """One process per call in flight, because a fork worker makes one call at a time."""

    name = "baseline"
    module = "rq_worker"

    def enqueue(self, ids: list[str]) -> None:
        from bench import rq_worker  # noqa: PLC0415 - reads the environment when it is imported

        for capture_id in ids:
            rq_worker.queue(self.ground.redis).enqueue("bench.rq_worker.take", capture_id)


@dataclass
class Rival(Bare):
    name = "rival"
    module = "huey_worker"

    def enqueue(self, ids: list[str]) -> None:
        from bench import huey_worker  # noqa: PLC0415 - reads the environment when it is imported

        for capture_id in ids:
            huey_worker.take(capture_id)


@dataclass
class Floor(Bare):
    name = "floor"
    module = "floor_worker"

    def enqueue(self, ids: list[str]) -> None:
        # In parts, so that several processes share a backlog.
        for first in range(0, len(ids), 16):
            self.ground.redis.rpush("bench:floor", json.dumps(ids[first : first + 16]))


SIDES: tuple[type[Side], ...] = (Ours, Baseline, Rival, Floor)


def settled(side: Side, ids: Sequence[str], within_s: float = 120.0) -> None:
    wait_until(lambda: side.stored(ids) == len(ids) and side.at_rest(), f"{side.name} to store {len(ids)}", within_s)
    time.sleep(0.05)
