"""When a worker has done enough, and is replaced by a fresh one: after so many calls, or once it grew too large.

It ends between two shifts, with no call in flight. Whatever restarts it (compose, systemd, Kubernetes) must do so after
exit status 0, too.
"""

import resource
import sys

from jobs.config.settings import QueueSettings

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes of one unit of `ru_maxrss`: getrusage(2) of each system."""


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
        most_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT // (1024 * 1024)
        if most_mb > self._own.memory_mb:
            return f"it has used {most_mb} MB of memory"
        return None
