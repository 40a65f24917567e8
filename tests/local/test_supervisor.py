"""One supervisor starts every local process, and what it starts ends with it."""

import os
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.local.supervisor import LocalServerError, Supervisor, wait_until

DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
WAITING = "import signal; print('waiting', flush=True); signal.pause()"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Supervisor() as supervisor:
        yield supervisor


def test_the_directory_is_private(supervisor):
    assert stat.S_IMODE(supervisor.directory.stat().st_mode) == 0o700


def test_what_a_process_writes_is_in_its_log(supervisor):
    child = supervisor.spawn("greeter", python("import os; print(os.environ['WHOM'])"), {"WHOM": "world"})
    assert child.wait() == 0
    assert child.log == supervisor.directory / "greeter.log"
    assert child.log.read_text() == "world\n"
    assert stat.S_IMODE(child.log.stat().st_mode) == 0o600


def test_a_second_process_of_a_name_appends_to_the_log_and_tells_only_its_own_output(supervisor):
    supervisor.spawn("same", python("print('first')")).wait()
    second = supervisor.spawn("same", python("print('second')"))
    second.wait()
    assert second.log.read_text() == "first\nsecond\n"
    assert second.output() == "second\n"


def test_the_pid_is_that_of_the_program_itself(supervisor):
    child = supervisor.spawn("self", python("import os; print(os.getpid())"))
    child.wait()
    assert int(child.output()) == child.pid


def test_a_process_is_asked_to_stop_before_it_is_killed(supervisor):
    listening = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
    child = supervisor.spawn("polite", python(f"{listening}; print('ready', flush=True); signal.pause()"))
    child.wait_for_output("ready")
    assert child.poll() is None
    assert child.terminate() == 7


def test_a_process_that_does_not_listen_is_killed_after_its_grace(supervisor):
    child = supervisor.spawn("deaf", python(DEAF))
    child.wait_for_output("deaf")
    assert child.terminate(grace_s=0.1) == -signal.SIGKILL


def test_a_process_stopped_by_a_signal_can_still_be_asked_to_stop(supervisor):
    child = supervisor.spawn("paused", python(WAITING))
    child.wait_for_output("waiting")
    child.send(signal.SIGSTOP)
    assert child.terminate() == -signal.SIGTERM


def test_a_process_hears_sigint_although_its_starter_was_put_in_the_background(supervisor):
    """A job runner's shell ignores SIGINT for its background jobs, and what they start would inherit that."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = supervisor.spawn("hearing", python(WAITING))
    finally:
        signal.signal(signal.SIGINT, before)
    child.wait_for_output("waiting")
    child.send(signal.SIGINT)
    child.wait()
    assert "KeyboardInterrupt" in child.output()


def test_kill_gives_no_warning(supervisor):
    child = supervisor.spawn("killed", python(DEAF))
    child.wait_for_output("deaf")
    assert child.kill() == -signal.SIGKILL
    assert child.poll() == -signal.SIGKILL
    assert child.terminate() == -signal.SIGKILL  # nothing more happens to a dead process


def test_waiting_ends_at_once_and_shows_the_last_words_when_the_process_dies(supervisor):
    child = supervisor.spawn("broken", python("import sys; sys.exit('no such color')"))
    with pytest.raises(LocalServerError, match=r"broken ended with status 1:\nno such color"):
        child.wait_for_output("ready", timeout_s=60)


def test_a_program_that_does_not_exist_is_named(supervisor):
    child = supervisor.spawn("missing", ["/no/such/program"])
    assert child.wait() == 1
    assert child.output() == "cannot run /no/such/program: No such file or directory\n"


def test_only_the_main_thread_may_start_a_process(supervisor):
    said: list[str] = []

    def start() -> None:
        try:
            supervisor.spawn("astray", python(WAITING))
        except RuntimeError as error:
            said.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert said == ["astray must be started from the main thread, or it dies with this one"]


def test_closing_stops_everything_and_removes_the_directory(supervisor):
    children = [supervisor.spawn(f"child-{n}", python(WAITING)) for n in range(3)]
    supervisor.close()
    assert [child.poll() for child in children] == [-signal.SIGTERM] * 3
    assert not supervisor.directory.exists()
    supervisor.close()  # nothing more happens


def test_a_fork_of_this_process_does_not_stop_its_children(supervisor):
    # In a new interpreter, so that no thread of the test run is copied.
    code = (
        "import os, sys\nfrom jobs.local.supervisor import Supervisor\n"
        "with Supervisor() as inner:\n"
        "    child = inner.spawn('grandchild', [sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "    if (pid := os.fork()) == 0:\n"
        "        sys.exit()\n"  # runs what is registered for the exit, too
        "    os.waitpid(pid, 0)\n"
        "    print(inner.directory.exists(), child.poll())\n"
    )
    forker = supervisor.spawn("forker", python(code))
    assert forker.wait() == 0
    assert forker.output() == "True None\n"


def killed(supervisor, before=""):
    """The directory of a run that is killed once it has done this, beside that of the supervisor."""
    code = f"import os\nfrom jobs.local.supervisor import Supervisor\nrun = Supervisor()\n{before}"
    code += "print(run.directory, flush=True)\nos.kill(os.getpid(), 9)\n"
    dead = supervisor.spawn("dead", python(code), {**os.environ, "TMPDIR": str(supervisor.directory.parent)})
    assert dead.wait() == -signal.SIGKILL
    return Path(dead.output().strip())


def test_the_directory_of_a_dead_run_is_removed_by_the_next(supervisor):
    left_behind = killed(supervisor)
    assert left_behind.exists()
    with Supervisor():
        assert not left_behind.exists()


def test_a_directory_that_is_watched_goes_as_soon_as_its_run_is_killed(supervisor):
    left_behind = killed(supervisor, "run.watch_directory()\n(run.directory / 'more').mkdir()\n")
    wait_until(lambda: not left_behind.exists(), "the watcher to remove what is left")


def test_what_a_process_that_is_still_ending_makes_there_again_goes_too(supervisor):
    left_behind = killed(supervisor, "run.watch_directory()\n")
    wait_until(lambda: not left_behind.exists(), "the watcher to remove what is left")
    # As a heartbeat does, which makes its directory.
    (left_behind / "health").mkdir(parents=True)
    wait_until(lambda: not left_behind.exists(), "the watcher to remove what was made again")


def test_the_directory_of_a_living_run_is_left_alone(supervisor):
    with Supervisor():
        assert supervisor.directory.exists()


def test_a_directory_that_no_supervisor_made_is_left_alone(supervisor):
    stranger = supervisor.directory.parent / "billing-notes"
    stranger.mkdir()
    with Supervisor():
        assert stranger.exists()


def test_a_condition_that_never_comes_is_named():
    with pytest.raises(LocalServerError, match=r"waited 0\.05 s without success: pigs to fly"):
        wait_until(lambda: False, "pigs to fly", timeout_s=0.05)


def test_sigterm_unwinds_the_stack_and_leaves_nothing(supervisor):
    code = (
        "import sys\nfrom jobs.local.supervisor import Supervisor\n"
        "with Supervisor() as inner:\n"
        "    child = inner.spawn('grandchild', [sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "    print(inner.directory, child.pid, flush=True)\n"
        "    child.wait(60)\n"
    )
    parent = supervisor.spawn("parent", python(code))
    parent.wait_until(lambda: parent.output().endswith("\n"), "the parent to name its child")
    directory, pid = parent.output().split()
    assert parent.terminate() == 128 + signal.SIGTERM
    assert not Path(directory).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
