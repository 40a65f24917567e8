"""A private directory of one run, removed in the end, however the run ends.

Its owner removes it. If the owner is killed, a small watching process removes it, where one was started. The next run
of this user removes what is left even then.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_PREFIX = "billing-"
_OWNER = "owner.lock"
_CLEANING_S = 60
"""A watcher tries for so long, because the servers of a killed run are still ending, and may still write."""
_STAYS_AWAY_S = 5.0
"""Only then does the watcher believe that it is gone: a process that is still ending may make a part of it again."""
_REMOVED = b"removed"
"""What the owner tells the watcher when it has removed the directory itself."""


class RunDirectory:
    """Made under the system's temporary directory, for this user alone, after the sweep of abandoned ones."""

    def __init__(self) -> None:
        _sweep(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # While the lock is held, the owner is alive: the kernel releases it when this process ends in any way.
        unnamed = self.path / f"{_OWNER}.new"
        self._lock = os.open(unnamed, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # Renamed only when it is locked, so that no sweep finds it unlocked while we are alive.
        unnamed.rename(self.path / _OWNER)
        self._watcher: subprocess.Popen[bytes] | None = None

    def watch(self) -> None:
        """Start the process that removes the directory as soon as we are killed."""
        self._watcher = subprocess.Popen(  # noqa: S603 - our own page, and no shell
            [sys.executable, "-I", "-S", __file__, str(self.path)],
            stdin=subprocess.PIPE,
            # Ctrl-C must end only this process, which then ends the watcher.
            start_new_session=True,
        )

    def remove(self) -> None:
        """Remove the directory with all that is in it. Its processes must have ended."""
        _remove(self.path)
        os.close(self._lock)
        if self._watcher is not None:
            self._watcher.communicate(_REMOVED)


def _sweep(temporary: Path) -> None:
    """Remove directories of runs of this user that were killed."""
    for path in temporary.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.geteuid() and not path.is_symlink():
                _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    """Raises OSError if it is not ours, its owner is alive, or another process is removing it."""
    lock = os.open(path / _OWNER, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(path)
    finally:
        os.close(lock)


def _remove(path: Path) -> None:
    """The lock is removed last, so that the next sweep finds what cannot be removed now (a server is still ending)."""
    for inner in path.iterdir():
        if inner.name == _OWNER:
            continue
        if inner.is_dir() and not inner.is_symlink():
            shutil.rmtree(inner, ignore_errors=True)
        else:
            inner.unlink()
    if [inner.name for inner in path.iterdir()] == [_OWNER]:
        shutil.rmtree(path)


def _watch(path: Path) -> None:
    """Wait for the end of our input, which is the end of the owner, and remove what it left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() == _REMOVED and not path.exists():
        return
    seen_at = time.monotonic()
    give_up = seen_at + _CLEANING_S
    while time.monotonic() < min(give_up, seen_at + _STAYS_AWAY_S):
        if path.exists():
            seen_at = time.monotonic()
            # The owner is dead or done with it, and one that was made again has no lock: so none is asked for.
            shutil.rmtree(path, ignore_errors=True)
        time.sleep(0.05)


if __name__ == "__main__":
    _watch(Path(sys.argv[1]))
