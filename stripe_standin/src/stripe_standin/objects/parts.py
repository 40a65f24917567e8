"""Parts that all objects share."""

import base64
from typing import Any

Json = dict[str, Any]

HOME = "https://pages.standin.invalid"
"""Where links to documents lead. In an answer the client's own name for the stand-in replaces it (`pages.at_home`); in
a webhook they lead nowhere."""

# Shared by every row without metadata. Metadata is replaced, never changed in place.
NO_METADATA: dict[str, str] = {}


def null(*names: str) -> Json:
    """Fields that the stand-in does not model, as null."""
    return dict.fromkeys(names)


def document_link(kind: str, row_id: str, livemode: bool) -> str:
    """A link that needs no key: it has a token that names the object, as Stripe's have."""
    token = base64.urlsafe_b64encode(row_id.encode()).decode().rstrip("=")
    return f"{HOME}/{kind}/{'live' if livemode else 'test'}_{token}/pdf?s=ap"


def as_list(data: list[Json], more: bool, url: str) -> Json:
    """Stripe's envelope around a page of objects."""
    return {"object": "list", "data": data, "has_more": more, "url": url}
