"""Functions that misbehave: `python heavy.py HOW` is the process of one of them, in place of every schedule's own."""

import os
import resource
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from billing.schedules import SCHEDULES
from jobs.process.function import main
from jobs.schedules.functions import Invocation


def eat(_given: Invocation) -> Mapping[str, Any]:
    """Far more than any limit in these tests, and each page is touched."""
    return {"eaten": len(bytearray(os.urandom(1)) * (2 << 30))}


def behave(given: Invocation) -> Mapping[str, Any]:
    print("a library prints something")
    session = Path("/proc/self/autogroup")
    shared = session.read_text().split() if session.exists() else []  # empty where Linux does not share by session
    return {
        "at": given.at.isoformat(),
        "niceness": os.nice(0),
        "niceness of its session": int(shared[-1]) if shared else None,
        "pid": os.getpid(),
    }


def kill(_given: Invocation) -> Mapping[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it is dead")


def sleep(_given: Invocation) -> Mapping[str, Any]:
    time.sleep(600)
    raise AssertionError("nobody waits for so long")


def start_slowly(given: Invocation) -> Mapping[str, Any]:
    return behave(given)


def begin_where_no_process_is_left(given: Invocation) -> Mapping[str, Any]:
    return behave(given)


def _no_more_processes() -> None:
    """Until SIGUSR1."""
    us = os.getresuid()
    if 0 in us:  # for root there is no limit
        os.setresuid(65534, 65534, 0)
    few, most = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, most))

    def as_before(*_: object) -> None:
        os.setresuid(*us)
        resource.setrlimit(resource.RLIMIT_NPROC, (few, most))

    signal.signal(signal.SIGUSR1, as_before)


HOW = {each.__name__: each for each in (eat, behave, begin_where_no_process_is_left, kill, sleep, start_slowly)}

if __name__ == "__main__":
    if sys.argv[1] == start_slowly.__name__:
        time.sleep(1)
    if sys.argv[1] == begin_where_no_process_is_left.__name__:
        _no_more_processes()
    main(dict.fromkeys([schedule.name for schedule in SCHEDULES], HOW[sys.argv[1]]))
