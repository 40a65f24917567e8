"""Long-running processes end as they should however often they are asked to, and go on without a log."""

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import BILLING
from proxy import Proxy
from service import PATIENCE_S, Service, eventually

from jobs.local.supervisor import Child
from jobs.process.health import Health, State

NOWHERE = {"DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:1/nowhere", "BILLING_ARCHIVE_BUCKET": "none"}
PROCESSES = {
    "relay": (("relay",), {}, State.BEATING),
    "worker-captures": (("worker", "captures"), {}, State.BEATING),
    "web": (("serve", "--port", "0"), {"BILLING_WEBHOOK_SECRETS": "env:SIGNED"}, State.BEATING),
    "archiver": (("archive", "run"), NOWHERE, State.WAITING),
}
FULL = "import os, sys; os.dup2(os.open('/dev/full', os.O_WRONLY), 2); os.execv(sys.argv[1], sys.argv[1:])"
GONE = "import os, sys; read, write = os.pipe(); os.close(read); os.dup2(write, 2); os.execv(sys.argv[1], sys.argv[1:])"


def signals() -> Iterator[tuple[signal.Signals, float]]:
    """Both, again and again: at first as fast as it goes, so that some come while another is handled."""
    for number, sent in zip(itertools.count(), itertools.cycle((signal.SIGTERM, signal.SIGINT))):
        yield sent, 0.0 if number < 5000 else 0.001


@pytest.mark.parametrize("role", PROCESSES)
def test_a_process_that_is_asked_to_stop_again_and_again_until_it_has_ended_ends_with_0(
    service: Service, spawn: Callable[..., Child], stands: Callable[[str], Health], role: str
) -> None:
    arguments, settings, state = PROCESSES[role]
    process = spawn(*arguments, program=BILLING, SIGNED="whsec_aaaaaaaaaaaaaaaaaaaa", **settings)
    eventually(lambda: stands(role).state is state, "its loop turns")
    give_up = time.monotonic() + PATIENCE_S
    for number, pause_s in signals():
        if process.poll() is not None or time.monotonic() > give_up:
            break
        process.send(number)
        time.sleep(pause_s)
    assert process.poll() == 0, process.output()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="what stands for a full disk is a file of Linux's")
@pytest.mark.parametrize("log", [FULL, GONE], ids=["its-disk-is-full", "its-reader-has-gone"])
def test_a_log_that_takes_no_line_stops_no_capture(service: Service, spawn: Callable[..., Child], log: str) -> None:
    settings = {"PYTHONPATH": os.getcwd(), "BILLING_LOG_LEVEL": "info"}
    program = (sys.executable, "-c", log, *BILLING)
    processes = [spawn(*role, program=program, **settings) for role in (("relay",), ("worker", "captures"))]
    captures = [service.ask_for_capture(intent) for intent in service.intents(3)]

    def taken() -> bool:
        assert [process.poll() for process in processes] == [None, None]
        return {service.status(capture).state for capture in captures} == {"captured"}

    eventually(taken, lambda: f"all are captured: {service.how_they_stand(captures)}")
    assert [service.captured(capture) for capture in captures] == [{1999: 1}] * 3


def test_a_process_that_can_write_no_heartbeat_works_and_ends_as_usual(
    service: Service, spawn: Callable[..., Child]
) -> None:
    relay = spawn("relay", BILLING_HEALTH_DIRECTORY="/dev/null/health")
    service.ask_for_capture()
    eventually(lambda: service.states_of_work("captures"), "it is planned")
    relay.send(signal.SIGTERM)
    assert relay.wait() == 0, relay.output()


def test_what_is_archived_once_ends_at_once_when_it_is_asked_to(
    spawn: Callable[..., Child], postgres: Proxy, through: dict[str, str]
) -> None:
    postgres.hang()
    archiver = spawn("archive", "run", "--once", BILLING_ARCHIVE_BUCKET="none", **through)
    eventually(lambda: postgres.accepted, "it waits for Postgres")
    archiver.send(signal.SIGTERM)
    assert archiver.wait() == -signal.SIGTERM
