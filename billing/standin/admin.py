"""/_standin: look inside, and arrange what goes wrong. No authentication: for the loopback address only.

Bodies and answers are JSON; `docs/standin.md` shows each of them.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson

from . import errors, forms, parameters
from .api import authorisations, intents, payment_methods
from .api.cards import by_token
from .call import Call
from .errors import StripeError
from .faults import BadRule, Rule
from .history import Effect
from .objects import Json
from .waiting import Ending, Held
from .world import Request

if TYPE_CHECKING:
    from .app import Standin

COUNT_MAX = 200_000  # authorisations in one go; 200,000 take about 5 s and 600 MB
WAIT_MAX_S = 60.0


class Admin:
    def __init__(self, standin: "Standin") -> None:
        self._standin = standin
        self._world = standin.world
        self._access = standin.access
        self._faults = standin.faults
        self._idempotency = standin.idempotency
        self._waiting = standin.waiting
        self._routes: dict[str, Callable[[dict[str, str], Any], Awaitable[Json]]] = {
            "GET health": self._get_health,
            "GET effects": self._get_effects,
            "GET requests": self._get_requests,
            "GET faults": self._get_faults,
            "POST faults": self._post_faults,
            "DELETE faults": self._delete_faults,
            "GET held": self._get_held,
            "POST release": self._post_release,
            "GET clock": self._get_clock,
            "POST clock": self._post_clock,
            "GET keys": self._get_keys,
            "POST keys": self._post_keys,
            "POST authorisations": self._post_authorisations,
            "POST reset": self._post_reset,
        }

    async def answer(self, method: str, path: str, query: bytes, body: bytes) -> tuple[int, bytes]:
        route = self._routes.get(f"{method} {path.removeprefix('/_standin/')}")
        if route is None:
            known = ", ".join(self._routes)
            return 404, orjson.dumps({"error": f"no {method} {path}; under /_standin/ there are: {known}"})
        try:
            asked = orjson.loads(body) if body else {}
            return 200, orjson.dumps(await route(dict(parse_qsl(query.decode("latin-1"))), asked))
        except (BadRule, StripeError, ValueError, TypeError, AttributeError) as error:
            # Whatever cannot be read in a hand-written body is the caller's to mend.
            return 400, orjson.dumps({"error": str(error)})

    async def _get_health(self, query: dict[str, str], asked: Any) -> Json:
        return {"ok": True, "requests": self._world.requests_seen, "effects": len(self._world.effects)}

    async def _get_effects(self, query: dict[str, str], asked: Any) -> Json:
        after = int(query.get("after", 0))
        kind = query.get("kind")
        numbered = enumerate(self._world.effects[after:], after + 1)
        return {"effects": [_effect(n, each) for n, each in numbered if kind in (None, each.kind)]}

    async def _get_requests(self, query: dict[str, str], asked: Any) -> Json:
        after, path, key = int(query.get("after", 0)), query.get("path"), query.get("key")
        seen = [
            _request(each)
            for each in self._world.requests
            if each.n > after and path in (None, each.path) and key in (None, each.key)
        ]
        return {"requests": seen}

    async def _get_faults(self, query: dict[str, str], asked: Any) -> Json:
        return {"faults": [_rule(rule) for rule in self._faults.rules]}

    async def _post_faults(self, query: dict[str, str], asked: Any) -> Json:
        rules = asked if isinstance(asked, list) else [asked]
        return {"ids": [self._faults.add(rule).id for rule in rules]}

    async def _delete_faults(self, query: dict[str, str], asked: Any) -> Json:
        self._faults.clear()
        return {"faults": []}

    async def _get_held(self, query: dict[str, str], asked: Any) -> Json:
        wait_s = min(float(query.get("wait_s", 0)), WAIT_MAX_S)
        await self._waiting.until(int(query.get("count", 1)), wait_s)
        return {"held": [_held(held) for held in self._waiting.held.values()]}

    async def _post_release(self, query: dict[str, str], asked: Any) -> Json:
        return {"released": self._waiting.release(asked.get("ids"), Ending(asked.get("then", "proceed")))}

    async def _get_clock(self, query: dict[str, str], asked: Any) -> Json:
        clock = self._world.clock
        return {
            "now": clock.time(),
            "advanced_s": clock.advanced_s,
            "expiry_paused": self._world.agenda.paused(authorisations.expire),
            "keys_kept": len(self._idempotency),
        }

    async def _post_clock(self, query: dict[str, str], asked: Any) -> Json:
        seconds = asked.get("advance_s", 0)
        if not isinstance(seconds, int | float) or seconds < 0:
            raise BadRule("`advance_s` is a number of seconds; the clock never goes back")
        agenda = self._world.agenda
        self._world.clock.advance(seconds)
        if "expire" in asked:
            change = agenda.resume if asked["expire"] else agenda.pause
            change(authorisations.expire)
        self._standin.pass_time()
        return await self._get_clock(query, asked)

    async def _get_keys(self, query: dict[str, str], asked: Any) -> Json:
        accepted = self._access.accepted
        return {
            "accepted": None if accepted is None else sorted(accepted),
            "expired": sorted(self._access.expired),
            "accounts": self._access.accounts,
        }

    async def _post_keys(self, query: dict[str, str], asked: Any) -> Json:
        for name in ("accepted", "expired"):
            if not isinstance(asked.get(name) or [], list):
                raise BadRule(f"`{name}` is a list of API keys")
        if "accepted" in asked:
            self._access.accepted = None if asked["accepted"] is None else set(asked["accepted"])
        if "expired" in asked:
            self._access.expired = set(asked["expired"] or ())
        if "accounts" in asked:
            self._access.accounts = dict(asked["accounts"])
        return await self._get_keys(query, asked)

    async def _post_authorisations(self, query: dict[str, str], asked: Any) -> Json:
        count = asked.get("count", 1)
        if type(count) is not int or not 1 <= count <= COUNT_MAX:
            raise BadRule(f"`count` is a whole number from 1 to {COUNT_MAX}")
        books = self._world.books(
            asked.get("account", self._world.settings.account), bool(asked.get("livemode", False))
        )
        call = Call(self._world, books, (), {}, self._world.now(), None, None)
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

    async def _post_reset(self, query: dict[str, str], asked: Any) -> Json:
        self._standin.reset()
        return {"ok": True}


def _effect(n: int, effect: Effect) -> Json:
    row = effect.row
    return {
        "n": n,
        "kind": effect.kind,
        "object": row.object,
        "id": row.id,
        "amount": effect.amount,
        "currency": getattr(row, "currency", None),
        "idempotency_key": effect.key,
        "request_id": effect.request_id,
        "metadata": row.metadata,
        "account": effect.account,
        "livemode": row.livemode,
        "created": effect.created,
    }


def _request(request: Request) -> Json:
    try:
        params: Any = forms.decode(request.raw)
    except errors.StripeError:
        params = request.raw.decode("latin-1")
    return {
        "n": request.n,
        "time": request.at,
        "request_id": request.id,
        "method": request.method,
        "path": request.path,
        "key": request.key,
        "params": params,
        "account": request.account,
        "livemode": request.livemode,
        "status": request.status,
        "replayed": request.replayed,
        "fault": request.fault,
    }


def _rule(rule: Rule) -> Json:
    fault = rule.fault
    return {
        "id": rule.id,
        "fault": fault.name,
        "acts": fault.moment.value,
        "method": rule.method,
        "path": rule.path.pattern if rule.path else None,
        "key": rule.key.pattern if rule.key else None,
        "nth": rule.nth,
        "times": rule.times,
        "probability": rule.probability,
        "seconds": fault.seconds,
        "location": fault.location,
        "with_effect": fault.with_effect,
        "survives": fault.survives,
        "matched": rule.matched,
        "fired": rule.fired,
    }


def _held(held: Held) -> Json:
    request = held.request
    return {
        "id": held.id,
        "fault": held.fault.name,
        "n": request.n,
        "request_id": request.id,
        "method": request.method,
        "path": request.path,
        "key": request.key,
    }
