"""Reads the events that no webhook brought: the schedule `sweep_events`, page by page, into the inbox.

Each run reads the time since the run before it, which its row says: its own tick, and how many ticks were missed. It
reads the account of our own key, and then each connected one. A look reads pages of several accounts, and the position
is committed with their events: a run whose worker dies goes on there. A connected account that has shut us out is
passed over, so that it stops nobody else's; reconciliation names it as not read.
"""

from datetime import timedelta

from billing.events import event_of
from billing.facts import new_fact
from billing.gateway import Response
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
ACCOUNTS_MOST = 10
"""Of one look, which has 30 s. Most accounts have no event that was missed, and each is a request."""
SHUT_OUT = (401, 403, 404)


def run_of(loaded: LoadedOperation) -> ScheduledRun:
    assert isinstance(loaded.row, ScheduledRun), "the operation's own table"
    return loaded.row


def _find(loaded: LoadedOperation, read: Reader, _livemode: bool) -> LookResult:
    run = run_of(loaded)
    since = run.at - EVERY * (run.missed + 1) - OVERLAP
    asking = {
        # Those that an endpoint has not taken yet: of what webhooks brought, nothing is read again.
        "delivery_success": False,
        "created": {"gte": int(since.timestamp()), "lt": int(run.at.timestamp()) + 1},
        "limit": PAGE,
    }
    account, after = _place(run)
    accounts = _from(account, loaded)
    pages: list[Json] = []
    for each in accounts[:ACCOUNTS_MOST]:
        going_on = {"starting_after": after} if after and each == account else {}
        answer = read.get_in(each, "/v1/events", asking | going_on)
        if each is not None and isinstance(answer, Response) and answer.status in SHUT_OUT:
            continue
        page = body_of(answer)
        events, more = page.get("data"), page.get("has_more")
        if not isinstance(events, list) or not isinstance(more, bool) or (more and not events):
            raise Unread(answer, "a list without data, or without has_more")
        pages.append({"account": each, "events": events})
        if more:
            return LookResult(Learned.SUCCEEDED, {"pages": pages, "position": _position(each, events[-1].get("id"))})
    left = accounts[ACCOUNTS_MOST:]
    return LookResult(Learned.SUCCEEDED, {"pages": pages, "position": left[0] if left else None})


def _place(run: ScheduledRun) -> tuple[str | None, str | None]:
    """Where it goes on: in which account, and after which event. Its position is `evt_1` in the account of our own key,
    `acct_1` or `acct_1 evt_1` in a connected one."""
    position = run.position or ""
    account, _, after = position.partition(" ") if position.startswith("acct_") else ("", "", position)
    return account or None, after or None


def _position(account: str | None, event: object) -> str:
    return f"{account} {event}" if account else str(event)


def _from(account: str | None, loaded: LoadedOperation) -> list[str | None]:
    """The accounts that are left, in their order, from this one on."""
    connected = sorted(loaded.parts)
    return [each for each in connected if each >= account] if account else [None, *connected]


def _apply(loaded: LoadedOperation, _outcome: Learned, found: Json, _why: str) -> list[Fact]:
    run = run_of(loaded)
    for page in found["pages"]:
        for event in filter(None, (event_of(each, source=SWEEP) for each in page["events"])):
            # In a list that is read in an account, no event names it.
            event.account = event.account or page["account"]
            loaded.events.append(event)
    if found["position"] is not None:
        run.position = found["position"][:255]
        return []
    set_state(run, RunState.DONE)
    result = {"looks": len(loaded.generations(READ_EVENTS.name)), "accounts": 1 + len(loaded.parts)}
    return [new_fact(run, "done", schedule=run.schedule, at=run.at.isoformat(), result=result)]


READ_EVENTS = Step(
    name="read_events",
    ask=lambda _loaded: Ask("GET", "/v1/events"),
    find=_find,
    apply=_apply,
    rules=Rules(replays=False),
)
