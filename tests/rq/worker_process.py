"""The worker process of these tests.

Arguments: Redis URL, environment, queue, a folder to write in, a bell's timeout in seconds.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from jobs import logs
from jobs.rq import bells
from jobs.rq.workers import ShiftControl, run_worker

url, environment, queue = sys.argv[1:4]
folder = Path(sys.argv[4])


def write(line: str) -> None:
    with (folder / "shifts").open("a") as shifts:
        shifts.write(line + "\n")


def take_shift(control: ShiftControl) -> str:
    write(f"started {os.getpid()} {time.monotonic_ns()}")
    while (folder / "hold").exists():
        before = time.monotonic()
        control.keep_alive()
        waited_s = time.monotonic() - before
        if waited_s > 0.5:
            write(f"waited {waited_s:.1f}")
        time.sleep(0.005)
    if (folder / "break").exists():
        raise RuntimeError("the secret of this shift")
    write(f"ended {os.getpid()} stop_requested={control.stop_requested()}")
    return "nobody reads this"


if __name__ == "__main__":
    logs.configure("info")
    bells.choose_prefix(environment)
    from jobs.rq import overrides

    # The promise is every 10 s. A test should not take that long.
    vars(overrides).update(KEEP_ALIVE_EVERY_S=0.1, BELL_TIMEOUT_S=int(sys.argv[5]))
    sys.exit(run_worker(url, environment, queue, take_shift, (folder / "beat").touch))
