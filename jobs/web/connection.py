"""A connection of a client. One that asks for nothing, asks too slowly or at too great length is left.

uvicorn limits neither, and counts each connection: a thousand clients that sent nothing would keep all others out.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_WITHIN_S = 10.0
"""Once a request has begun, its first line and its headers have come by then. Before, a client may be silent for as
long as between two requests (`timeout_keep_alive`). The time of a body is `application.BODY_WITHIN_S`."""
HEAD_MOST = 65_536
"""So many bytes may come that are neither a whole head nor part of a body. Stripe's heads have about a thousand."""


class Connection(HttpToolsProtocol):
    _over: asyncio.TimerHandle | None = None
    _outside = 0
    """Bytes since the last whole head or part of a body."""
    _unanswered = 0
    """Requests whose heads have come."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._leave_after(self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave_after(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._outside += len(data)
        super().data_received(data)
        if self._outside > HEAD_MOST and not self.transport.is_closing():
            self.send_400_response("The head of this request is too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._leave_after(HEAD_WITHIN_S)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._unanswered += 1
        self._outside = 0
        self._leave_after(None)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._outside = 0

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unanswered -= 1
        # uvicorn's own timer ends with the next byte, also of a body that was given up.
        self._leave_after(self.timeout_keep_alive)

    def _leave_after(self, seconds: float | None) -> None:
        if self._over is not None:
            self._over.cancel()
        self._over = None if seconds is None else self.loop.call_later(seconds, self._leave)

    def _leave(self) -> None:
        # A request that came behind another one is still answered.
        if not self._unanswered:
            self.transport.close()
