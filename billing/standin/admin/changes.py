"""What /_standin changes: faults, time, who may ask; and objects made without asking the API."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from billing.standin import parameters
from billing.standin.access import READ, WRITE
from billing.standin.api.customers import payment_methods
from billing.standin.api.customers.cards import by_token
from billing.standin.api.payments import authorisations, intents, refusals
from billing.standin.books import Books
from billing.standin.call import Call
from billing.standin.errors import StripeError
from billing.standin.faults import BadRule
from billing.standin.index import seconds
from billing.standin.objects import Json, shown
from billing.standin.state import State
from billing.standin.waiting import Ending

from .views import Query, get_clock, get_keys, get_search

COUNT_MAX = 200_000  # authorisations in one go; 200,000 take about 5 s and 600 MB
ADVANCED_MAX_S = 100 * 365 * 86_400  # times stay numbers that JSON and a calendar can hold


async def post_faults(state: State, query: Query, asked: Any) -> Json:
    rules = asked if isinstance(asked, list) else [asked]
    return {"ids": [rule.id for rule in state.faults.add(rules)]}


async def delete_faults(state: State, query: Query, asked: Any) -> Json:
    state.faults.clear()
    return {"faults": []}


async def post_release(state: State, query: Query, asked: Any) -> Json:
    return {"released": state.waiting.release(asked.get("ids"), Ending(asked.get("then", "proceed")))}


async def post_clock(state: State, query: Query, asked: Any) -> Json:
    seconds = asked.get("advance_s", 0)
    agenda, clock = state.world.agenda, state.world.clock
    if type(seconds) not in (int, float) or not 0 <= seconds <= ADVANCED_MAX_S - clock.advanced_s:
        raise BadRule("`advance_s` is a number of seconds, at most 100 years in all; the clock never goes back")
    clock.advance(seconds)
    if "expire" in asked:
        change = agenda.resume if asked["expire"] else agenda.pause
        change(authorisations.expire)
    state.clockwork.clock_moved()
    return await get_clock(state, query, asked)


async def post_keys(state: State, query: Query, asked: Any) -> Json:
    # All of it is read before any of it holds: a refusal changes nothing.
    changes = {name: reader(asked[name]) for name, reader in _KEYS.items() if name in asked}
    for name, value in changes.items():
        setattr(state.access, name, value)
    return await get_keys(state, query, asked)


async def post_search(state: State, query: Query, asked: Any) -> Json:
    try:
        state.world.index.lag_s = seconds(asked["lag_s"])
    except (KeyError, TypeError, ValueError):
        raise BadRule("`lag_s` is how many seconds search is behind") from None
    return await get_search(state, query, asked)


async def post_authorisations(state: State, query: Query, asked: Any) -> Json:
    count = asked.get("count", 1)
    if type(count) is not int or not 1 <= count <= COUNT_MAX:
        raise BadRule(f"`count` is a whole number from 1 to {COUNT_MAX}")
    books = _books(state, asked)
    call = Call(state.world, books, (), {}, state.world.now(), None, None)
    card = by_token(asked.get("card", "pm_card_visa"))
    if card is None or card.decline is not None or card.authenticates:
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


async def post_authentications(state: State, query: Query, asked: Any) -> Json:
    """Do what the customer would at the bank's page, and answer with what became of the intent."""
    if asked.get("outcome") not in ("succeeded", "failed"):
        raise BadRule("`outcome` is succeeded or failed")
    books = _books(state, asked)
    intent = books.intents.get(str(asked.get("payment_intent")))
    if intent is None or intent.status != "requires_action":
        raise BadRule("`payment_intent` is the id of one that requires action")
    call = Call(state.world, books, (), {}, state.world.now(), None, None)
    method = books.find(books.payment_methods, intent.payment_method or "", "payment_method")
    # The bank may still say no, once it knows who asks: nobody is there to be told but the intent.
    with suppress(StripeError):
        if asked["outcome"] == "succeeded":
            authorisations.authorise(call, intent, method, off_session=False, authenticated=True)
        else:
            refusals.not_authenticated(call, intent, method)
    return {"payment_intent": shown(books.intents.get(intent.id) or intent)}


async def post_reset(state: State, query: Query, asked: Any) -> Json:
    state.reset()
    return {"ok": True}


def _books(state: State, asked: Any) -> Books:
    account, livemode = asked.get("account", state.world.settings.account), asked.get("livemode", False)
    if not isinstance(account, str) or not isinstance(livemode, bool):
        raise BadRule("`account` is an account's id, `livemode` true or false")
    return state.world.books(account, livemode)


def _api_keys(asked: Any) -> set[str]:
    if not isinstance(asked, list) or not all(isinstance(each, str) for each in asked):
        raise BadRule("`accepted` and `expired` are lists of API keys")
    return set(asked)


def _accounts(asked: Any) -> dict[str, str]:
    if not all(isinstance(account, str) for account in asked.values()):
        raise BadRule("`accounts` names an account for each API key")
    return dict(asked)


def _permissions(asked: Any) -> dict[str, dict[str, str]]:
    for api_key, allowed in asked.items():
        if not api_key.startswith("rk_") or not set(allowed.values()) <= {READ, WRITE}:
            raise BadRule('`permissions` is {"rk_…": {"payment_intents": "read" or "write", …}, …}')
    return dict(asked)


_KEYS: Mapping[str, Callable[[Any], Any]] = {
    "accepted": lambda asked: None if asked is None else _api_keys(asked),
    "expired": lambda asked: _api_keys(asked or []),
    "accounts": _accounts,
    "permissions": _permissions,
}
