"""A process that the tests fork instead of starting it is one of its own, and ends as one."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import in_a_process
from service import eventually

from jobs.local.forked import Forked

NOWHERE = {
    "BILLING_ENVIRONMENT": "test",
    "BILLING_STRIPE_KEY": "sk_test_forked",
    "DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:1/nowhere",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "STRIPE_API_BASE": "http://127.0.0.1:1",
}
"""A relay with these settings waits for its servers until it is ended."""
TESTS = Path(__file__).parents[1]


ENDINGS = {
    "at its end": "",
    "with a status": "sys.exit(7)",
    "with a status that is too large": "sys.exit(256 + 3)",
    "with a message": "sys.exit('it is full')",
    "with an error": "print('not flushed', end=''); raise ValueError('no such thing')",
    "interrupted": "raise KeyboardInterrupt",
    "with its threads": "threading.Thread(target=lambda: (time.sleep(0.1), print('a thread'))).start()",
    "with an idle pool": "concurrent.futures.ThreadPoolExecutor().submit(print, 'a pool')",
    "with what it has registered": "atexit.register(print, 'first'); atexit.register(print, 'second')",
    "with nowhere to write to": "os.dup2(os.open('/dev/full', os.O_WRONLY), 1); print('lost', end='')",
    "by a signal": "os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Forked]:
    with (tmp_path / "output").open("wb") as output:
        waiting = Forked(["relay"], {"BILLING_HEALTH_DIRECTORY": str(tmp_path), **NOWHERE}, output.fileno())
    yield waiting
    waiting.kill()
    waiting.wait(60)


def test_it_writes_to_both_outputs_and_ends_with_the_status_of_the_command() -> None:
    shown = in_a_process(["--version"])
    assert (shown.status, shown.out.split()[0], shown.err) == (0, "billing", "")
    refused = in_a_process(["no-such-command"])
    assert (refused.status, refused.out) == (2, "")
    assert "no-such-command" in refused.err


def test_it_has_the_settings_that_it_is_given_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILLING_ENVIRONMENT", "test")
    assert "BILLING_ENVIRONMENT" in in_a_process(["switch", "list"], {"DATABASE_URL": NOWHERE["DATABASE_URL"]}).err


def test_another_program_than_the_command_is_given_its_arguments_and_its_directory(tmp_path: Path) -> None:
    program, shown = tmp_path / "program.py", tmp_path / "shown"
    program.write_text("import os, sys; print(__name__, sys.argv[1:], os.getcwd()); sys.exit(7)")
    with shown.open("wb") as output:
        assert Forked(["a", "b c"], os.environ, output.fileno(), directory=tmp_path, program=program).wait(60) == 7
    assert shown.read_text() == f"__main__ ['a', 'b c'] {tmp_path}\n"


@pytest.mark.parametrize("ending", ENDINGS)
def test_it_ends_as_the_same_program_that_is_started(tmp_path: Path, ending: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"import atexit, concurrent.futures, os, signal, sys, threading, time\n{ENDINGS[ending]}\n")
    started = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        status = Forked([], os.environ, out.fileno(), err.fileno(), program=program).wait(60)
    assert (status, (tmp_path / "out").read_text()) == (started.returncode, started.stdout)
    last = [(text.splitlines() or [""])[-1] for text in (started.stderr, (tmp_path / "err").read_text())]
    assert last[0] == last[1], "the same complaint, if any"


def test_each_of_many_that_run_at_once_is_told_how_it_ended_itself(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import sys; sys.exit(int(sys.argv[1]))")
    with (tmp_path / "output").open("wb") as output:
        many = [Forked([str(number)], os.environ, output.fileno(), program=program) for number in range(20)]
    assert [each.wait(60) for each in reversed(many)] == [*reversed(range(20))]


def test_a_signal_ends_it_and_how_it_ended_is_known(waiting: Forked) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0)
    assert os.getsid(waiting.pid) == waiting.pid
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(60) == waiting.poll()


def test_a_signal_to_one_that_ends_at_that_moment_is_no_error(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("")
    with (tmp_path / "output").open("wb") as output:
        for _ in range(20):
            ending = Forked([], os.environ, output.fileno(), program=program)
            while ending.poll() is None:
                ending.send_signal(signal.SIGCONT)
            assert ending.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel sends no signal when a parent dies")
def test_it_ends_when_the_process_is_killed_that_asked_for_it(tmp_path: Path) -> None:
    program = (
        "import sys; from jobs.local.forked import Forked; "
        f"print(Forked(['relay'], {NOWHERE}, sys.stderr.fileno()).pid, flush=True); sys.stdin.read()"
    )
    asking = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with asking:
        assert asking.stdout is not None
        its = Path(f"/proc/{int(asking.stdout.readline())}")
        assert its.exists()
        asking.kill()
    eventually(lambda: not its.exists(), "it has ended, too")
