"""Events: what Stripe sends by webhook. Kept for 30 days, each with the key of its request."""

from stripe_standin import history
from stripe_standin.call import Call
from stripe_standin.errors import bad_request, no_such
from stripe_standin.lists import page
from stripe_standin.objects import Json
from stripe_standin.parameters import PAGE, Table, boolean, expand, list_of, moment, text

KEPT = 30 * 86_400

GET = Table({"expand": expand()})
LIST = Table(
    {
        **PAGE,
        "type": text,
        "types": list_of(text, most=20),
        "created": moment,
        "delivery_success": boolean,
        "expand": expand(),
    }
)


def get(call: Call) -> Json:
    event = call.books.find(call.books.events, call.ids[0], "id")
    if event.created < call.now - KEPT:
        raise no_such("event", event.id, "id")
    return _shown(call, event)


def list_(call: Call) -> Json:
    params = dict(call.params)
    wanted = params.get("types") or ([params["type"]] if params.get("type") else [])
    if params.get("types") and params.get("type"):
        raise bad_request("You may pass `type` or `types`, not both.", "types")
    exact = {name for name in wanted if not name.endswith("*")}
    prefixes = tuple(name[:-1] for name in wanted if name.endswith("*"))
    delivered = params.get("delivery_success")
    created = dict(params.get("created") or {})
    created["gte"] = max(created.get("gte", 0), call.now - KEPT)
    params["created"] = created
    return page(
        call.books.events,
        params,
        "/v1/events",
        render=lambda event: _shown(call, event),
        where=lambda event: (
            (not wanted or event.type in exact or event.type.startswith(prefixes))
            and delivered in (None, event.id not in call.books.undelivered)
        ),
    )


def _shown(call: Call, event: history.Event) -> Json:
    return history.event(event, len(call.books.undelivered.get(event.id, ())))
