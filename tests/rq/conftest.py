"""Fixtures of these tests: a Valkey of their own (they kill it), a client, and workers to hire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from bell_tower import ENVIRONMENT, Valkey, Worker
from service import PATIENCE_S

from jobs.local.server import free_port
from jobs.rq import bells


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    # Not one of those that outgoing connections get: it is killed, and started again on the same port.
    server = Valkey(tmp_path, free_port())
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def client(valkey: Valkey) -> Iterator[redis.Redis]:
    """It waits where a relay would give up."""
    with bells.open_redis(valkey.url, PATIENCE_S) as client:
        yield client


@pytest.fixture
def hire(tmp_path: Path, valkey: Valkey) -> Iterator[Callable[..., Worker]]:
    """Make a worker; it is started unless told otherwise, and killed at the end of the test."""
    hired: list[Worker] = []

    def hire(url: str | None = None, start: bool = True, bell_timeout_s: int = bells.BELL_TIMEOUT_S) -> Worker:
        worker = Worker(tmp_path / f"worker-{len(hired)}", url or valkey.url, bell_timeout_s=bell_timeout_s)
        hired.append(worker)
        if start:
            worker.start()
        return worker

    yield hire
    for worker in hired:
        worker.kill()


@pytest.fixture
def worker(hire: Callable[..., Worker]) -> Worker:
    """A worker on the queue `captures`, started."""
    return hire()


@pytest.fixture
def ring(client: redis.Redis) -> Callable[..., None]:
    def ring(count: int = 1, queue: str = "captures") -> None:
        bells.ring(client, ENVIRONMENT, queue, count)

    return ring


@pytest.fixture
def keys(client: redis.Redis) -> Callable[..., set[str]]:
    """The keys of this Redis that match a pattern."""

    def keys(pattern: str = "*") -> set[str]:
        return {key.decode() for key in client.scan_iter(pattern)}

    return keys
