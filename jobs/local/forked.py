"""The `billing` command as a process that need not import anything: forked from one that has imported it all.

Importing takes most of a second of CPU. The demo starts forty processes, and the tests start hundreds. In all else it
is a process of its own: its id, its signals, its output, and how it ends. What a program is given when it is started,
which /proc shows and where Python looks for modules, is of the process that it is forked from. So `billing up` and a
deployment start the program itself, and so does a test that looks at this.

`python -m jobs.local.forked FD` is the process that forks. It does so whenever it is asked over the socket FD, and ends
when that is closed.
"""

import atexit
import contextlib
import gc
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from jobs.local.supervisor import Child
from jobs.process.leash import end_with

ROOMS = ("jobs.cli.opening", "jobs.cli.complaints", "jobs.checkup", "jobs.process.service", "jobs.process.archiving")
"""They import what commands need. Not RQ, which a worker imports when it has chosen its prefix (jobs/rq/workers.py)."""


class Forked:
    """As a `subprocess.Popen`, as far as the tests and `jobs.local.supervisor.Child` use one."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        output: int,
        error: int | None = None,
        *,
        directory: Path | None = None,
        program: Path | None = None,
    ) -> None:
        """Start `billing`, or this program of Python, with these arguments, here or in this directory; it writes to
        these open files."""
        self.args = ["billing" if program is None else str(program), *arguments]
        where = os.getcwd() if directory is None else str(directory)
        asked = {"words": self.args, "environment": dict(environment), "directory": where}
        status, its_status = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_status:
            files = [its_status.fileno(), output, output if error is None else error]
            socket.send_fds(begin(), [json.dumps(asked).encode()], files)
        self.returncode: int | None = None
        self._status = status
        self.pid = int(status.recv(16))

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = int(self._status.recv(16))
            self._status.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not select.select([self._status], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        ended = self.poll()
        assert ended is not None
        return ended

    def send_signal(self, number: int) -> None:
        # It may have ended since: not we wait for it, but the process that forks, and its number may be gone.
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def child(
    name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path, directory: Path | None = None
) -> Child:
    """What `Supervisor.spawn` returns; its output is appended to the file `log`."""
    log.touch(mode=0o600)
    with log.open("ab") as output:
        begins = output.tell()
        process = Forked(arguments, environment, output.fileno(), directory=directory)
        return Child(name, process, log, signal.SIGTERM, begins=begins)


@cache
def begin() -> socket.socket:
    """Start the process that forks, unless it runs; it imports while its caller goes on. It ends with this process,
    however that ends."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = [sys.executable, "-m", "jobs.local.forked", str(its.fileno())]
    server = subprocess.Popen(  # noqa: S603 - our own page, and no shell
        program, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
    )
    its.close()

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours


def _serve(asking: socket.socket) -> None:
    """Return in every process that is to be a command; the one that serves ends in here.

    It waits for all of them, and says how each ended.
    """
    wakes, woken = socket.socketpair()
    for end in (wakes, woken):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken.fileno())
    forks, running = os.getpid(), dict[int, int]()
    while True:
        ready, _, _ = select.select([asking, wakes], [], [])
        if wakes in ready:
            wakes.recv(1 << 10)
            _tell_ends(running)
        if asking not in ready:
            continue
        message, files, _, _ = socket.recv_fds(asking, 1 << 20, 3)
        if not message:
            sys.exit()
        status, output, error = files
        if command := os.fork():
            running[command] = status
            os.close(output)
            os.close(error)
            continue
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for file in (asking.detach(), wakes.detach(), woken.detach(), *running.values()):
            os.close(file)
        if end_with(forks):
            os._exit(1)
        # Whoever knows it may signal to all of its group.
        os.setsid()
        os.write(status, str(os.getpid()).encode())
        os.dup2(output, 1)
        os.dup2(error, 2)
        for file in files:
            os.close(file)
        return _become(**json.loads(message))


def _tell_ends(running: dict[int, int]) -> None:
    """Say of each that has ended how it did, to whom asked for it; `running` has where, by its number."""
    while running:
        ended, how = os.waitpid(-1, os.WNOHANG)
        if not ended:
            return
        status = running.pop(ended)
        try:
            os.write(status, str(os.waitstatus_to_exitcode(how)).encode())
        except BrokenPipeError:
            pass  # who asked for it has gone
        finally:
            os.close(status)


def _become(words: list[str], environment: dict[str, str], directory: str) -> None:
    # As for every process that a supervisor starts (jobs/process/leash.py).
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.argv = words
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def _run(program: Callable[[], object]) -> NoReturn:
    """Run it, and end as Python ends a program, but for the last thing that it does: to take apart all that was
    imported would copy the memory that is shared with the process that forks, which costs five times the rest of a
    short command."""
    status, interrupted = 0, False
    try:
        program()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            status = ended.code or 0
        else:
            print(ended.code, file=sys.stderr)
            status = 1
    except BaseException as error:  # noqa: BLE001 - it ends the process, and is shown as Python shows it
        sys.excepthook(type(error), error, error.__traceback__)
        status, interrupted = 1, isinstance(error, KeyboardInterrupt)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = 120
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status & 0xFF)


if __name__ == "__main__":
    # By their names: commands lie on a floor above this one, and nothing of them is used in here.
    for room in ROOMS:
        import_module(room)
    commands = import_module("jobs.cli")
    commands.whole()
    # What is there now is never garbage, and is not copied by a collector that looks at it.
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    program = sys.argv[0]
    _run(commands.main if program == "billing" else partial(runpy.run_path, program, run_name="__main__"))
