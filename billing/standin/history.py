"""What happened: events, as Stripe would tell them by webhook, and effects, which really were."""

from typing import NamedTuple

from .objects import Json, Row, shown

API_VERSION = "2026-10-28.endive"


class Event(NamedTuple):
    """Something Stripe would tell by webhook, with the object as it was then."""

    id: str
    type: str
    created: int
    livemode: bool
    row: Row
    request_id: str | None
    key: str | None
    object: str = "event"


class Effect(NamedTuple):
    """Something that really happened: what a client believes is compared with these."""

    kind: str
    row: Row
    amount: int | None
    account: str
    created: int
    request_id: str | None
    key: str | None


def event(row: Event) -> Json:
    return {
        "id": row.id,
        "object": "event",
        "api_version": API_VERSION,
        "created": row.created,
        "data": {"object": shown(row.row)},
        "livemode": row.livemode,
        "pending_webhooks": 0,
        "request": {"id": row.request_id, "idempotency_key": row.key},
        "type": row.type,
    }
