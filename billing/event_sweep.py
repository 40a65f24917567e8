"""Reads the events that no webhook brought: the schedule `sweep_events`, page by page, into the inbox.

Each run reads the time since the run before it, which its row says: its own tick, and how many ticks were missed. A
page is one call, and the position is committed with the events of that page: a run whose worker dies goes on there.
"""

from datetime import timedelta

from billing.events import event_of
from billing.facts import new_fact
from billing.idempotency import Rules
from billing.learned import Learned
from billing.observing import SWEEP
from billing.states import RunState, set_state
from billing.steps import Ask, Json, LoadedOperation, LookResult, Reader, Step, Unread, body_of
from billing.tables.facts import Fact
from billing.tables.scheduled_runs import ScheduledRun

EVERY = timedelta(hours=1)
"""As in its row of `billing.schedules`."""
OVERLAP = timedelta(minutes=5)
"""Clocks differ, and an event is listed a moment after its time. What is read twice is put in once."""
PAGE = 100


def run_of(loaded: LoadedOperation) -> ScheduledRun:
    assert isinstance(loaded.row, ScheduledRun), "the operation's own table"
    return loaded.row


def _find(loaded: LoadedOperation, read: Reader, _livemode: bool) -> LookResult:
    run = run_of(loaded)
    since = run.at - EVERY * (run.missed + 1) - OVERLAP
    answer = read.get(
        "/v1/events",
        {
            # Those that an endpoint has not taken yet: of what webhooks brought, nothing is read again.
            "delivery_success": False,
            "created": {"gte": int(since.timestamp()), "lt": int(run.at.timestamp()) + 1},
            "limit": PAGE,
            **({"starting_after": run.position} if run.position else {}),
        },
    )
    page = body_of(answer)
    events, more = page.get("data"), page.get("has_more")
    if not isinstance(events, list) or not isinstance(more, bool) or (more and not events):
        raise Unread(answer, "a list without data, or without has_more")
    return LookResult(Learned.SUCCEEDED, page)


def _apply(loaded: LoadedOperation, _outcome: Learned, page: Json, _why: str) -> list[Fact]:
    run = run_of(loaded)
    read = [event for each in page["data"] if (event := event_of(each, source=SWEEP)) is not None]
    loaded.events += read
    if page["has_more"]:
        run.position = str(page["data"][-1].get("id"))[:255]
        return []
    set_state(run, RunState.DONE)
    pages = len(loaded.generations(READ_EVENTS.name))
    result = {"pages": pages, "events": PAGE * (pages - 1) + len(read)}
    return [new_fact(run, "done", schedule=run.schedule, at=run.at.isoformat(), result=result)]


READ_EVENTS = Step(
    name="read_events",
    ask=lambda _loaded: Ask("GET", "/v1/events"),
    find=_find,
    apply=_apply,
    rules=Rules(replays=False),
)
