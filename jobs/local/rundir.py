"""A private directory of one run, removed in the end, or by the next run if this one is killed."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "billing-"
_OWNER = "owner.lock"


class RunDirectory:
    """Made under the system's temporary directory, for this user alone, after the sweep of dead ones."""

    def __init__(self) -> None:
        _sweep(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # A held lock says that the owner lives: the kernel lets go of it when we die, however we die.
        unnamed = self.path / f"{_OWNER}.new"
        self._lock = os.open(unnamed, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # It gets its name when it is held, so that no sweep ever sees it free while we live.
        unnamed.rename(self.path / _OWNER)

    def remove(self) -> None:
        """Remove the directory with all that is in it. Its processes must have ended."""
        _remove(self.path)
        os.close(self._lock)


def _sweep(temporary: Path) -> None:
    """Remove what runs of this user left behind that did not live to remove it."""
    for path in temporary.glob(f"{_PREFIX}*"):
        # Not ours, alive, or just being removed by somebody else: all of these are left alone.
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.geteuid() and not path.is_symlink():
                _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    lock = os.open(path / _OWNER, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(path)
    finally:
        os.close(lock)


def _remove(path: Path) -> None:
    """The lock goes last: what cannot be removed now (a server still ending) is found by the next sweep."""
    for inner in path.iterdir():
        if inner.name == _OWNER:
            continue
        if inner.is_dir() and not inner.is_symlink():
            shutil.rmtree(inner, ignore_errors=True)
        else:
            inner.unlink()
    if [inner.name for inner in path.iterdir()] == [_OWNER]:
        shutil.rmtree(path)
