"""Each function of ours runs in a process of its own, and whatever it does there fails only its own run."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from service import Service, eventually

from billing import database
from billing.gateway import RUN, Answer, Budget, NotSent, Request, Response, boot_clock
from billing.runs import QUEUE
from billing.schedules import SCHEDULES
from billing.states import RunState
from billing.tables.scheduled_runs import ScheduledRun
from billing.tables.work_failures import WorkFailure
from jobs.config.settings import QueueSettings
from jobs.local.supervisor import Child
from jobs.logs import RaisedElsewhere
from jobs.process.apart import Apart
from jobs.process.wear import Wear
from jobs.road import ticks

HEAVY = Path(__file__).with_name("heavy.py")
REQUEST = Request(RUN, "/run/snapshot_queues", "at=2026-03-01T05%3A00%3A00%2B00%3A00")
PATIENCE_S = 60.0


def program(how: str) -> list[str]:
    return [sys.executable, str(HEAVY), how]


def apart(how: str, memory_mb: int = 400, niceness: int = 0) -> Apart:
    """One that does not give way, because a busy machine would let it wait."""
    return Apart(memory_mb, livemode=False, niceness=niceness, program=program(how))


def sent(to: Apart, within_s: float = 2 * PATIENCE_S) -> Answer:
    """The answer once its process has started: on a busy machine that takes a while."""

    def answer() -> Answer | None:
        came = to.send(REQUEST, budget(within_s))
        return None if came == NotSent("its process has not started yet") else came

    return eventually(answer, "its process has started", within_s)


def budget(seconds: float = PATIENCE_S) -> Budget:
    return Budget(not_after=boot_clock() + seconds, over_at=boot_clock() + seconds)


def children(of: int | str = "self") -> set[int]:
    """The processes that any thread of this process has started, and that have not ended."""
    found = Path(f"/proc/{of}/task").glob("*/children")
    return {int(pid) for each in found for pid in each.read_text().split()}


def alive(pid: int) -> bool:
    """Neither gone nor a zombie, of which nobody has asked yet how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(autouse=True)
def environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the worker: the process of a function reads its settings from there."""
    monkeypatch.setenv("DATABASE_URL", service.url)
    monkeypatch.setenv("BILLING_ENVIRONMENT", "test")
    monkeypatch.setenv("BILLING_TIMING", "short")


def ask(service: Service) -> str:
    with database.transaction(service.engines["operator"]) as session:
        return ticks.ask_for(session, SCHEDULES[0], actor="anna").id


def test_a_function_runs_apart_gives_way_to_others_and_may_print_what_it_likes() -> None:
    answer = sent(apart("behave", niceness=1))
    assert isinstance(answer, Response)
    assert answer.data is not None
    result = answer.data["result"]
    assert result["at"] == "2026-03-01T05:00:00+00:00"
    assert result["niceness"] == 1
    assert result["niceness of its session"] in (1, None)


@pytest.mark.parametrize(("how", "kind"), [("eat", "MemoryError"), ("kill", "Killed: its process got SIGKILL")])
def test_one_that_eats_all_memory_or_is_killed_fails_alone(how: str, kind: str) -> None:
    with pytest.raises(RaisedElsewhere) as raised:
        sent(apart(how))
    assert raised.value.raised[0]["kind"] == kind


def test_one_that_takes_too_long_is_killed_when_its_time_is_over() -> None:
    sleeper = apart("sleep")

    def begun() -> None:
        while isinstance(sleeper.send(REQUEST, budget(1.0)), NotSent):
            """On a busy machine it has not started yet."""

    with pytest.raises(RaisedElsewhere, match="OutOfTime"):
        begun()


def test_a_process_that_starts_slowly_is_not_killed_but_used_by_the_next_call() -> None:
    slow, others = apart("start_slowly"), children()
    assert slow.send(REQUEST, budget(0.1)) == NotSent("its process has not started yet")
    (started,) = children() - others
    for _ in range(2):
        answer = sent(slow)
        assert isinstance(answer, Response)
        assert answer.data is not None
        assert answer.data["result"]["pid"] != started
    assert children() - others == {started}, "one has started, and forks a process for each"


def test_calls_that_wait_for_the_start_together_are_over_no_later_than_one_alone() -> None:
    never = Apart(400, livemode=False, niceness=0, program=[sys.executable, "-c", "import time; time.sleep(600)"])
    within = budget(6.0)

    def over_in_time(_: int) -> bool:
        return (
            never.send(REQUEST, within) == NotSent("its process has not started yet") and boot_clock() < within.over_at
        )

    with ThreadPoolExecutor(8) as crew:
        assert list(crew.map(over_in_time, range(8))) == [True] * 8


def test_when_the_process_that_forks_is_killed_its_calls_have_no_answer_and_the_next_starts_another() -> None:
    others, behaving = children(), apart("behave")
    assert isinstance(sent(behaving), Response)
    (started,) = children() - others
    os.kill(started, signal.SIGKILL)
    eventually(lambda: not alive(started), "it is dead")
    assert isinstance(sent(behaving), Response)


def test_while_the_system_has_no_more_processes_a_call_has_no_answer_and_the_one_that_forks_goes_on() -> None:
    others, without = children(), apart("begin_where_no_process_is_left")
    with pytest.raises(RaisedElsewhere):
        sent(without)
    (started,) = children() - others
    os.kill(started, signal.SIGUSR1)
    assert isinstance(sent(without), Response)
    assert children() - others == {started}


def test_none_is_begun_when_its_time_is_over_already() -> None:
    assert isinstance(apart("kill").send(REQUEST, budget(-1.0)), NotSent)


@pytest.mark.skipif(sys.platform != "linux", reason="the leash is a feature of Linux")
def test_a_function_ends_with_the_worker_that_runs_it(tmp_path: Path) -> None:
    """The worker's process stands for a worker: it runs one function, and is killed."""
    worker = "import sys; from test_apart import *\napart('sleep').send(REQUEST, budget(600))"
    with subprocess.Popen(
        [sys.executable, "-c", worker], env={**os.environ, "PYTHONPATH": ":".join(sys.path)}
    ) as running:
        # While they import, each may have other children for a moment.
        ((forking, waits, function),) = eventually(
            lambda: [
                (forking, waits, function)
                for forking in children(running.pid)
                for waits in children(forking)
                for function in children(waits)
            ],
            "its function has begun",
        )
        running.kill()
    eventually(lambda: not any(map(alive, (forking, waits, function))), "they have ended, too")


