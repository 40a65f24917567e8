"""Starts child processes, keeps their logs in one private directory, and leaves nothing behind.

Every child is on a leash (`jobs.process.leash`): `kill -9` of this process ends it on Linux. On a normal end,
Ctrl-C or SIGTERM the children are stopped and the directory is removed. What a `kill -9` leaves of
the directory is removed by the next supervisor that starts.

Elsewhere than on Linux there is no leash: a `kill -9` of this process leaves its children running.
"""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

from jobs.local.run_directory import RunDirectory
from jobs.process import leash

KILLED_WAIT_S = 10.0  # a killed process ends at once, unless the disk hangs
READY_WAIT_S = 60.0  # a server is ready within two seconds; on a busy machine it takes longer


class LocalServerError(Exception):
    """A local process could not be started or did not become ready; the message says why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The user a child runs as when this process is root."""

    uid: int
    gid: int


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = READY_WAIT_S) -> None:
    """Return as soon as `condition()` is true. Raises LocalServerError naming `what` after `timeout_s`."""
    give_up = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up:
            raise LocalServerError(f"waited {timeout_s:g} s without success: {what}")
        time.sleep(0.01)


class Process(Protocol):
    """What is needed of a `subprocess.Popen`, or of a process that was forked (`jobs.local.forked`)."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def kill(self) -> None: ...


class Child:
    """A process with a name. Its output is in the file `log`, from the byte `begins` on."""

    def __init__(self, name: str, process: Process, log: Path, stop: signal.Signals, *, begins: int = 0) -> None:
        self.name = name
        self.pid = process.pid
        self.log = log
        self._process = process
        self._stop = stop
        self._log_start = begins

    def __repr__(self) -> str:
        return f"<{self.name} pid={self.pid}>"

    def poll(self) -> int | None:
        """The exit status, negative for a signal, or None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float = READY_WAIT_S) -> int:
        """The exit status. Raises LocalServerError if it still runs after `timeout_s`."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise LocalServerError(f"{self.name} still runs after {timeout_s:g} s") from None

    def send(self, number: signal.Signals) -> None:
        """Send a signal, for instance SIGSTOP. A process that has ended is left alone."""
        self._process.send_signal(number)

    def kill(self) -> int:
        """`kill -9`: this process alone, without warning. Returns the exit status."""
        self._process.kill()
        return self._process.wait(KILLED_WAIT_S)

    def ask_to_stop(self) -> None:
        """Send the stop signal and return at once."""
        self.send(self._stop)
        self.send(signal.SIGCONT)  # a process that a test has stopped could not react

    def terminate(self, grace_s: float = 5.0) -> int:
        """Ask it to stop, and kill it with all of its process group if it still runs after `grace_s`."""
        self.ask_to_stop()
        return self.await_stop(grace_s)

    def await_stop(self, grace_s: float) -> int:
        """The second half of `terminate`, for a caller that has asked already."""
        try:
            return self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            # The leader is not reaped yet, so no other group can have this number. One that was forked may be by now.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            return self._process.wait(KILLED_WAIT_S)

    def output(self) -> str:
        """What this process has written so far, without what an earlier one wrote to the same log."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float = READY_WAIT_S) -> None:
        """As the function of that name, but gives up at once when the process has ended."""

        def true_or_ended() -> bool:
            # In this order: a process may do what is waited for and end at once.
            ended = self.poll() is not None
            if condition():
                return True
            if ended:
                raise LocalServerError(f"{self.name} ended with status {self.poll()}:\n{self._last_lines()}")
            return False

        try:
            wait_until(true_or_ended, what, timeout_s)
        except LocalServerError as error:
            if self.poll() is None:
                raise LocalServerError(f"{error}\n{self.name} wrote:\n{self._last_lines()}") from None
            raise

    def wait_for_output(self, words: str, timeout_s: float = READY_WAIT_S) -> None:
        """Return as soon as `words` stand in the output."""
        self.wait_until(lambda: words in self.output(), f"{self.name} to write {words!r}", timeout_s)

    def _last_lines(self) -> str:
        return "\n".join(self.output().splitlines()[-15:])


class Supervisor:
    """A private directory, and the processes that live as long as it does. A context manager."""

    def __init__(self) -> None:
        self._run_directory = RunDirectory()
        self.directory = self._run_directory.path
        self._children: list[Child] = []
        self._closed = False
        self._owner_pid = os.getpid()
        atexit.register(self.close)
        self._exit_signals = _exit_on_signals()

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def spawn(
        self,
        name: str,
        program: Sequence[str | Path],
        env: Mapping[str, str] | None = None,
        *,
        identity: Identity | None = None,
        stop: signal.Signals = signal.SIGTERM,
        death: signal.Signals = signal.SIGKILL,
        cwd: Path | None = None,
    ) -> Child:
        """Start `program`; its output is appended to `NAME.log` in the directory.

        `env` is the whole environment of the child, by default ours. `stop` is the signal that asks it
        to stop, `death` the one it gets when we die. Only the main thread may spawn: the kernel sends
        the death signal when the *thread* that started the child ends.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(f"{name} must be started from the main thread, or it dies with this one")
        user = f"{identity.uid}:{identity.gid}" if identity else "-"
        log = self.directory / f"{name}.log"
        log.touch(mode=0o600)
        with log.open("ab") as output:
            begins = output.tell()
            process = subprocess.Popen(  # noqa: S603 (our caller's own program, and no shell)
                leash.tied(program, death=death, user=user),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(os.environ if env is None else env),
                cwd=cwd,
                # Ctrl-C goes to the terminal's whole process group; we stop the children in our own order.
                start_new_session=True,
            )
            child = Child(name, process, log, stop, begins=begins)
        self.adopt(child)
        return child

    def adopt(self, child: Child) -> None:
        """From now on it lives as long as this: for a child that was started elsewhere, with its log in our
        directory."""
        self._children = [other for other in self._children if other.poll() is None]
        self._children.append(child)

    def watch_directory(self) -> None:
        """Have the directory removed as soon as this process is killed, not only by the next run."""
        self._run_directory.watch()

    def stop(self, children: Sequence[Child], grace_s: float = 5.0) -> None:
        """Ask all of them at once, then wait for each; what still runs after `grace_s` is killed."""
        for child in children:
            child.ask_to_stop()
        give_up = time.monotonic() + grace_s
        for child in children:
            child.await_stop(max(0.0, give_up - time.monotonic()))

    def close(self) -> None:
        """Stop what still runs and remove the directory. Twice does nothing more."""
        # A forked child inherits this object, and must not end its parent's processes.
        if self._closed or os.getpid() != self._owner_pid:
            return
        self.stop(self._children)
        self._closed = True
        self._run_directory.remove()
        atexit.unregister(self.close)
        if threading.current_thread() is threading.main_thread():
            for number in self._exit_signals:
                signal.signal(number, signal.SIG_DFL)


def _exit_on_signals() -> list[signal.Signals]:
    """Let SIGTERM and SIGHUP raise SystemExit, as Ctrl-C raises KeyboardInterrupt, unless the program handles them."""
    if threading.current_thread() is not threading.main_thread():
        return []
    unhandled = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in unhandled:
        signal.signal(number, _exit)
    return unhandled


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
