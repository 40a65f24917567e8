"""/_standin: look inside, and arrange what goes wrong. No authentication: for the loopback address only.

Bodies and answers are JSON; `docs/standin.md` shows each of them. A row of ROUTES is all a new one needs.
"""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import orjson

from billing.standin.errors import StripeError
from billing.standin.faults import BadRule
from billing.standin.objects import Json
from billing.standin.state import State

from . import changes, views, webhooks

ROUTES: dict[str, Callable[[State, views.Query, Any], Awaitable[Json]]] = {
    "GET health": views.get_health,
    "GET effects": views.get_effects,
    "GET requests": views.get_requests,
    "GET faults": views.get_faults,
    "POST faults": changes.post_faults,
    "DELETE faults": changes.delete_faults,
    "GET held": views.get_held,
    "POST release": changes.post_release,
    "GET clock": views.get_clock,
    "POST clock": changes.post_clock,
    "GET keys": views.get_keys,
    "POST keys": changes.post_keys,
    "GET search": views.get_search,
    "POST search": changes.post_search,
    "POST authorisations": changes.post_authorisations,
    "POST authentications": changes.post_authentications,
    "GET webhooks": webhooks.get_webhooks,
    "POST webhooks": webhooks.post_webhooks,
    "POST deliveries": webhooks.post_deliveries,
    "POST secrets": webhooks.post_secrets,
    "POST reset": changes.post_reset,
}


async def answer(state: State, method: str, path: str, query: bytes, body: bytes) -> tuple[int, bytes]:
    route = ROUTES.get(f"{method} {path.removeprefix('/_standin/')}")
    if route is None:
        known = ", ".join(ROUTES)
        return 404, orjson.dumps({"error": f"no {method} {path}; under /_standin/ there are: {known}"})
    try:
        asked = orjson.loads(body) if body else {}
        return 200, orjson.dumps(await route(state, dict(parse_qsl(query.decode("latin-1"))), asked))
    except (BadRule, StripeError, ValueError, TypeError, AttributeError) as error:
        # Whatever cannot be read in a hand-written body is the caller's to mend.
        return 400, orjson.dumps({"error": str(error)})
