"""What /_standin changes: faults, the clock, API keys; and objects that it makes without an API request."""

from contextlib import suppress
from typing import Any

from stripe_standin import fields, parameters
from stripe_standin.access import ACCOUNT, API_KEY, READ, RESTRICTED_KEY, WRITE
from stripe_standin.api import ROUTES
from stripe_standin.api.customers import payment_methods
from stripe_standin.api.customers.cards import by_token
from stripe_standin.api.payments import authorizations, intents, refusals
from stripe_standin.books import Books
from stripe_standin.call import Call
from stripe_standin.errors import StripeError
from stripe_standin.fields import Refused
from stripe_standin.index import LAG_MAX_S
from stripe_standin.objects import Json, shown
from stripe_standin.state import State
from stripe_standin.waiting import Ending

from .views import get_clock, get_keys, get_search

COUNT_MAX = 200_000  # authorizations in one go; 200,000 take about 7 s and 800 MB
ADVANCED_MAX_S = 100 * 365 * 86_400  # in all; JSON and a calendar can hold such times

RELEASE = fields.table(
    {"ids": fields.list_of(fields.text), "then": fields.one_of(Ending.PROCEED.value, Ending.FORGET.value)}
)
CLOCK = fields.table({"advance_s": fields.number(0, ADVANCED_MAX_S), "expire": fields.flag})
SEARCH = fields.table({"lag_s": fields.number(0, LAG_MAX_S)}, required=("lag_s",))
# What follows /v1/ in the path of a route.
_THINGS = dict.fromkeys(operation.split("/")[2] for operation in ROUTES)
KEYS = fields.table(
    {
        "accepted": fields.or_null(fields.list_of(API_KEY)),
        "expired": fields.list_of(API_KEY),
        "accounts": fields.mapping(API_KEY, ACCOUNT),
        "permissions": fields.mapping(
            RESTRICTED_KEY, fields.mapping(fields.one_of(*_THINGS), fields.one_of(READ, WRITE))
        ),
    }
)
_WHERE = {"account": ACCOUNT, "livemode": fields.flag}
AUTHORIZATIONS = fields.table(
    {
        **_WHERE,
        "count": fields.whole(1, COUNT_MAX),
        "amount": fields.whole(1, parameters.AMOUNT_MAX),
        "currency": fields.text,
        "customer": fields.text,
        "metadata": fields.mapping(fields.text, fields.text),
        "card": fields.text,
        "off_session": fields.flag,
    }
)
AUTHENTICATION = fields.table(
    {**_WHERE, "payment_intent": fields.text, "outcome": fields.one_of("succeeded", "failed")},
    required=("payment_intent", "outcome"),
)


async def post_faults(state: State, asked: list[dict[str, Any]]) -> Json:
    return {"ids": [rule.id for rule in state.faults.add(asked)]}


async def delete_faults(state: State, asked: Json) -> Json:
    state.faults.clear()
    return {"faults": []}


async def post_release(state: State, asked: Json) -> Json:
    """Release all of the named requests or none: the caller should learn that a client has left meanwhile."""
    ids = asked.get("ids")
    gone = [each for each in ids or () if each not in state.waiting.held]
    if gone:
        raise Refused(f"`ids`: {', '.join(gone)} not held (any more), so none was released")
    return {"released": state.waiting.release(ids, Ending(asked.get("then", Ending.PROCEED)))}


async def post_clock(state: State, asked: Json) -> Json:
    seconds, agenda, clock = asked.get("advance_s", 0), state.world.agenda, state.world.clock
    if seconds > ADVANCED_MAX_S - clock.advanced_s:
        raise Refused(f"`advance_s`: the clock goes forward by {ADVANCED_MAX_S:,} seconds in all")
    clock.advance(seconds)
    if "expire" in asked:
        if asked["expire"]:
            agenda.resume(authorizations.expire, state.world.now())
        else:
            agenda.pause(authorizations.expire)
    state.clockwork.clock_moved()
    return await get_clock(state, {})


async def post_keys(state: State, asked: Json) -> Json:
    for name, value in asked.items():
        setattr(state.access, name, set(value) if isinstance(value, list) else value)
    return await get_keys(state, {})


async def post_search(state: State, asked: Json) -> Json:
    state.world.index.lag_s = asked["lag_s"]
    return await get_search(state, {})


async def post_authorizations(state: State, asked: Json) -> Json:
    books = _books(state, asked)
    call = Call(state.world, books, (), {}, state.world.now(), None, None)
    card = by_token(asked.get("card", "pm_card_visa"))
    if card is None or card.decline is not None or card.authenticates:
        raise Refused("`card` is one of Stripe's test cards that are not declined, such as pm_card_visa")
    form = {
        "amount": str(asked.get("amount", 1999)),
        "currency": asked.get("currency", "usd"),
        "metadata": asked.get("metadata", {}),
        "capture_method": "manual",
        "confirm": "true",
        "off_session": str(asked.get("off_session", False)).lower(),
    }
    if "customer" in asked:
        form["customer"] = asked["customer"]
    call.params = parameters.read(intents.CREATE, form)
    made = []
    for _ in range(asked.get("count", 1)):
        # A new card for each: a card without a customer can be used once only.
        call.params["payment_method"] = payment_methods.new(call, card).id
        made.append(intents.create(call))
    charge = books.charges.get(made[-1]["latest_charge"])
    return {
        "payment_intents": [intent["id"] for intent in made],
        "capture_before": charge.capture_before if charge else None,
    }


async def post_authentications(state: State, asked: Json) -> Json:
    """Act as the customer on the bank's page. The answer is the intent after that."""
    books, named = _books(state, asked), asked["payment_intent"]
    intent = books.intents.get(named)
    if intent is None:
        mode = "live" if books.livemode else "test"
        raise Refused(f"`payment_intent`: {books.account} has no {named} in {mode} mode")
    if intent.status != "requires_action":
        raise Refused(f"`payment_intent`: {named} waits for nothing of its customer, it has the status {intent.status}")
    call = Call(state.world, books, (), {}, state.world.now(), None, None)
    method = books.find(books.payment_methods, intent.payment_method or "", "payment_method")
    # The bank may still decline after the authentication. That is no error here; the intent shows it.
    with suppress(StripeError):
        if asked["outcome"] == "succeeded":
            authorizations.authorize(call, intent, method, off_session=False, authenticated=True)
        else:
            refusals.not_authenticated(call, intent, method)
    return {"payment_intent": shown(books.intents.get(intent.id) or intent)}


async def post_reset(state: State, asked: Json) -> Json:
    state.reset()
    return {"ok": True}


def _books(state: State, asked: Json) -> Books:
    return state.world.books(asked.get("account", state.world.settings.account), asked.get("livemode", False))
