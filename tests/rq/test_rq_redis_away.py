"""Redis may be killed, flushed or silent at any moment: workers live on, and answer the next bell."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from bell_tower import ENVIRONMENT, PREFIX, Valkey, Worker, wait_until

from jobs.rq import bells


def away(valkey: Valkey, seconds: float = 1.5) -> None:
    """Kill Redis and start it again, empty."""
    valkey.kill()
    gone_at = time.monotonic()
    wait_until(lambda: time.monotonic() - gone_at > seconds, "Redis was away")
    valkey.start()


def test_an_idle_worker_survives_the_death_of_redis(valkey: Valkey, worker: Worker, ring: Callable[..., None]) -> None:
    ring()
    worker.wait_for_shifts(1)
    away(valkey)
    ring()
    worker.wait_for_shifts(2)
    assert worker.log().count("redis.lost") == worker.log().count("redis.found") == 1
    worker.signal()
    assert worker.exit_code() == 0


def test_a_worker_that_loses_redis_between_two_looks_of_its_start_waits_for_it(
    valkey: Valkey, hire: Callable[..., Worker], ring: Callable[..., None]
) -> None:
    """Its process found Redis ready, and then it was killed."""
    valkey.kill()
    worker = hire(start=False)
    worker.begin()
    wait_until(lambda: "redis.lost" in worker.log(), "it has noticed")
    valkey.start()
    ring()
    worker.wait_for_shifts(1)
    worker.signal()
    assert worker.exit_code() == 0
    assert "Traceback" not in worker.log()


REFUSALS = {
    "out-of-memory": ({"maxmemory": "1"}, {"maxmemory": "0"}),
    "a-replica": ({"replicaof": "127.0.0.1 1"}, {"replicaof": "no one"}),
    "another-password": ({"requirepass": "another"}, {"requirepass": ""}),
}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("moment", ["while-it-waits", "in-a-shift"])
def test_a_redis_that_takes_no_writes_ends_no_worker(
    valkey: Valkey,
    client: redis.Redis,
    worker: Worker,
    ring: Callable[..., None],
    moment: str,
    refusal: str,
) -> None:
    def say(words: dict[str, str]) -> None:
        for name, value in words.items():
            if name == "replicaof":
                client.replicaof(*value.split())
            else:
                client.config_set(name, value or valkey.password)
                client.client_kill_filter(_type="normal", skipme=True)

    client.set("filling", "x" * 1000)
    refuses, takes = REFUSALS[refusal]
    if moment == "in-a-shift":
        worker.hold.touch()
    ring()
    worker.wait_for_shifts(1, "started" if moment == "in-a-shift" else "ended")
    say(refuses)
    wait_until(lambda: "redis.lost" in worker.log(), "it has noticed")
    if moment == "in-a-shift":
        worker.hold.unlink()
        worker.wait_for_shifts(1)
    say(takes)
    wait_until(lambda: "redis.found" in worker.log(), "it goes on")
    shifts = len(worker.shifts())
    ring()
    worker.wait_for_shifts(shifts + 1)
    worker.signal()
    assert worker.exit_code() == 0
    assert "Traceback" not in worker.log()


@pytest.mark.parametrize("back", ["during-the-shift", "after-the-shift"])
def test_a_shift_survives_the_death_of_redis(
    valkey: Valkey, worker: Worker, ring: Callable[..., None], back: str
) -> None:
    worker.hold.touch()
    ring()
    worker.wait_for_shifts(1, "started")
    if back == "during-the-shift":
        away(valkey)
        worker.hold.unlink()
        worker.wait_for_shifts(1)
    else:
        valkey.kill()
        worker.hold.unlink()
        worker.wait_for_shifts(1)
        away(valkey, seconds=0.5)
    ring()
    worker.wait_for_shifts(2)
    assert "shift.broken" not in worker.log()
    worker.signal()
    assert worker.exit_code() == 0


@pytest.mark.parametrize("moment", ["idle", "in-a-shift"])
def test_a_stop_is_heard_while_redis_is_gone(
    valkey: Valkey, worker: Worker, ring: Callable[..., None], moment: str
) -> None:
    if moment == "in-a-shift":
        worker.hold.touch()
        ring()
        worker.wait_for_shifts(1, "started")
    valkey.kill()
    wait_until(lambda: "redis.lost" in worker.log(), "the loss is noticed")
    assert moment == "in-a-shift" or worker.heartbeats()
    worker.signal()
    worker.hold.unlink(missing_ok=True)
    assert worker.exit_code() == 0
    assert "Traceback" not in worker.log()


def test_a_silent_redis_delays_a_shift_by_three_seconds_at_most(
    valkey: Valkey, worker: Worker, ring: Callable[..., None]
) -> None:
    worker.hold.touch()
    ring()
    worker.wait_for_shifts(1, "started")
    valkey.signal(signal.SIGSTOP)
    worker.wait_for_shifts(1, "waited")
    valkey.signal(signal.SIGCONT)
    worker.hold.unlink()
    worker.wait_for_shifts(1)
    # A second try would have taken 6 s. Of several waits one may have been on a machine that stood still.
    assert min(float(line.split()[1]) for line in worker.shifts("waited")) < 6
    ring()
    worker.wait_for_shifts(2)


def test_rq_does_not_prolong_the_patience_of_a_client(valkey: Valkey) -> None:
    bells.choose_prefix(ENVIRONMENT)
    from jobs.rq.overrides import ShiftWorker

    with bells.open_redis(valkey.url) as client:
        before = client.connection_pool.connection_kwargs["socket_timeout"]
        ShiftWorker(client, "captures", lambda worker: None)
        assert client.connection_pool.connection_kwargs["socket_timeout"] == before == bells.RELAY_TIMEOUT_S


def test_an_idle_worker_survives_a_flush(client: redis.Redis, worker: Worker, ring: Callable[..., None]) -> None:
    client.flushall()
    ring()
    worker.wait_for_shifts(1)


def test_a_shift_survives_a_flush_and_leaves_nothing_for_ever(
    client: redis.Redis, worker: Worker, ring: Callable[..., None], keys: Callable[[str], set[str]]
) -> None:
    worker.hold.touch()
    ring()
    worker.wait_for_shifts(1, "started")
    client.flushall()
    worker.hold.unlink()
    worker.wait_for_shifts(1)
    wait_until(lambda: "bell.forgotten" in worker.log(), "the loss of the bell is noticed")
    ring()
    worker.wait_for_shifts(2)
    assert "shift.broken" not in worker.log()

    def ends() -> bool:
        remains = keys(f"{PREFIX}rq3:job:*") | keys(f"{PREFIX}rq3:results:*") | keys(f"{PREFIX}rq3:exec*")
        # -2: gone by now; -1 would be for ever.
        return all(ttl == -2 or 0 <= ttl <= 90 for ttl in map(client.ttl, remains))

    wait_until(ends, "the worker has put its bell away")


def test_what_a_killed_worker_leaves_is_swept_up(
    client: redis.Redis, hire: Callable[..., Worker], ring: Callable[..., None], keys: Callable[..., set[str]]
) -> None:
    killed = hire()
    killed.hold.touch()
    ring()
    killed.wait_for_shifts(1, "started")
    killed.kill()
    (job_key,) = keys(f"{PREFIX}rq3:job:*")
    assert client.ttl(job_key) == -1, "RQ keeps it until somebody sweeps"
    # As if its last sign of life were 90 s ago.
    wip = f"{PREFIX}rq3:wip:captures"
    entries: list[Any] = client.zrange(wip, 0, -1)
    client.zadd(wip, dict.fromkeys(entries, 1))
    successor = hire()
    wait_until(lambda: 0 < client.ttl(job_key) <= 60, "its bell expires")
    assert not keys("*:wip:*")
    ring()
    successor.wait_for_shifts(1)
    assert len(successor.shifts("started")) == 1, "it is rung again by the relay, not by RQ"


def test_a_long_shift_keeps_the_worker_and_its_bell_alive(
    client: redis.Redis, worker: Worker, ring: Callable[..., None], keys: Callable[[str], set[str]]
) -> None:
    worker.hold.touch()
    ring()
    worker.wait_for_shifts(1, "started")
    (worker_key,) = [key for key in keys(f"{PREFIX}rq3:worker:*") if not key.endswith(":executions")]
    (execution_key,) = keys(f"{PREFIX}rq3:execution:*")
    # What a killed worker leaves is gone soon, though a shift may be long.
    assert client.ttl(worker_key) <= 90
    assert client.ttl(execution_key) <= 90
    # As if this shift had outlasted RQ's patience.
    client.pexpire(worker_key, 300)
    client.pexpire(execution_key, 300)
    wait_until(lambda: client.ttl(worker_key) > 60, "the worker's key lives on")
    wait_until(lambda: client.ttl(execution_key) > 60, "the execution's key lives on")
    client.delete(worker_key)
    wait_until(lambda: client.hget(worker_key, "queues") == b"captures", "the worker's key is written anew")
    worker.hold.unlink()
    worker.wait_for_shifts(1)
