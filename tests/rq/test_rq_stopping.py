"""A worker that is told to stop finishes its shift, loses no bell and exits with 0."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable

import redis
from bell_tower import ENVIRONMENT, Worker, wait_until

from jobs.rq import bells

# BILLING_TEST_RESTARTS=100 for a long night.
RESTARTS = int(os.environ.get("BILLING_TEST_RESTARTS", "10"))
SEED = int(os.environ.get("BILLING_TEST_SEED", "20261129"))


def test_a_storm_of_stops_loses_no_bell(
    hire: Callable[..., Worker], client: redis.Redis, keys: Callable[[str], set[str]]
) -> None:
    rng = random.Random(SEED)
    worker = hire(start=False)
    rung = 0
    over = threading.Event()

    def keep_ringing() -> None:
        nonlocal rung
        while not over.is_set():
            if bells.bells_waiting(client, ENVIRONMENT, "captures") < 10:
                bells.ring(client, ENVIRONMENT, "captures", 5)
                rung += 5
            over.wait(0.001)

    ringing = threading.Thread(target=keep_ringing)
    ringing.start()
    try:
        for _ in range(RESTARTS):
            done = len(worker.shifts())
            worker.start()
            worker.wait_for_shifts(done + rng.randint(1, 20))
            # Strike anywhere between pop, bookkeeping and shift.
            strike_at = time.monotonic() + rng.random() * 0.02
            while time.monotonic() < strike_at:
                pass
            for _ in range(rng.randint(1, 3)):
                worker.signal(rng.choice([signal.SIGTERM, signal.SIGINT]))
            assert worker.exit_code() == 0
    finally:
        over.set()
        ringing.join()

    waiting = bells.bells_waiting(client, ENVIRONMENT, "captures")
    assert len(worker.shifts("started")) == len(worker.shifts()) == rung - waiting
    # Neither in RQ's intermediate list, nor started for ever; what waits is all there is.
    assert not keys("*:intermediate*")
    assert not keys("*:wip:*")
    assert len(keys("*:job:*")) == waiting
    assert "library.reported" not in worker.log()
    print(f"{rung} bells, {RESTARTS} restarts, {waiting} waiting")


def test_an_idle_worker_shows_that_it_lives_and_sees_a_stop_within_a_second(worker: Worker) -> None:
    assert worker.heartbeats()
    worker.signal()
    assert worker.exit_code() == 0
    # Between two looks for a stop it waits for a bell, and for nothing else.
    bells.choose_prefix(ENVIRONMENT)
    from jobs.rq.overrides import BLOCK_S

    assert BLOCK_S <= 1


def test_a_second_signal_changes_nothing_for_the_running_shift(worker: Worker, ring: Callable[..., None]) -> None:
    worker.hold.touch()
    ring()
    worker.wait_for_shifts(1, "started")
    worker.signal()
    # RQ ignores a second signal within a second of the first, and ends the process at a later one.
    first_at = time.monotonic()
    wait_until(lambda: time.monotonic() - first_at > 1.2, "a second later")
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGINT)
    wait_until(lambda: time.monotonic() - first_at > 1.5, "still a little later")
    assert worker.alive()
    worker.hold.unlink()
    assert worker.exit_code() == 0
    (end,) = worker.shifts()
    assert end.endswith("stop_requested=True")


def test_a_bell_rung_after_the_stop_waits_for_another_worker(
    hire: Callable[..., Worker], ring: Callable[..., None], client: redis.Redis
) -> None:
    first = hire()
    first.hold.touch()
    ring()
    first.wait_for_shifts(1, "started")
    first.signal()
    ring()
    first.hold.unlink()
    assert first.exit_code() == 0
    assert bells.bells_waiting(client, ENVIRONMENT, "captures") == 1
    hire().wait_for_shifts(1)


def test_a_loop_that_ends_by_itself_is_not_a_success(worker: Worker, client: redis.Redis) -> None:
    # RQ leaves its loop for anything that it does not expect, and its command exits with 0.
    client.set(f"{bells.key_prefix(ENVIRONMENT)}:queue:captures", "not a list")
    assert worker.exit_code() == 1
    assert "library.reported" in worker.log()


def test_no_alarm_strikes_a_shift_that_outlasts_its_bell(
    hire: Callable[..., Worker], ring: Callable[..., None]
) -> None:
    """[53]"""
    worker = hire(bell_timeout_s=1)
    worker.hold.touch()
    ring()
    worker.wait_for_shifts(1, "started")
    started_at = time.monotonic()
    wait_until(lambda: time.monotonic() - started_at > 1.3, "the bell has timed out")
    worker.hold.unlink()
    worker.wait_for_shifts(1)
    assert "shift.broken" not in worker.log()


def test_a_broken_shift_costs_only_itself_and_tells_redis_nothing(
    worker: Worker, ring: Callable[..., None], client: redis.Redis
) -> None:
    (worker.folder / "break").touch()
    ring()
    wait_until(lambda: "shift.broken" in worker.log(), "the broken shift is logged")
    assert "RuntimeError" in worker.log()
    assert "the secret of this shift" not in worker.log()
    (worker.folder / "break").unlink()
    from rq.job import Job

    (job_key,) = client.scan_iter(f"{bells.key_prefix(ENVIRONMENT)}:job:*")
    wait_until(lambda: client.hget(job_key, "status") == b"failed", "RQ has written it down")
    broken = Job.fetch(job_key.decode().rpartition(":")[2], client, "json").latest_result()
    assert broken is not None
    assert broken.exc_string == "see the worker's log"
    ring()
    worker.wait_for_shifts(1)
