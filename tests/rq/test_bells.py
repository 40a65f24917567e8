"""Ringing and counting bells, the stamp, the key prefix, and what a bell costs."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable

import pytest
import redis
from bell_tower import ENVIRONMENT, PREFIX, Valkey, Worker, wait_until
from service import PATIENCE_S

from jobs.rq import bells
from jobs.rq.workers import run_worker


def test_bells_are_counted_until_they_are_heard(
    client: redis.Redis, hire: Callable[..., Worker], ring: Callable[..., None]
) -> None:
    ring(0)
    assert bells.bells_waiting(client, ENVIRONMENT, "captures") == 0
    ring(3)
    ring(2, queue="invoices")
    assert bells.bells_waiting(client, ENVIRONMENT, "captures") == 3
    worker = hire()
    worker.wait_for_shifts(3)
    assert bells.bells_waiting(client, ENVIRONMENT, "captures") == 0
    assert bells.bells_waiting(client, ENVIRONMENT, "invoices") == 2


def test_an_answered_bell_leaves_no_key_behind(
    worker: Worker, ring: Callable[..., None], keys: Callable[..., set[str]]
) -> None:
    ring()
    worker.wait_for_shifts(1)
    wait_until(lambda: not keys("*bell_*"), "the first bell is gone")
    before = keys()
    ring(20)
    worker.wait_for_shifts(21)
    wait_until(lambda: keys() == before, f"only {before} is left")


def test_an_idle_worker_takes_its_shift_at_once(worker: Worker, ring: Callable[..., None]) -> None:
    bells.choose_prefix(ENVIRONMENT)
    from jobs.rq.overrides import BLOCK_S

    waits_ms = []
    for count in range(1, 31):
        rung_at = time.monotonic_ns()
        ring()
        worker.wait_for_shifts(count)
        waits_ms.append((int(worker.shifts("started")[-1].split()[2]) - rung_at) / 1e6)
    print(f"ring to shift: median {statistics.median(waits_ms):.1f} ms, worst {max(waits_ms):.1f} ms")
    # A worker that is not woken by the bell itself finds it at the end of its wait.
    assert sorted(waits_ms)[len(waits_ms) // 4] < BLOCK_S * 1000 / 2


def test_no_key_lies_outside_the_environment(valkey: Valkey, client: redis.Redis, hire: Callable[..., Worker]) -> None:
    # Redis itself is the witness: these credentials reach nothing else, and it logs every attempt.
    reach = "~billing-test:* ~billing:stamp"
    may = "+@all -@dangerous +client|setname +client|info +info"
    client.execute_command(*f"ACL SETUSER test reset on >secret {reach} {may}".split())  # type: ignore[no-untyped-call]
    url = valkey.url.replace(f":{valkey.password}@", "test:secret@")
    with bells.open_redis(url, PATIENCE_S) as limited:
        bells.write_stamp(limited, ENVIRONMENT)
        worker = hire(url=url)
        worker.hold.touch()
        bells.ring(limited, ENVIRONMENT, "captures", 2)
        worker.wait_for_shifts(1, "started")
        assert bells.bells_waiting(limited, ENVIRONMENT, "captures") == 1
        worker.hold.unlink()
        worker.wait_for_shifts(2)
        worker.signal()
        assert worker.exit_code() == 0
        assert client.acl_log() == []
        # The control: the witness is awake.
        with pytest.raises(redis.exceptions.NoPermissionError):
            limited.get("rq:queues")
        assert len(client.acl_log()) == 1
    assert {key for key in client.scan_iter() if not key.startswith(PREFIX.encode())} == {b"billing:stamp"}


def test_one_process_rings_for_one_environment_only(client: redis.Redis, ring: Callable[..., None]) -> None:
    ring()
    with pytest.raises(bells.WrongEnvironment):
        bells.ring(client, "production", "captures")
    with pytest.raises(bells.WrongEnvironment):
        bells.choose_prefix("production")
    ring()
    assert not list(client.scan_iter("billing-production:*"))


def test_the_first_stamp_stays(client: redis.Redis) -> None:
    bells.check_stamp(client, "test")
    assert client.get("billing:stamp") is None
    bells.write_stamp(client, "test")
    bells.write_stamp(client, "test")
    bells.check_stamp(client, "test")
    for look in (bells.write_stamp, bells.check_stamp):
        with pytest.raises(bells.WrongEnvironment) as refusal:
            look(client, "production")
        assert (refusal.value.found, refusal.value.expected) == ("test", "production")
        assert "\n" not in str(refusal.value)
    assert client.get("billing:stamp") == b"test"


def test_a_worker_does_not_start_on_the_redis_of_another_environment(valkey: Valkey, client: redis.Redis) -> None:
    bells.write_stamp(client, "production")
    with pytest.raises(bells.WrongEnvironment):
        run_worker(valkey.url, ENVIRONMENT, "captures", lambda control: None)
    assert list(client.scan_iter()) == [b"billing:stamp"]


def test_a_relay_does_not_wait_for_a_silent_redis(valkey: Valkey) -> None:
    valkey.signal(signal.SIGSTOP)
    assert bells.RELAY_TIMEOUT_S <= 1
    with bells.open_redis(valkey.url) as client, pytest.raises(redis.TimeoutError):
        bells.ring(client, ENVIRONMENT, "captures")
    valkey.signal(signal.SIGCONT)
