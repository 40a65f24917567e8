"""Heartbeats: a process's loop writes a file whose age a health check reads; a watchdog ends a process whose loop
hangs.

A connection that stays open and never answers again (a hung pooler, a forgotten NAT entry) would block a loop forever,
and nothing else in the process would end that wait. Other processes take over its work when its leases run out.
"""

import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import structlog

from jobs import logs

log = structlog.get_logger()

YOUNG_S = 30.0
"""A loop turns several times a second; that of a shift, many times."""

STUCK_S = {"production": 120.0, "short": 10.0}
"""When a loop has not turned for so long, its process ends. The longest normal turns are a relay's ten transactions of
2 s each, and a connection that fails: 5 s for each address of a name that took 30 s to resolve."""
ARCHIVER_STUCK_S = {"production": 600.0, "short": 40.0}
"""A batch is six requests to S3, each of which may take 23 s and is repeated after a conflict; a statement takes 10."""
STUCK_STATUS = 3
"""The exit status of a process that its watchdog has ended."""
_TICKS = 30
_LOG_WAIT_S = 5.0


def heartbeat_file(role: str, directory: str | None = None) -> Path:
    """The heartbeat file of the process with this role, in `directory` or in a private directory of this user."""
    place = Path(directory) if directory else Path(tempfile.gettempdir()) / f"billing-health-{os.getuid()}"
    return place / role


class Heartbeat:
    """Called by the main thread's loop, as often as it likes; writes at most once a second. A context manager: it
    cleans up, and while it is open a watchdog ends the process when no call comes for `stuck_after_s`."""

    def __init__(
        self,
        role: str,
        directory: str | None = None,
        *,
        stuck_after_s: float = STUCK_S["production"],
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self._role = role
        self._file = heartbeat_file(role, directory)
        self._next = 0.0
        self.waiting_for: str | None = None
        """The server that this process waits for before it starts."""
        self.turns = 0
        self.turned_at = time.monotonic()
        self._stuck_after_s = stuck_after_s
        self._leave = leave
        self._closed = threading.Event()

    def __enter__(self) -> "Heartbeat":
        self()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __call__(self) -> None:
        self.turns += 1
        self.turned_at = time.monotonic()
        if self.turned_at >= self._next:
            self._next = self.turned_at + 1.0
            # If it cannot be written, the health check sees an old one. That is no reason to stop working.
            with contextlib.suppress(OSError):
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with open(self._file, "w", opener=_no_others) as file:
                    file.write(json.dumps({"pid": os.getpid(), "waits_for": self.waiting_for}))

    def waits_for(self, server: str | None) -> None:
        """Say which server this process waits for before it starts; None when it has them all."""
        self.waiting_for, self._next = server, 0.0
        self()

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        with contextlib.suppress(OSError):  # there may be no such place, or other processes still have files there
            self._file.unlink(missing_ok=True)
            self._file.parent.rmdir()

    def _watch(self) -> None:
        """Counts its own wake-ups, not seconds: a process that was stopped, or a machine that slept, makes none."""
        seen, quiet = -1, 0
        while not self._closed.wait(self._stuck_after_s / _TICKS):
            turns = self.turns
            seen, quiet = turns, quiet + 1 if turns == seen else 0
            if quiet >= _TICKS:
                # In a thread of its own: the loop may hang because nothing reads the log that it writes. Where there is
                # no thread to be had, it ends without a word.
                with contextlib.suppress(RuntimeError):
                    writer = threading.Thread(target=self._log_stuck, daemon=True)
                    writer.start()
                    writer.join(_LOG_WAIT_S)
                self._leave(STUCK_STATUS)
                return

    def _log_stuck(self) -> None:
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        log.critical("process.stuck", role=self._role, after_s=self._stuck_after_s, at=logs.places(frame))


def _no_others(path: str, flags: int) -> int:
    # Where no directory is set it is one below /tmp, and another user may have made it: with a link to a file of ours
    # in this place, or a pipe that nobody reads.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


class State(StrEnum):
    """The condition of a process, by its heartbeats."""

    BEATING = "beating"
    WAITING = "waiting"
    """It is alive, and waits for a server before it starts."""
    STALE = "stale"
    """Its last heartbeat is older than `YOUNG_S`."""
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Health:
    state: State
    age_s: float | None = None
    """Seconds since the last heartbeat."""
    waits_for: str | None = None
    """The server, by the name that the log uses."""


def health_of(role: str, directory: str | None = None) -> Health:
    """The health of the process with this role on this machine."""
    file = heartbeat_file(role, directory)
    try:
        age_s = time.time() - file.stat().st_mtime
        text = file.read_text()
    except FileNotFoundError:
        return Health(State.ABSENT)
    try:
        waits_for = json.loads(text)["waits_for"]
    except (ValueError, KeyError, TypeError):
        waits_for = None  # read while it was being written, or written by an older version
    if age_s > YOUNG_S:
        return Health(State.STALE, age_s)
    return Health(State.WAITING if waits_for else State.BEATING, age_s, waits_for)
