"""Events: what Stripe would have told by webhook. Kept for 30 days, each with the key of its request."""

from . import shapes
from .call import Call
from .errors import bad_request, no_such
from .lists import page
from .parameters import PAGE, Table, expand, list_of, moment, text
from .rows import Json

KEPT = 30 * 86_400

GET = Table({"expand": expand()})
LIST = Table({**PAGE, "type": text, "types": list_of(text, most=20), "created": moment, "expand": expand()})


def get(call: Call) -> Json:
    event = call.books.find(call.books.events, call.ids[0], "id")
    if event.created < call.now - KEPT:
        raise no_such("event", event.id, "id")
    return shapes.event(event)


def list_(call: Call) -> Json:
    params = dict(call.params)
    wanted = params.get("types") or ([params["type"]] if params.get("type") else [])
    if params.get("types") and params.get("type"):
        raise bad_request("You may pass `type` or `types`, not both.", "types")
    exact = {name for name in wanted if not name.endswith("*")}
    prefixes = tuple(name[:-1] for name in wanted if name.endswith("*"))
    created = dict(params.get("created") or {})
    created["gte"] = max(created.get("gte", 0), call.now - KEPT)
    params["created"] = created
    return page(
        call.books.events,
        params,
        "/v1/events",
        shapes.event,
        lambda event: not wanted or event.type in exact or event.type.startswith(prefixes),
    )
