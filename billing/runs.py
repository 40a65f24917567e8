"""The run of a schedule, an operation that a function of ours carries out instead of Stripe.

A run is work like any other: planned, claimed, leased, settled, tried again, quarantined, stopped by a switch. Only its
call is different: a worker of the queue `maintenance` runs the function of this name, and what it returns is the
answer. There is nothing at Stripe to look at, so a run whose worker died is simply repeated: each function must be
idempotent.

One schedule is no function: it is a step that only looks at Stripe, on a queue whose workers keep to its limits and
pause while it is away (`billing.event_sweep`).
"""

from collections.abc import Iterator, Sequence

from sqlalchemy.orm import Session

from billing.accounts import accounts
from billing.event_sweep import READ_EVENTS, run_of
from billing.facts import new_fact
from billing.gateway import RUN
from billing.idempotency import Rules
from billing.learned import Learned
from billing.registration import Contract, Operation, Retry
from billing.schedules import SCHEDULES
from billing.states import RunState, set_state
from billing.steps import Ask, Json, Judgment, LoadedOperation, LookResult, Reader, Step
from billing.tables.facts import Fact
from billing.tables.scheduled_runs import ScheduledRun

QUEUE = "maintenance"


def _connected(session: Session, rows: Sequence[ScheduledRun]) -> Iterator[tuple[str, str]]:
    """Every connected account, for the runs that read in them."""
    sweeps = [row.id for row in rows if STEPS[row.schedule] is READ_EVENTS]
    for account in accounts(session) if sweeps else ():
        yield from ((run, account) for run in sweeps if account is not None)


def _ask(loaded: LoadedOperation) -> Ask:
    run = run_of(loaded)
    return Ask(RUN, f"/run/{run.schedule}", {"at": run.at.isoformat()})


def _apply(loaded: LoadedOperation, _outcome: Learned, data: Json, _why: str) -> list[Fact]:
    run = run_of(loaded)
    set_state(run, RunState.DONE)
    return [new_fact(run, "done", schedule=run.schedule, at=run.at.isoformat(), result=data.get("result"))]


def _nothing_to_find(_loaded: LoadedOperation, _read: Reader, _livemode: bool) -> LookResult:
    return LookResult(Learned.ABSENT, why="a function of ours is not looked at; it is run again")


CALL = Step(
    name="run",
    ask=_ask,
    judge=lambda _loaded, _data: Judgment(Learned.SUCCEEDED),
    find=_nothing_to_find,
    apply=_apply,
    rules=Rules(replays=False, local=True),
)

STEPS = {
    **{schedule.name: CALL for schedule in SCHEDULES if schedule.queue == QUEUE},
    "sweep_events": READ_EVENTS,
}
"""By schedule, what carries it out."""

OPERATION = Operation(
    table=ScheduledRun,
    prefix="run",
    contracts=tuple(
        Contract(
            name=schedule.name,
            # A topic of its own: a relay that does not know this schedule yet leaves its facts to one that does.
            topic=schedule.name,
            queue=schedule.queue,
            max_attempts=5,
            call_budget_s=30,
            retry=Retry.PATIENT,
            owner=schedule.owner,
            purpose=schedule.purpose,
            sheddable=True,
            payload={"at": "time", "missed": "integer"},
        )
        for schedule in SCHEDULES
    ),
    next_step=lambda loaded: STEPS[run_of(loaded).schedule] if run_of(loaded).state == RunState.DUE else None,
    steps={step.name: step for step in STEPS.values()}.__getitem__,
    belongs_to=(),
    parts=_connected,
    shown=lambda _session, row: {
        "schedule": row.schedule,
        "at": row.at,
        "missed": row.missed,
        "asked_by": row.asked_by,
    },
    scope="schedules",
    local=True,
)
