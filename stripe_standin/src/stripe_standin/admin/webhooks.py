"""Webhooks: every attempt, the settings of what goes wrong, sending one again, and rolling a secret."""

from stripe_standin import fields
from stripe_standin.api import webhook_endpoints
from stripe_standin.books import Books
from stripe_standin.fields import Refused
from stripe_standin.objects import Endpoint, Json
from stripe_standin.state import State
from stripe_standin.webhooks.lines import Attempt

from .views import AFTER, WAIT_S

ATTEMPTS_OF = fields.table({"event": fields.text, "endpoint": fields.text, "after": AFTER, "wait_s": WAIT_S})
DELIVERY = fields.table({"event": fields.text, "endpoint": fields.text}, required=("event", "endpoint"))
ROLLING = fields.table(
    {"endpoint": fields.text, "keep_s": fields.whole(0, webhook_endpoints.ROLLING_MAX_S)}, required=("endpoint",)
)


async def get_webhooks(state: State, asked: Json) -> Json:
    """Every attempt. With `wait_s`, it first waits until no delivery is due, or the time is over."""
    webhooks = state.webhooks
    await webhooks.quiet(asked.get("wait_s", 0))
    after, event, endpoint = asked.get("after", 0), asked.get("event"), asked.get("endpoint")
    attempts = [
        _attempt(each)
        for each in webhooks.attempts
        if each.n > after and event in (None, each.event.id) and endpoint in (None, each.endpoint)
    ]
    return {"settings": webhooks.disorder.shown(), **webhooks.counts(), "attempts": attempts}


async def post_webhooks(state: State, asked: Json) -> Json:
    state.webhooks.disorder.change(asked)
    state.webhooks.settings_changed()
    return {"settings": state.webhooks.disorder.shown(), **state.webhooks.counts()}


async def post_deliveries(state: State, asked: Json) -> Json:
    books, endpoint = _endpoint(state, asked["endpoint"])
    event = books.events.get(asked["event"])
    if event is None:
        raise Refused(f"`event`: the account of {endpoint.id} has no event {asked['event']!r} in its mode")
    if endpoint.status != "enabled":
        raise Refused(f"`endpoint`: {endpoint.id} is disabled")
    state.webhooks.resend(books, endpoint, event)
    return state.webhooks.counts()


async def post_secrets(state: State, asked: Json) -> Json:
    books, endpoint = _endpoint(state, asked["endpoint"])
    keep_s = asked.get("keep_s", webhook_endpoints.ROLLING_MAX_S)
    return {"secret": webhook_endpoints.roll(state.world, books, endpoint, keep_s).value}


def _endpoint(state: State, named: str) -> tuple[Books, Endpoint]:
    """Find an endpoint in all accounts and modes: ids are unique."""
    for books in state.world.all_books():
        endpoint = books.endpoints.get(named)
        if endpoint is not None:
            return books, endpoint
    raise Refused(f"`endpoint`: there is no endpoint {named!r}")


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
