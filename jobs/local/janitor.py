"""Removes the private directory of a run whose owner was killed before it could."""

import subprocess
import sys
from pathlib import Path

_WATCH = """
import os, shutil, signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if not sys.stdin.buffer.read():  # the pipe ended without a word: its owner was killed
    give_up = time.monotonic() + 10
    while os.path.exists(sys.argv[1]) and time.monotonic() < give_up:
        shutil.rmtree(sys.argv[1], ignore_errors=True)  # the servers are ending, and may still write
        time.sleep(0.05)
"""


class Janitor:
    """A small process that waits on a pipe. Its owner says goodbye, or else it cleans up and ends within 10 s."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own words, and no shell
            [sys.executable, "-I", "-S", "-c", _WATCH, str(directory)],
            stdin=subprocess.PIPE,
            # Ctrl-C ends its owner, who then says goodbye.
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """The directory is gone already."""
        self._process.communicate(b"goodbye")
