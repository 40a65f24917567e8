"""What /_standin changes: faults, time, who may ask; and objects made without asking the API."""

from typing import Any

from billing.standin import parameters
from billing.standin.access import READ, WRITE
from billing.standin.api import authorisations, intents, payment_methods
from billing.standin.api.cards import by_token
from billing.standin.call import Call
from billing.standin.faults import BadRule
from billing.standin.objects import Json
from billing.standin.state import State
from billing.standin.waiting import Ending

from .views import Query, get_clock, get_keys

COUNT_MAX = 200_000  # authorisations in one go; 200,000 take about 5 s and 600 MB


async def post_faults(state: State, query: Query, asked: Any) -> Json:
    rules = asked if isinstance(asked, list) else [asked]
    return {"ids": [state.faults.add(rule).id for rule in rules]}


async def delete_faults(state: State, query: Query, asked: Any) -> Json:
    state.faults.clear()
    return {"faults": []}


async def post_release(state: State, query: Query, asked: Any) -> Json:
    return {"released": state.waiting.release(asked.get("ids"), Ending(asked.get("then", "proceed")))}


async def post_clock(state: State, query: Query, asked: Any) -> Json:
    seconds = asked.get("advance_s", 0)
    if not isinstance(seconds, int | float) or seconds < 0:
        raise BadRule("`advance_s` is a number of seconds; the clock never goes back")
    agenda = state.world.agenda
    state.world.clock.advance(seconds)
    if "expire" in asked:
        change = agenda.resume if asked["expire"] else agenda.pause
        change(authorisations.expire)
    state.clockwork.clock_moved()
    return await get_clock(state, query, asked)


async def post_keys(state: State, query: Query, asked: Any) -> Json:
    for name in ("accepted", "expired"):
        if not isinstance(asked.get(name) or [], list):
            raise BadRule(f"`{name}` is a list of API keys")
    if "accepted" in asked:
        state.access.accepted = None if asked["accepted"] is None else set(asked["accepted"])
    if "expired" in asked:
        state.access.expired = set(asked["expired"] or ())
    if "accounts" in asked:
        state.access.accounts = dict(asked["accounts"])
    if "permissions" in asked:
        state.access.permissions = _permissions(asked["permissions"])
    return await get_keys(state, query, asked)


async def post_authorisations(state: State, query: Query, asked: Any) -> Json:
    count = asked.get("count", 1)
    if type(count) is not int or not 1 <= count <= COUNT_MAX:
        raise BadRule(f"`count` is a whole number from 1 to {COUNT_MAX}")
    books = state.world.books(asked.get("account", state.world.settings.account), bool(asked.get("livemode", False)))
    call = Call(state.world, books, (), {}, state.world.now(), None, None)
    card = by_token(asked.get("card", "pm_card_visa"))
    if card is None or card.decline is not None:
        raise BadRule("`card` is one of Stripe's test cards that are not declined, such as pm_card_visa")
    form = {
        "amount": str(asked.get("amount", 1999)),
        "currency": asked.get("currency", "usd"),
        "metadata": asked.get("metadata", {}),
        "capture_method": "manual",
        "confirm": "true",
        "off_session": str(asked.get("off_session", False)).lower(),
        "payment_method": payment_methods.new(call, card).id,
    }
    if asked.get("customer") is not None:
        form["customer"] = asked["customer"]
    call.params = parameters.read(intents.CREATE, form)
    made = [intents.create(call) for _ in range(count)]
    charge = books.charges.get(made[-1]["latest_charge"])
    return {
        "payment_intents": [intent["id"] for intent in made],
        "capture_before": charge.capture_before if charge else None,
    }


async def post_reset(state: State, query: Query, asked: Any) -> Json:
    state.reset()
    return {"ok": True}


def _permissions(asked: Any) -> dict[str, dict[str, str]]:
    for api_key, allowed in asked.items():
        if not api_key.startswith("rk_") or not set(allowed.values()) <= {READ, WRITE}:
            raise BadRule('`permissions` is {"rk_…": {"payment_intents": "read" or "write", …}, …}')
    return dict(asked)
