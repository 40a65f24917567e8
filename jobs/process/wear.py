"""When a worker has done enough, and is replaced by a fresh one: after so many calls, or once it grew too large.

It ends between two shifts, with no call in flight. Whatever restarts it (compose, systemd, Kubernetes) must do so after
exit status 0, too.
"""

import re
import resource
from pathlib import Path

from jobs.config.settings import QueueSettings

_STATUS = Path("/proc/self/status")


class Wear:
    """What one worker process has done so far."""

    def __init__(self, own: QueueSettings) -> None:
        self._own = own
        self._calls = 0

    def after(self, settled: int) -> str | None:
        """Why it should end now, after a shift that settled so many calls; None if it need not."""
        self._calls += settled
        if self._own.recycle and self._calls >= self._own.recycle:
            return f"it has settled {self._calls} calls"
        if (most_mb := _most_mb()) > self._own.memory_mb:
            return f"it has used {most_mb} MB of memory"
        return None


def _most_mb() -> int:
    """The most memory that this program had at one time."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) // 1024
    # macOS, in bytes. On Linux this counts what the parent had when it started this program, too.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 * 1024)
