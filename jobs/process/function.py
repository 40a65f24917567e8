"""The processes of functions of ours: `python -m jobs.process.function`, which only `jobs.process.apart` starts."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from billing.gateway import RUN, Budget, NotSent, Request, Response
from jobs import logs
from jobs.config.loading import load
from jobs.process.forking import serve
from jobs.process.patience import patiently
from jobs.process.runtime import Runtime
from jobs.schedules.functions import FUNCTIONS, Function, Functions

if TYPE_CHECKING:
    from jobs.reconciliation.passes import Reconciliation


def main(functions: Mapping[str, Function] = FUNCTIONS) -> None:
    serve(partial(_answer, functions=functions))


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