def test_what_a_function_died_of_is_kept_as_evidence_and_the_next_run_is_done(service: Service) -> None:
    eats = ask(service)
    service.plan()
    service.work_off(QUEUE, apart("eat"), crew=1)
    assert service.work(eats).attempts == 1
    with database.transaction(service.engine) as session:
        (failure,) = session.query(WorkFailure).all()
        assert [each["kind"] for each in failure.errors] == ["MemoryError"]
        assert any("heavy.py" in place for place in failure.errors[0]["at"])
    other = ask(service)

    def turn() -> bool:
        service.relay.round()
        service.work_off(QUEUE, apart("behave"), crew=1)
        return bool(service.row(ScheduledRun, other).state == RunState.DONE)

    eventually(turn, "the other run is done")


def own(memory_mb: int = 1_000_000, recycle: int = 0) -> QueueSettings:
    return QueueSettings(crew=1, slice_s=600, workers=1, memory_mb=memory_mb, recycle=recycle)


def test_a_worker_is_worn_after_its_calls_or_once_it_has_grown_too_large() -> None:
    assert Wear(own()).after(1_000_000) is None
    wear = Wear(own(recycle=10))
    assert wear.after(9) is None
    assert wear.after(1) == "it has settled 10 calls"
    assert "MB of memory" in (Wear(own(memory_mb=1)).after(0) or "")


def test_a_worn_worker_ends_with_status_0_when_its_calls_are_settled(
    service: Service, spawn: Callable[..., Child]
) -> None:
    captures = [service.ask_for_capture(intent) for intent in service.intents(3)]
    service.plan()
    worker = spawn("worker", "captures", BILLING_RECYCLE_CAPTURES="3", BILLING_LOG_LEVEL="info")
    service.relay.round()
    assert worker.wait(90) == 0
    assert "worker.recycled" in worker.output()
    assert [service.status(capture).state for capture in captures] == ["captured"] * 3


def test_a_worker_does_not_count_the_memory_of_whoever_started_it() -> None:
    """getrusage(2) of Linux does: a worker under a large parent would end after its first shift."""
    large = bytearray(300 << 20)
    large[:: 1 << 12] = b"x" * len(large[:: 1 << 12])
    program = (
        "from jobs.config.settings import QueueSettings\nfrom jobs.process.wear import Wear\n"
        "print(Wear(QueueSettings(crew=1, slice_s=1, workers=1, memory_mb=200, recycle=0)).after(0))"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "None\n"
    assert len(large) == 300 << 20
