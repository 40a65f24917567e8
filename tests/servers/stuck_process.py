"""A process whose loop beats, and then stands still for good.

Arguments: where to beat, after how many seconds it is stuck, and how it stands still: `asleep`, or `writing` to a
standard error that nobody reads, or `threadless`, where the system gives it no more threads. Or `turning`: it never
does.
"""

import re
import resource
import sys
import threading
import time
from pathlib import Path

from jobs import logs
from jobs.process.health import Heartbeat

directory, stuck_after_s, how = sys.argv[1:]
logs.configure("info")
with Heartbeat("relay", directory, stuck_after_s=float(stuck_after_s)) as heartbeat:
    until = time.monotonic() + 0.2
    while how == "turning" or time.monotonic() < until:
        heartbeat()
        time.sleep(0.01)
    if how == "threadless":
        used = re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())
        assert used is not None
        most = int(used[1]) * 1024 + 4_000_000  # a thread wants 8 MB
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    while how == "writing":
        logs.log.info("loop.written", filling="x" * 4096)
    threading.Event().wait()
