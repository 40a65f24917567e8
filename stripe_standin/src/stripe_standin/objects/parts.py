"""Parts that all objects share."""

from typing import Any

Json = dict[str, Any]

# Shared by every row without metadata. Metadata is replaced, never changed in place.
NO_METADATA: dict[str, str] = {}


def null(*names: str) -> Json:
    """Fields that the stand-in does not model, as null."""
    return dict.fromkeys(names)


def as_list(data: list[Json], more: bool, url: str) -> Json:
    """Stripe's envelope around a page of objects."""
    return {"object": "list", "data": data, "has_more": more, "url": url}
