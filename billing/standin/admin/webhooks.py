"""Webhooks: every attempt that was made, what goes wrong, sending one again, and rolling a secret."""

from typing import Any

from billing.standin.api import webhook_endpoints
from billing.standin.books import Books
from billing.standin.faults import BadRule
from billing.standin.objects import Endpoint, Json
from billing.standin.state import State
from billing.standin.webhooks.lines import Attempt

from .views import WAIT_MAX_S, Query


async def get_webhooks(state: State, query: Query, asked: Any) -> Json:
    """What was attempted; with `wait_s`, once nothing is due any more (or the time is over)."""
    webhooks = state.webhooks
    await webhooks.quiet(min(float(query.get("wait_s", 0)), WAIT_MAX_S))
    after, event, endpoint = int(query.get("after", 0)), query.get("event"), query.get("endpoint")
    attempts = [
        _attempt(each)
        for each in webhooks.attempts
        if each.n > after and event in (None, each.event.id) and endpoint in (None, each.endpoint)
    ]
    return {"settings": webhooks.disorder.shown(), **webhooks.counts(), "attempts": attempts}


async def post_webhooks(state: State, query: Query, asked: Any) -> Json:
    state.webhooks.disorder.change(asked)
    state.webhooks.arranged()
    return {"settings": state.webhooks.disorder.shown(), **state.webhooks.counts()}


async def post_deliveries(state: State, query: Query, asked: Any) -> Json:
    books, endpoint = _endpoint(state, asked.get("endpoint"))
    event = books.events.get(str(asked.get("event")))
    if event is None:
        raise BadRule(f"the account of {endpoint.id} has no event {asked.get('event')!r} in its mode")
    if endpoint.status != "enabled":
        raise BadRule(f"{endpoint.id} is disabled")
    state.webhooks.resend(books, endpoint, event)
    return state.webhooks.counts()


async def post_secrets(state: State, query: Query, asked: Any) -> Json:
    keep_s = asked.get("keep_s", webhook_endpoints.ROLLING_MAX_S)
    if type(keep_s) is not int or not 0 <= keep_s <= webhook_endpoints.ROLLING_MAX_S:
        raise BadRule(f"`keep_s` is a whole number from 0 to {webhook_endpoints.ROLLING_MAX_S}")
    books, endpoint = _endpoint(state, asked.get("endpoint"))
    return {"secret": webhook_endpoints.roll(state.world, books, endpoint, keep_s).value}


def _endpoint(state: State, named: Any) -> tuple[Books, Endpoint]:
    """No id is given twice, so the account and the mode need not be said."""
    for books in state.world.all_books():
        endpoint = books.endpoints.get(str(named))
        if endpoint is not None:
            return books, endpoint
    raise BadRule(f"there is no endpoint {named!r}")


def _attempt(attempt: Attempt) -> Json:
    return {
        "n": attempt.n,
        "time": attempt.at,
        "event": attempt.event.id,
        "type": attempt.event.type,
        "endpoint": attempt.endpoint,
        "attempt": attempt.number,
        "by_hand": attempt.by_hand,
        "status": attempt.outcome.status,
        "error": attempt.outcome.error,
        "delivered": attempt.outcome.delivered,
    }
