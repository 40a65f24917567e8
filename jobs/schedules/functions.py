"""The functions of the schedules, as a gateway to them. It stands in the process of one function
(`jobs.process.function`); a worker of the queue `maintenance` starts one for each call (`jobs.process.apart`).

A function is idempotent, opens short transactions itself, and returns a small result, which becomes the answer of the
call and is kept in the fact `run.done`. An exception counts as an attempt, and after five the run is quarantined. A
lost connection to Postgres counts as nothing: the run waits for it.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from billing.gateway import RUN, Answer, Budget, NotSent, Request, Response, boot_clock
from billing.periods import Calendars
from jobs.config.secrets import SecretError
from jobs.growth import forgotten
from jobs.growth.clean_up import clean_up
from jobs.reconciliation.passes import Reconciliation
from jobs.road.verdicts import Failure, classify
from jobs.schedules import catalog, deadlines, invoicing, missing_documents, queue_health

WARN_HOURS = 24
"""How long before its deadline a capture is warned of, unless a setting says otherwise."""
RESULT_MOST = 15_000
"""Characters of a result as JSON: a fact takes 16,384."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """What a function is given.

    `engine`: connections of its own, with the rights of a worker. `at`: the time for which it runs; if a worker dies,
    it is run again for the same time. `over_at`: by `boot_clock`; a function that takes longer is killed, so one
    that has much to do stops before and leaves the rest to its next run. `keep_days`: BILLING_KEEP_DAYS.
    `warn_hours`: BILLING_WARN_HOURS. `calendars`: BILLING_INVOICE_PERIODS.
    `reconciliation`: opens what reads Stripe, and raises SecretError where this worker has no key; None: it may not.
    """

    engine: Engine
    at: datetime
    over_at: float
    keep_days: int = 0
    warn_hours: int = WARN_HOURS
    calendars: Calendars = field(default_factory=Calendars)
    reconciliation: Callable[[], AbstractContextManager[Reconciliation]] | None = None
    keeps_documents: bool = False
    """Whether this installation keeps the documents of invoices."""

    @property
    def left_s(self) -> float:
        """Seconds that are left to it."""
        return self.over_at - boot_clock()


EVENTS_S = 5.0
"""So long it forgets events first."""
LEFT_OVER_S = 10.0
"""The clean-up and the reconciliation begin no further page when so little of their time is left: one of the clean-up
takes up to 3 s, and one of Stripe's seldom as long."""

Function = Callable[[Invocation], Mapping[str, Any]]


def _reconcile(given: Invocation) -> Mapping[str, Any]:
    """A worker without a key skips it: to give this queue one is the operator's decision."""
    if given.reconciliation is None:
        return {"skipped": "this worker reads nothing at Stripe"}
    try:
        with given.reconciliation() as reconciliation:
            return reconciliation.run(lambda: given.left_s - LEFT_OVER_S).as_result()
    except SecretError as error:
        return {"skipped": f"no key to read Stripe with: {error}"}


def _request_documents(given: Invocation) -> Mapping[str, Any]:
    if not given.keeps_documents:
        return {"skipped": "documents are not kept: docs/moves/documents.md"}
    return missing_documents.request(given.engine, lambda: given.left_s - LEFT_OVER_S)


FUNCTIONS: Mapping[str, Function] = {
    "snapshot_queues": lambda given: queue_health.snapshot(given.engine),
    "warn_of_deadlines": lambda given: deadlines.warn(given.engine, given.warn_hours, lambda: given.left_s),
    "report_catalog": lambda given: catalog.report(given.engine),
    "remove_concluded": lambda given: {
        "events": forgotten.forget_events(given.engine, within_s=EVENTS_S),
        **asdict(clean_up(given.engine, at_least_days=given.keep_days, within_s=given.left_s - LEFT_OVER_S)),
    },
    "reconcile_stripe": _reconcile,
    "invoice_captures": lambda given: invoicing.invoice_captures(
        given.engine, given.calendars, lambda: given.left_s
    ).as_result(),
    "request_documents": _request_documents,
}
"""By the name of their schedule (`billing.schedules`)."""


class Functions:
    """A `Gateway` to functions of ours."""

    def __init__(
        self,
        engine: Engine,
        *,
        livemode: bool,
        keep_days: int = 0,
        warn_hours: int = WARN_HOURS,
        calendars: Calendars = Calendars(),  # noqa: B008 - frozen
        reconciliation: Callable[[], AbstractContextManager[Reconciliation]] | None = None,
        keeps_documents: bool = False,
        functions: Mapping[str, Function] = FUNCTIONS,
    ) -> None:
        self.livemode = livemode
        self._engine, self._functions = engine, functions
        self._keep_days, self._warn_hours, self._reconciliation = keep_days, warn_hours, reconciliation
        self._calendars = calendars
        self._keeps_documents = keeps_documents

    def send(self, request: Request, budget: Budget) -> Answer:
        """Run the function that the path names. Raises what the function raises: the crew reports it."""
        if request.method != RUN:
            return NotSent("this queue runs functions of ours only")
        if boot_clock() > budget.not_after:
            return NotSent("too late to start")
        function = self._functions[request.path.removeprefix("/run/")]
        (at,) = parse_qs(request.body)["at"]
        try:
            invocation = Invocation(
                engine=self._engine,
                at=datetime.fromisoformat(at),
                over_at=budget.over_at,
                keep_days=self._keep_days,
                warn_hours=self._warn_hours,
                calendars=self._calendars,
                reconciliation=self._reconciliation,
                keeps_documents=self._keeps_documents,
            )
            result = function(invocation)
        except SQLAlchemyError as error:
            if classify(error) is not Failure.RECONNECT:
                raise
            self._engine.dispose()
            return NotSent(f"Postgres is away: {type(error).__name__}")
        kept = json.dumps(result)
        if len(kept) > RESULT_MOST:
            raise ValueError(f"a result of {len(kept)} characters, which no fact takes")
        return Response(200, kept.encode(), {"livemode": self.livemode, "result": result}, None, replayed=False)
