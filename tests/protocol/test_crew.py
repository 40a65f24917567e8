"""What the captain waits for from its crew, and that it never waits for longer than it wants."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from protocol_model import capture, loaded_with, response
from test_turns import begun

from billing.gateway import Answer, Budget, Request, boot_clock
from jobs.road.crew import Crew

WAIT_S = 0.002
"""As a shift polls (`jobs.road.shift.POLL_EVERY_S`)."""
FREED_AFTER_S = 20.0


class _Answers:
    def send(self, _request: Request, _budget: Budget) -> Answer:
        return response(200, {})


@pytest.fixture
def signals_at_the_timeout() -> Iterator[None]:
    """Signals come again and again about when a wait of `WAIT_S` is over."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, WAIT_S, WAIT_S * 0.95)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("signals_at_the_timeout")
def test_a_signal_that_comes_as_a_wait_ends_does_not_prolong_it():
    crew = Crew(1, _Answers())
    budget = Budget(not_after=boot_clock() + 600, over_at=boot_clock() + 600)
    # If a wait never ended by itself, the report of this call would end it.
    rescue = threading.Timer(FREED_AFTER_S, crew.hand, (begun(loaded_with(capture())), budget))
    rescue.start()
    for _ in range(1000):  # with a SimpleQueue, one of the first hundred never ended
        assert crew.collect(WAIT_S, gather=False) == []
    rescue.cancel()
    crew.dismiss()


WITH_ROOM_FOR_FEW_THREADS = """
import re, resource, sys
from pathlib import Path
from jobs.road.crew import Crew
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
_, most = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000, most))
made = []
for size in (500, 2):
    try:
        made.append(Crew(size, None))
    except RuntimeError:
        made.append(None)
assert made[0] is None, "there is room for so many"
made[1].dismiss()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says how much is used")
def test_a_crew_that_cannot_be_started_as_a_whole_leaves_no_threads_behind():
    """They would keep the next crew from being started."""
    program = [sys.executable, "-c", WITH_ROOM_FOR_FEW_THREADS]
    ended = subprocess.run(
        program, env={"PYTHONPATH": "."}, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
