"""Answers with their headers: the first one under a key, its replay, a refusal.

Source: docs.stripe.com/error-low-level (`Idempotent-Replayed`, `Original-Request`, `Stripe-Should-Retry`).
"""

import orjson

from .errors import StripeError
from .idempotency import Record
from .wire import Answer, Headers
from .world import Request

JSON = (b"content-type", b"application/json")
_REPLAYED = (b"idempotent-replayed", b"true")
_NO_RETRY = (b"stripe-should-retry", b"false")


def first(request: Request, version: str, record: Record | None, status: int, body: bytes) -> Answer:
    headers = _headers(request, version)
    if record:
        headers += (*_key_headers(record, request), _NO_RETRY)
    return status, headers, body


def replay(request: Request, version: str, record: Record) -> Answer:
    request.replayed = True
    return record.status, [*_headers(request, version), *_key_headers(record, request), _REPLAYED], record.body


def refusal(request: Request, version: str, error: StripeError) -> Answer:
    return error.status, [*_headers(request, version), *error.headers], orjson.dumps(error.body)


def _headers(request: Request, version: str) -> Headers:
    headers = [JSON, (b"request-id", request.id.encode()), (b"stripe-version", version.encode())]
    if request.named:
        headers.append((b"stripe-account", (request.account or "").encode()))
    return headers


def _key_headers(record: Record, request: Request) -> Headers:
    return [
        (b"idempotency-key", (request.key or "").encode("latin-1")),
        (b"original-request", record.request_id.encode()),
    ]
