"""Whether a process's loop still turns: it touches a file, and a container's health check reads its age."""

import contextlib
import os
import tempfile
import time
from pathlib import Path

YOUNG_S = 30.0
"""A loop turns several times a second; a shift looks at its calls every 10 ms."""


def beat_file(role: str, directory: str | None = None) -> Path:
    """Where the process of this role beats: `directory`, or a private one per user below the temporary directory."""
    place = Path(directory) if directory else Path(tempfile.gettempdir()) / f"billing-health-{os.getuid()}"
    return place / role


class Beat:
    """Called by a loop, as often as it likes; writes at most once a second. A context manager: it cleans up."""

    def __init__(self, role: str, directory: str | None = None) -> None:
        self._file = beat_file(role, directory)
        self._next = 0.0

    def __enter__(self) -> "Beat":
        self()
        return self

    def __call__(self) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 1.0
            # A beat that cannot be written shows as an old one; it is no reason to stop working.
            with contextlib.suppress(OSError):
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file.write_text(str(os.getpid()))

    def __exit__(self, *_: object) -> None:
        self._file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other roles still beat there
            self._file.parent.rmdir()


def age_s(role: str, directory: str | None = None) -> float | None:
    """Seconds since the last beat of this role on this machine; None when there never was one."""
    try:
        return time.time() - beat_file(role, directory).stat().st_mtime
    except FileNotFoundError:
        return None
