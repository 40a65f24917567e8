"""What /_standin shows: effects, requests, rules, held requests, the clock, the keys."""

from typing import Any

from stripe_standin import errors, fields, forms
from stripe_standin.api.payments import authorizations
from stripe_standin.faults import Rule
from stripe_standin.history import EFFECTS, Effect
from stripe_standin.objects import Json
from stripe_standin.state import State
from stripe_standin.waiting import Held
from stripe_standin.world import Request

AFTER = fields.written(fields.COUNT)
WAIT_S = fields.written(fields.number(0, 60))
EFFECTS_OF = fields.table({"kind": fields.one_of(*EFFECTS), "after": AFTER})
REQUESTS_OF = fields.table({"path": fields.text, "key": fields.text, "after": AFTER})
HELD = fields.table({"count": fields.written(fields.COUNT), "wait_s": WAIT_S})


async def get_health(state: State, asked: Json) -> Json:
    return {"ok": True, "requests": state.world.requests_seen, "effects": len(state.world.effects)}


async def get_effects(state: State, asked: Json) -> Json:
    after, kind = asked.get("after", 0), asked.get("kind")
    numbered = enumerate(state.world.effects[after:], after + 1)
    return {"effects": [_effect(n, each) for n, each in numbered if kind in (None, each.kind)]}


async def get_requests(state: State, asked: Json) -> Json:
    after, path, key = asked.get("after", 0), asked.get("path"), asked.get("key")
    seen = [
        _request(each)
        for each in state.world.requests
        if each.n > after and path in (None, each.path) and key in (None, each.key)
    ]
    return {"requests": seen}


async def get_faults(state: State, asked: Json) -> Json:
    return {"faults": [_rule(rule) for rule in state.faults.rules]}


async def get_held(state: State, asked: Json) -> Json:
    await state.waiting.until(asked.get("count", 1), asked.get("wait_s", 0))
    return {"held": [_held(held) for held in state.waiting.held.values()]}


async def get_clock(state: State, asked: Json) -> Json:
    clock = state.world.clock
    return {
        "now": clock.time(),
        "advanced_s": clock.advanced_s,
        "expiry_paused": state.world.agenda.paused(authorizations.expire),
        "keys_kept": len(state.idempotency),
    }


async def get_keys(state: State, asked: Json) -> Json:
    accepted = state.access.accepted
    return {
        "accepted": None if accepted is None else sorted(accepted),
        "expired": sorted(state.access.expired),
        "accounts": state.access.accounts,
        "permissions": state.access.permissions,
    }


async def get_search(state: State, asked: Json) -> Json:
    index = state.world.index
    return {"lag_s": index.lag_s, "behind": len(index.behind())}


def _effect(n: int, effect: Effect) -> Json:
    row = effect.row
    return {
        "n": n,
        "kind": effect.kind,
        "object": row.object,
        "id": row.id,
        "moves": EFFECTS[effect.kind],
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
        "megabytes": fault.megabytes,
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
