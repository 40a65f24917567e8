"""The process of one function of ours: `python -m jobs.process.function`, which only `jobs.process.apart` starts.

It says when it is ready, reads from standard input which function to run, and writes one line of JSON to standard
output: the result, why it was not begun, or what it raised. Whatever else is printed here goes to standard error.
"""

import json
import resource
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from billing.gateway import RUN, Budget, NotSent, Request, Response
from jobs import logs
from jobs.config.loading import load
from jobs.process.patience import patiently
from jobs.process.runtime import Runtime
from jobs.schedules.functions import FUNCTIONS, Function, Functions

if TYPE_CHECKING:
    from jobs.reconciliation.passes import Reconciliation

READY = "ready"
"""The line that it writes first, once it has imported what it needs."""


def main(functions: Mapping[str, Function] = FUNCTIONS) -> None:
    serve(partial(_answer, functions=functions))


def serve(answer: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
    """Say that this process is ready, read what it is asked, and write the answer, or what was raised."""
    answer_to, sys.stdout = sys.stdout, sys.stderr
    answer_to.write(f"{READY}\n")
    answer_to.flush()
    asked = json.load(sys.stdin)
    _limit(asked["memory_mb"])
    try:
        said = answer(asked)
    except Exception as error:  # noqa: BLE001 - the worker that waits for it logs it, and counts an attempt
        said = {"raised": list(logs.chain_of(error))}
    json.dump(said, answer_to)


def _limit(memory_mb: int) -> None:
    # Not RLIMIT_AS: threads and libraries reserve much address space that they never use.
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def _reconciliation(runtime: Runtime) -> "AbstractContextManager[Reconciliation]":
    """Made only for the function that reads Stripe: the others need neither its key nor what calls it."""
    from jobs.process import reconciling  # noqa: PLC0415 - it loads Stripe and Redis, half a second of each start

    return reconciling.opened(runtime.settings, partial(patiently, runtime))


def _answer(asked: Mapping[str, Any], functions: Mapping[str, Function]) -> dict[str, Any]:
    settings = load()
    logs.configure(settings.log_level, settings.log_format)
    runtime = Runtime(settings, f"function-{asked['path'].rpartition('/')[2]}")
    try:
        request = Request(RUN, asked["path"], asked["body"])
        budget = Budget(not_after=asked["not_after"], over_at=asked["over_at"])
        own = Functions(
            runtime.engine,
            livemode=settings.livemode,
            keep_days=settings.keep_days,
            reconciliation=partial(_reconciliation, runtime),
            warn_hours=settings.warn_hours,
            calendars=settings.calendars,
            keeps_documents=settings.keeps_documents,
            functions=functions,
        )
        answer = own.send(request, budget)
    finally:
        runtime.close()
    match answer:
        case Response(data=data) if data is not None:
            return {"status": 200, "data": data, "request_id": None}
        case NotSent(why):
            return {"not_sent": why}
    raise AssertionError("functions answer with a result, or are not begun")


if __name__ == "__main__":
    main()
