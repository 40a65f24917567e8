"""The process of one function of ours: `python -m jobs.process.function`, which only `jobs.process.apart` starts.

It reads from standard input which function to run, and writes one line of JSON to standard output: the result, why it
was not begun, or what it raised. Whatever else is printed here goes to standard error.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from billing.gateway import RUN, Budget, NotSent, Request, Response
from jobs import logs
from jobs.config.loading import load
from jobs.process.runtime import Runtime
from jobs.schedules.functions import FUNCTIONS, Function, Functions

NICENESS = 10
"""On a busy machine such a process gets about a tenth of the time of one that does not give way: Linux gives it 110
shares, and the other 1,024 (kernel/sched/core.c, `sched_prio_to_weight`)."""
_ONE_CHANGE_IN_S, _TRIES = 0.1, 10
"""The kernel lets users without privileges change one session's share in a tenth of a second, on the whole machine
(kernel/sched/autogroup.c). If it refuses each time, nice alone must do."""


def main(functions: Mapping[str, Function] = FUNCTIONS) -> None:
    asked = json.load(sys.stdin)
    answer_to, sys.stdout = sys.stdout, sys.stderr
    _limit(asked["memory_mb"])
    json.dump(_answer(asked, functions), answer_to)


def _limit(memory_mb: int) -> None:
    _give_way()
    # Not RLIMIT_AS: threads and libraries reserve much address space that they never use.
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def _give_way() -> None:
    """Only now: what it has imported until here takes a second, and its time is limited on a busy machine, too."""
    os.nice(NICENESS)
    # Where Linux shares the processor between sessions first (sched_autogroup), nice counts only within a session: so
    # this is a session of its own, which gives way as a whole. Source: sched(7), "The autogroup feature".
    os.setsid()
    for _ in range(_TRIES):
        try:
            Path("/proc/self/autogroup").write_text(str(NICENESS))
        except BlockingIOError:
            time.sleep(_ONE_CHANGE_IN_S)
        except OSError:
            return  # no such feature here, or a container that does not show it
        else:
            return


def _answer(asked: Mapping[str, Any], functions: Mapping[str, Function]) -> dict[str, Any]:
    try:
        settings = load()
        logs.configure(settings.log_level, settings.log_format)
        runtime = Runtime(settings, f"function-{asked['path'].rpartition('/')[2]}")
        try:
            request = Request(RUN, asked["path"], asked["body"])
            budget = Budget(not_after=asked["not_after"], over_at=asked["over_at"])
            own = Functions(
                runtime.engine, livemode=settings.livemode, keep_days=settings.keep_days, functions=functions
            )
            answer = own.send(request, budget)
        finally:
            runtime.close()
    except Exception as error:  # noqa: BLE001 - the worker that waits for it logs it, and counts an attempt
        return {"raised": list(logs.chain_of(error))}
    match answer:
        case Response(data=data) if data is not None:
            return {"result": data["result"]}
        case NotSent(why):
            return {"not_sent": why}
    raise AssertionError("functions answer with a result, or are not begun")


if __name__ == "__main__":
    main()
