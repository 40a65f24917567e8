"""The experiments: throughput and CPU, light load, idling, and a worker that is killed."""

import json
import os
import random
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from redis import Redis

from bench import bare_job, meter
from bench.sides import ENVIRONMENT, SIDES, Ground, Ours, Side, settled
from jobs.access import migrate
from jobs.local.servers import LocalServers
from jobs.local.supervisor import Child, Supervisor, wait_until

RESTING_S = 2.0
"""After its last capture our shift lingers for a second; only then a worker idles."""


@dataclass(frozen=True, slots=True)
class Responder:
    url: str
    child: Child

    def reset(self, delay_ms: int) -> None:
        self._ask(f"/bench/reset?{delay_ms}", b"")

    def scores(self) -> dict[str, Any]:
        return self._ask("/bench/scores", None)

    def _ask(self, path: str, body: bytes | None) -> dict[str, Any]:
        with urllib.request.urlopen(self.url + path, body, timeout=10) as answer:  # noqa: S310 - our own http
            return json.load(answer)


@dataclass(slots=True)
class Run:
    """One side's turn. CPU is in milliseconds per capture, by role."""

    per_second: float
    cpu_ms: dict[str, float]
    connections: int
    memory_mb: dict[str, float]
    together: float
    """Answers stored by one commit, on average."""

    @property
    def cpu_ms_whole(self) -> float:
        """All roles but the provider."""
        return sum(ms for role, ms in self.cpu_ms.items() if role != "responder")


@dataclass(slots=True)
class Load:
    """One kind of load: its name, and for each side the runs of all rounds."""

    name: str
    in_flight: int
    delay_ms: int
    processes: int
    runs: dict[str, list[Run]] = field(default_factory=dict)

    @property
    def ideal(self) -> float:
        return self.in_flight * 1000 / self.delay_ms


@dataclass(slots=True)
class Bench:
    ground: Ground
    responder: Responder
    progress: Any

    @contextmanager
    def sides(self, in_flight: int, processes: int = 1, kinds: Sequence[type[Side]] = SIDES) -> Iterator[list[Side]]:
        """Started, warmed up, and stopped for now."""
        with ExitStack() as stack:
            running: list[Side] = []
            for kind in kinds:
                side = kind(self.ground, in_flight, processes)
                stack.callback(side.stop)
                side.start()
                self.responder.reset(30)
                settled(side, side.ask(in_flight).ids)
                side.pause()
                running.append(side)
            yield running

    def throughput(self, side: Side, count: int, delay_ms: int) -> Run:
        """A backlog of `count` captures, from the first call's arrival to the commit of the last answer."""
        self.responder.reset(delay_ms)
        ids = [one for first in range(0, count, 500) for one in side.ask(min(500, count - first)).ids]
        before = self._cpu(side)
        side.resume()
        wait_until(lambda: self._answered() >= count / 2, f"{side.name} to be half-way", 120)
        connections = side.connections()
        memory = {role: sum(meter.memory_mb(c.pid) for c in children) for role, children in side.roles.items()}
        wait_until(lambda: self._answered() >= count, f"{side.name} to make {count} calls", 120)
        settled(side, ids)
        after = self._cpu(side)
        side.pause()
        scores = self.responder.scores()
        if scores["repeated_at"] or scores["answered"] != count:
            raise RuntimeError(f"{side.name}: {scores['answered']} calls for {count} captures")
        took_s = max(side.stored_at(ids)) - scores["first_at"]
        cpu = {role: (after[role] - before[role]) / count for role in after}
        return Run(count / took_s, cpu, connections, memory, side.together(ids))

    def latency(self, side: Side, count: int, per_second: float, delay_ms: int) -> list[float]:
        """Milliseconds beyond the provider's own, from the caller's commit to the commit that stores the answer."""
        self.responder.reset(delay_ms)
        side.resume()
        asked = []
        for _ in range(count):
            # At random times, so not in step with polling.
            time.sleep(random.uniform(0.5, 1.5) / per_second)  # noqa: S311
            asked.append(side.ask(1))
        settled(side, [each.ids[0] for each in asked])
        side.pause()
        began = [self.ground.committed_at(each.transaction_id) for each in asked]
        stored = side.stored_at([each.ids[0] for each in asked])
        return [(end - start) * 1000 - delay_ms for start, end in zip(began, stored, strict=True)]

    def idling(self, side: Side, seconds: float) -> dict[str, float]:
        """CPU-milliseconds per second with nothing to do, by role."""
        side.resume()
        time.sleep(RESTING_S)
        before, began = self._cpu(side, meter.cpu_ms_exactly), time.monotonic()
        time.sleep(seconds)
        after, took_s = self._cpu(side, meter.cpu_ms_exactly), time.monotonic() - began
        side.pause()
        return {role: (after[role] - before[role]) / took_s for role in after if role != "responder"}

    def recovery(self, ours: Ours, delay_ms: int) -> float:
        """Seconds from `kill -9` of a worker with calls in flight, replaced at once, until all of them are repeated."""
        self.responder.reset(delay_ms)
        ours.resume()
        ids = ours.ask(ours.in_flight * 3).ids
        wait_until(lambda: self._answered() >= ours.in_flight, "the first answers")
        killed_at = time.time()
        ours.roles["worker"][0].kill()
        ours.replace_killed()
        settled(ours, ids)
        ours.pause()
        repeated_at = self.responder.scores()["repeated_at"]
        if not repeated_at:
            raise RuntimeError("the kill met no call in flight")
        return max(repeated_at) - killed_at

    def _answered(self) -> int:
        time.sleep(0.05)
        return self.responder.scores()["answered"]

    def _cpu(self, side: Side, read: Any = meter.cpu_ms) -> dict[str, float]:
        servers = self.ground.servers
        roles = {role: sum(read(child.pid) for child in children) for role, children in side.roles.items()}
        return roles | {
            "postgres": read(servers.postgres.child.pid),
            "redis": read(servers.valkey.child.pid),
            "responder": read(self.responder.child.pid),
        }


@contextmanager
def bench(progress: Any) -> Iterator[Bench]:
    """Start the servers and the scripted provider; remove everything at the end."""
    with Supervisor() as own:
        child = own.spawn("responder", [sys.executable, "-m", "bench.responder"])
        child.wait_for_output("listening on ")
        url = "http://127.0.0.1:" + child.output().split("listening on ")[1].split()[0]
        with LocalServers(given={"STRIPE_API_BASE": url}, durable=True) as servers:
            database_url, redis_url = servers.environment["DATABASE_URL"], servers.environment["REDIS_URL"]
            migrate.upgrade(database_url, environment=ENVIRONMENT, livemode=False)
            with psycopg.connect(database_url, autocommit=True) as postgres:
                postgres.execute("ALTER SYSTEM SET track_commit_timestamp = on")
            servers.postgres.restart()
            with psycopg.connect(database_url, autocommit=True) as postgres, Redis.from_url(redis_url) as redis:
                postgres.execute(bare_job.TABLE)
                # Enqueuing a job imports its module, which reads the servers' addresses.
                os.environ.update(servers.environment, BENCH_SIDE="caller", BENCH_THREADS="4")
                yield Bench(Ground(servers, postgres, redis), Responder(url, child), progress)
