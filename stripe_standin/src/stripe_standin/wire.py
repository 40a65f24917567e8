"""Close a connection without an answer. ASGI has no message for that, so the protocol gives us its transport.

`close` sends what was written and then ends; `abort` sends nothing more. The client sees an end of file where an answer
should be, as when a server or the network dies.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

EXTENSION = "standin.transport"
_BLANKS = b" " * 1_000_000
PIECES = 100

Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, Headers, bytes]


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with the connection's transport among the scope's extensions."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: self.transport}  # type: ignore[dict-item]


async def read(receive: Receive) -> bytes | None:
    """The whole body; None if the client left before it was complete."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def answer(send: Send, whole: Answer) -> None:
    status, headers, body = whole
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def answer_half(scope: Scope, receive: Receive, send: Send, whole: Answer) -> None:
    """Send the header for the whole body, then its first half, and end the connection."""
    status, headers, body = whole
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    _transport(scope).close()
    await client_left(receive)


async def answer_slowly(receive: Receive, send: Send, whole: Answer, pause: Callable[[int], Awaitable[bool]]) -> None:
    """Send the body in `PIECES`, with a pause before each, until `pause` says that it is to end or the client has
    left."""
    status, headers, body = whole
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    left = asyncio.ensure_future(client_left(receive))
    size = max(1, -(-len(body) // PIECES))
    try:
        for at in range(0, len(body), size):
            if not await pause(PIECES) or left.done():
                return
            last = at + size >= len(body)
            await send({"type": "http.response.body", "body": body[at : at + size], "more_body": not last})
    finally:
        left.cancel()


async def answer_at_length(send: Send, whole: Answer, megabytes: int) -> None:
    """Send the body with so many megabytes of blanks behind it, which neither JSON nor PDF minds."""
    status, headers, body = whole
    headers.append((b"content-length", str(len(body) + megabytes * len(_BLANKS)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    for left in range(megabytes, 0, -1):
        await send({"type": "http.response.body", "body": _BLANKS, "more_body": left > 1})


async def drop(scope: Scope, receive: Receive) -> None:
    """End the connection without a byte of an answer."""
    _transport(scope).abort()
    # If the application returned now, uvicorn would send a 500, because it has not noticed the end yet.
    await client_left(receive)


async def client_left(receive: Receive) -> None:
    """Return when the connection has ended, from either side."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _transport(scope: Scope) -> asyncio.Transport:
    transport = scope.get("extensions", {}).get(EXTENSION)
    if transport is None:
        raise RuntimeError("serve the stand-in with http=stripe_standin.wire.Protocol, or faults cannot drop")
    return transport  # type: ignore[no-any-return]
