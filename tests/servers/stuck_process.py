"""A process whose loop beats, and then stands still for good.

Arguments: where to beat, after how many seconds it is stuck, and how it stands still: `asleep`, or `writing` to a
standard error that nobody reads. Or `turning`: it never does.
"""

import sys
import threading
import time

from jobs import logs
from jobs.process.health import Heartbeat

directory, stuck_after_s, how = sys.argv[1:]
logs.configure("info")
with Heartbeat("relay", directory, stuck_after_s=float(stuck_after_s)) as heartbeat:
    until = time.monotonic() + 0.2
    while how == "turning" or time.monotonic() < until:
        heartbeat()
        time.sleep(0.01)
    while how == "writing":
        logs.log.info("loop.written", filling="x" * 4096)
    threading.Event().wait()
