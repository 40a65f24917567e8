"""What a request asks for: its operation, the ids in its path, its form, its API version."""

from typing import Any, NamedTuple

from . import errors, forms, routes, versions
from .history import API_VERSION
from .world import Request

HeadersIn = dict[bytes, bytes]

_FORM = b"application/x-www-form-urlencoded"


class Asked(NamedTuple):
    """`operation` is a row of the routes' table, such as `POST /v1/payment_intents/{id}/capture`."""

    operation: str
    ids: tuple[str, ...]
    form: dict[str, Any]
    version: str


def read(request: Request, headers: HeadersIn) -> Asked:
    """Read the request. Raises Stripe's refusal if it cannot be read."""
    found = routes.find(request.method, request.path)
    if found is None:
        raise errors.unknown_route(request.method, request.path)
    version = headers.get(b"stripe-version", b"").decode("latin-1")
    if b"stripe-version" in headers and not versions.possible(version):
        raise errors.invalid_version(version)
    if request.method == "POST" and request.raw and not headers.get(b"content-type", b"").startswith(_FORM):
        raise errors.bad_request(
            "Invalid request (check that your POST content type is application/x-www-form-urlencoded)."
        )
    if request.key and not request.key.isprintable():
        raise errors.bad_request("Idempotency keys must be printable.")
    return Asked(*found, forms.decode(request.raw), version_of(headers))


def version_of(headers: HeadersIn) -> str:
    """The version in the request; the account's own if there is none, or none that can be read."""
    version = headers.get(b"stripe-version", b"").decode("latin-1")
    return version if versions.possible(version) else API_VERSION
