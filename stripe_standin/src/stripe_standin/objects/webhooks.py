"""Webhook endpoints: whom the account wants told, of what, and how that looks."""

from typing import NamedTuple

from .parts import Json


class Secret(NamedTuple):
    """What an endpoint's webhooks are signed with; one that was replaced still signs until `until`."""

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
    secrets: tuple[Secret, ...]  # the one in force first
    status: str = "enabled"
    object: str = "webhook_endpoint"


def endpoint(row: Endpoint) -> Json:
    """Without its secret, which only the answer to its creation shows."""
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
