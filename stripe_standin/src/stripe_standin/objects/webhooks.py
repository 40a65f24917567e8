"""Webhook endpoints: where the account wants which events sent, and how an endpoint is shown."""

from typing import NamedTuple

from .parts import Json


class Secret(NamedTuple):
    """A secret that signs an endpoint's webhooks. One that was replaced still signs until `until`."""

    value: str
    until: int | None = None


class Endpoint(NamedTuple):
    id: str
    created: int
    livemode: bool
    url: str
    enabled_events: tuple[str, ...]
    api_version: str | None  # None: the account's own
    description: str | None
    metadata: dict[str, str]
    secrets: tuple[Secret, ...]  # the current one first
    status: str = "enabled"
    object: str = "webhook_endpoint"


def endpoint(row: Endpoint) -> Json:
    """The endpoint without its secret, which only the answer to its creation shows."""
    return {
        "id": row.id,
        "object": "webhook_endpoint",
        "api_version": row.api_version,
        "application": None,
        "created": row.created,
        "description": row.description,
        "enabled_events": list(row.enabled_events),
        "livemode": row.livemode,
        "metadata": row.metadata,
        "status": row.status,
        "url": row.url,
    }
