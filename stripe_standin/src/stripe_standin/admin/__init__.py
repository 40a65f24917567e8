"""/_standin: look inside, and set faults. It has no authentication, so use it on the loopback address only.

Bodies and answers are JSON; the README shows each of them. A new route needs only a row in ROUTES.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

from stripe_standin import fields
from stripe_standin.errors import StripeError
from stripe_standin.faults import read_rules
from stripe_standin.fields import Reader, Refused
from stripe_standin.objects import Json
from stripe_standin.state import State
from stripe_standin.webhooks.disorder import SETTINGS

from . import changes, views, webhooks


class Route(NamedTuple):
    """`takes` reads the query of a GET, or the body of any other method."""

    answer: Callable[[State, Any], Awaitable[Json]]
    takes: Reader = fields.table({})


ROUTES: dict[str, Route] = {
    "GET health": Route(views.get_health),
    "GET effects": Route(views.get_effects, views.EFFECTS_OF),
    "GET requests": Route(views.get_requests, views.REQUESTS_OF),
    "GET faults": Route(views.get_faults),
    "POST faults": Route(changes.post_faults, read_rules),
    "DELETE faults": Route(changes.delete_faults),
    "GET held": Route(views.get_held, views.HELD),
    "POST release": Route(changes.post_release, changes.RELEASE),
    "GET clock": Route(views.get_clock),
    "POST clock": Route(changes.post_clock, changes.CLOCK),
    "GET keys": Route(views.get_keys),
    "POST keys": Route(changes.post_keys, changes.KEYS),
    "GET search": Route(views.get_search),
    "POST search": Route(changes.post_search, changes.SEARCH),
    "POST authorizations": Route(changes.post_authorizations, changes.AUTHORIZATIONS),
    "POST authentications": Route(changes.post_authentications, changes.AUTHENTICATION),
    "GET webhooks": Route(webhooks.get_webhooks, webhooks.ATTEMPTS_OF),
    "POST webhooks": Route(webhooks.post_webhooks, fields.table(SETTINGS)),
    "POST deliveries": Route(webhooks.post_deliveries, webhooks.DELIVERY),
    "POST secrets": Route(webhooks.post_secrets, webhooks.ROLLING),
    "POST reset": Route(changes.post_reset),
}


async def answer(state: State, method: str, path: str, query: bytes, body: bytes) -> tuple[int, bytes]:
    route = ROUTES.get(f"{method} {path.removeprefix('/_standin/')}")
    if route is None:
        known = ", ".join(ROUTES)
        return 404, orjson.dumps({"error": f"no {method} {path}; under /_standin/ there are: {known}"})
    try:
        asked = route.takes(_asked(method, query, body), "")
        return 200, orjson.dumps(await route.answer(state, asked))
    except (Refused, StripeError) as error:
        return 400, orjson.dumps({"error": str(error)})


def _asked(method: str, query: bytes, body: bytes) -> Any:
    if body if method == "GET" else query:
        raise Refused("a GET takes a query, any other method a body")
    if method == "GET":
        return fields.once(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    try:
        return orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise Refused(f'the body has to be JSON, such as {{"fault": "500_saved"}}: {error}') from None
