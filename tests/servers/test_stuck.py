"""A process whose loop stands still ends itself with a reason, and the next one finishes what it had in hand."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from proxy import Proxy
from service import Service, eventually

from archive.s3.store import Store
from billing import database
from billing.timing import SHORT
from jobs.local.seaweed import SeaweedFS
from jobs.local.supervisor import Child
from jobs.process.health import STUCK_STATUS, Health, Heartbeat, State, heartbeat_file

PROGRAM = Path(__file__).with_name("stuck_process.py")


def places(process: Child) -> list[str]:
    """Where its main thread stood, by its last words."""
    (stuck,) = [line for line in map(json.loads, process.output().splitlines()) if line["event"] == "process.stuck"]
    assert stuck["level"] == "critical"
    return list(stuck["at"])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    started = []

    def start(stuck_after_s: float, how: str) -> "subprocess.Popen[bytes]":
        arguments = [sys.executable, str(PROGRAM), str(tmp_path / "health"), str(stuck_after_s), how]
        started.append(
            subprocess.Popen(arguments, stderr=subprocess.PIPE, cwd=PROGRAM.parents[2], env={"PYTHONPATH": "."})
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_relay_and_a_worker_whose_postgres_never_answers_again_end_and_nothing_is_lost(
    service: Service, spawn: Callable[..., Child], postgres: Proxy, through: dict[str, str]
) -> None:
    service.standin.add_fault("hold_after", path="/capture$", times=3)
    relay, worker = spawn("relay", **through), spawn("worker", "captures", **through)
    captures = [service.ask_for_capture(intent) for intent in service.intents(20)]
    eventually(lambda: len(service.standin.held()) == 3, "three calls are in flight")
    postgres.hang()
    service.standin.release()
    assert (relay.wait(60), worker.wait(60)) == (STUCK_STATUS, STUCK_STATUS)
    assert any(place.startswith("jobs/road/relay.py:") for place in places(relay))
    assert any(place.startswith("jobs/road/shift.py:") for place in places(worker))
    # Whatever restarts them finds a server that answers again.
    again = spawn("relay"), spawn("worker", "captures")
    eventually(
        lambda: {service.status(capture).state for capture in captures} == {"captured"},
        lambda: f"all captured: {service.how_they_stand(captures)}\n{[_as_it_is(process) for process in again]}",
    )
    assert [service.captured(capture) for capture in captures] == [{1999: 1}] * 20


def _as_it_is(process: Child) -> tuple[str, int | None, list[str]]:
    """Its exit status, if it has ended by itself, and its last words."""
    return process.name, process.poll(), process.output().splitlines()[-15:]


def test_an_archiver_whose_postgres_never_answers_again_ends(
    service: Service, spawn: Callable[..., Child], postgres: Proxy, through: dict[str, str], s3: SeaweedFS
) -> None:
    store = Store("stuck", endpoint=s3.url, region="us-east-1", access_key=s3.access_key, secret_key=s3.secret_key)
    store.set_up("test")
    store.close()
    mine = {"BILLING_ARCHIVE_BUCKET": "stuck", "S3_ENDPOINT_URL": s3.url, "BILLING_ARCHIVE_WAIT_S": "0"}
    mine |= {"BILLING_S3_ACCESS_KEY": s3.access_key, "BILLING_S3_SECRET_KEY": s3.secret_key}
    archiver = spawn("archive", "run", **through, **mine)
    eventually(lambda: postgres.received > 2000, "it asks Postgres, again and again")
    postgres.hang()
    assert archiver.wait(90) == STUCK_STATUS
    assert any(place.startswith("jobs/process/archiving.py:") for place in places(archiver))


def test_a_worker_that_waits_for_postgres_with_answers_in_hand_is_not_stuck(
    service: Service,
    spawn: Callable[..., Child],
    postgres: Proxy,
    through: dict[str, str],
    stands: Callable[[str], Health],
) -> None:
    service.standin.add_fault("hold_after", path="/capture$", times=3)
    spawn("relay")
    worker = spawn("worker", "captures", BILLING_TIMING="production", **through)
    captures = [service.ask_for_capture(intent) for intent in service.intents(3)]
    eventually(lambda: len(service.standin.held()) == 3, "three calls are in flight")
    postgres.refuse()
    service.standin.release()
    eventually(lambda: "settle.failed" in worker.output(), "it has an answer and nowhere to write it")
    heartbeats = heartbeat_file("worker-captures", str(worker.log.parent / "health"))
    for _ in range(3):
        last = heartbeats.stat().st_mtime_ns
        eventually(lambda last=last: heartbeats.stat().st_mtime_ns > last, "it beats while it waits")
    postgres.heal()
    eventually(lambda: {service.status(capture).state for capture in captures} == {"captured"}, "all captured")
    assert len(service.posts("/capture")) == 3, "no answer was thrown away"


@pytest.mark.parametrize("how", ["asleep", "writing"])
def test_a_loop_that_stands_still_ends_even_where_nobody_reads_its_log(
    start: Callable[..., "subprocess.Popen[bytes]"], how: str
) -> None:
    process = start(0.6, how)
    assert process.wait(60) == STUCK_STATUS
    if how == "asleep":
        assert process.stderr is not None
        (line,) = process.stderr.read().splitlines()
        told = json.loads(line)
        assert (told["event"], told["role"], told["after_s"]) == ("process.stuck", "relay", 0.6)
        assert any("stuck_process.py:" in place for place in told["at"])


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says how much is used")
def test_a_loop_that_stands_still_ends_even_where_there_is_no_thread_to_say_so(
    start: Callable[..., "subprocess.Popen[bytes]"],
) -> None:
    assert start(0.6, "threadless").wait(60) == STUCK_STATUS


def test_a_process_that_was_suspended_for_longer_is_not_stuck(
    start: Callable[..., "subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    process = start(2.0, "turning")
    heartbeats = heartbeat_file("relay", str(tmp_path / "health"))
    eventually(heartbeats.exists, "it beats")
    for _ in range(2):
        process.send_signal(signal.SIGSTOP)
        # Nothing of it runs; only the clocks do.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(4.0)
        process.send_signal(signal.SIGCONT)
        last = heartbeats.stat().st_mtime_ns
        eventually(lambda last=last: heartbeats.stat().st_mtime_ns > last, "it goes on beating")
        assert process.poll() is None


def test_a_peer_that_is_gone_is_noticed_before_a_lease_ends(service: Service) -> None:
    engine = database.open_engine(service.url, SHORT, name="test")
    with engine.connect() as connection:
        descriptor = connection.connection.driver_connection.fileno()  # type: ignore[union-attr]
        with socket.socket(fileno=socket.dup(descriptor)) as peer:
            assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle, every, times = (
                peer.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            assert idle + every * times < 15
            assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
    engine.dispose()
    chosen = database.open_engine(f"{service.url}?keepalives_idle=77", SHORT, name="test")
    with chosen.connect() as connection:
        descriptor = connection.connection.driver_connection.fileno()  # type: ignore[union-attr]
        with socket.socket(fileno=socket.dup(descriptor)) as peer:
            assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77
    chosen.dispose()


def test_what_another_user_has_put_in_the_place_of_a_heartbeat_is_left_alone(tmp_path: Path) -> None:
    ours, link, pipe = tmp_path / "ours", heartbeat_file("relay", str(tmp_path)), heartbeat_file("web", str(tmp_path))
    ours.write_text("something else")
    link.symlink_to(ours)
    os.mkfifo(pipe)
    for role in ("relay", "web"):
        Heartbeat(role, str(tmp_path))()
    assert ours.read_text() == "something else"


def test_the_state_of_an_older_version_is_read(tmp_path: Path) -> None:
    from jobs.process.health import health_of

    (tmp_path / "relay").write_text("4711")
    assert health_of("relay", str(tmp_path)).state is State.BEATING
