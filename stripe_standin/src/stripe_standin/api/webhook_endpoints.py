"""Webhook endpoints: where events are sent. `webhooks` decides what is sent to them, and when."""

import re
from typing import Any
from urllib.parse import urlsplit

from stripe_standin import errors, versions
from stripe_standin.books import Books
from stripe_standin.call import Call
from stripe_standin.lists import page
from stripe_standin.objects import NO_METADATA, Endpoint, Json, Secret, shown
from stripe_standin.parameters import PAGE, Table, boolean, expand, list_of, merged, metadata, one_of, text
from stripe_standin.webhooks.event_types import ALL, EVENT_TYPES
from stripe_standin.world import World

ENDPOINTS_MAX = 16  # per account and mode (docs.stripe.com/webhooks)
ROLLING_MAX_S = 24 * 3600  # how long the old secret may go on signing (docs.stripe.com/webhooks)

# Printable and without spaces, so that it fits into a request line.
_URL = re.compile(r"https?://[!-~]+")


def url(value: Any, name: str) -> str:
    """A whole URL. Unlike at Stripe, it may be local, such as localhost."""
    try:
        parts = urlsplit(value if isinstance(value, str) and _URL.fullmatch(value) else "")
        host = parts.hostname if parts.port != 0 else None
    except ValueError:
        host = None
    if not host:
        raise errors.bad_request("Invalid URL: a whole one such as https://example.com/webhooks.", name, "url_invalid")
    return str(value)


def version(value: Any, name: str) -> str:
    if not isinstance(value, str) or not versions.possible(value):
        raise errors.bad_request(f"Invalid API version: {str(value)[:50]}", name)
    return value


_EVENTS = list_of(one_of(ALL, *sorted(EVENT_TYPES)), most=len(EVENT_TYPES) + 1)
_CHANGEABLE = {
    "description": text,
    "enabled_events": _EVENTS,
    "metadata": metadata,
    "url": url,
    "expand": expand(),
}
CREATE = Table(
    # Connected accounts are not modeled, so there are no events of theirs.
    {**_CHANGEABLE, "api_version": version, "connect": one_of("false")},
    required=("enabled_events", "url"),
)
UPDATE = Table({**_CHANGEABLE, "disabled": boolean})
GET = Table({"expand": expand()})
DELETE = Table({})
LIST = Table({**PAGE, "expand": expand()})


def create(call: Call) -> Json:
    asked, books = call.params, call.books
    _check(asked, books.livemode)
    if len(books.endpoints) >= ENDPOINTS_MAX:
        mode = "live" if books.livemode else "test"
        raise errors.wrong_state(f"You have reached the maximum of {ENDPOINTS_MAX} {mode} webhook endpoints.")
    secret = _secret(call.world)
    endpoint = Endpoint(
        id=call.world.new_id("we"),
        created=call.now,
        livemode=books.livemode,
        url=asked["url"],
        enabled_events=tuple(asked["enabled_events"]),
        api_version=asked.get("api_version"),
        description=asked.get("description"),
        metadata=merged(NO_METADATA, asked.get("metadata")),
        secrets=(secret,),
    )
    return {**shown(books.endpoints.put(endpoint)), "secret": secret.value}


def update(call: Call) -> Json:
    asked, endpoint = call.params, _endpoint(call)
    _check(asked, endpoint.livemode)
    changes: dict[str, Any] = {name: asked[name] for name in ("description", "url") if name in asked}
    if "enabled_events" in asked:
        changes["enabled_events"] = tuple(asked["enabled_events"])
    if "metadata" in asked:
        changes["metadata"] = merged(endpoint.metadata, asked["metadata"])
    if "disabled" in asked:
        changes["status"] = "disabled" if asked["disabled"] else "enabled"
    return shown(call.books.endpoints.put(endpoint._replace(**changes)))


def delete(call: Call) -> Json:
    endpoint = _endpoint(call)
    call.books.endpoints.remove(endpoint.id)
    return {"id": endpoint.id, "object": "webhook_endpoint", "deleted": True}


def get(call: Call) -> Json:
    return shown(_endpoint(call))


def list_(call: Call) -> Json:
    return page(call.books.endpoints, call.params, "/v1/webhook_endpoints")


def roll(world: World, books: Books, endpoint: Endpoint, keep_s: int) -> Secret:
    """Make a new secret. The older ones go on signing for at most `keep_s` seconds (at Stripe: in the Dashboard)."""
    secret, until = _secret(world), world.now() + keep_s
    before = tuple(Secret(each.value, min(each.until or until, until)) for each in endpoint.secrets)
    books.endpoints.put(endpoint._replace(secrets=(secret, *(each for each in before if keep_s))))
    return secret


def _endpoint(call: Call) -> Endpoint:
    return call.books.find(call.books.endpoints, call.ids[0], "id")


def _check(asked: dict[str, Any], livemode: bool) -> None:
    """Check what depends on more than one parameter."""
    if livemode and not asked.get("url", "https://").startswith("https://"):
        # The text is quoted in stripe/stripe-connect-custom-rocketdeliveries#10.
        raise errors.bad_request(
            f'Invalid URL: {asked["url"]}. URLs in livemode must begin with "https://"', "url", "url_invalid"
        )
    if not asked.get("enabled_events", True):
        raise errors.missing_parameter("enabled_events")


def _secret(world: World) -> Secret:
    return Secret(f"whsec_{world.random.getrandbits(128):032x}")
