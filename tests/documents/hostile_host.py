"""A host that serves documents as badly as asked, each at a path of its own; and many of them for one address."""

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from http_server import HttpServer

PDF = b"%PDF-1.4\n" + b"x" * 5000 + b"\n%%EOF\n"
Behave = Callable[[BaseHTTPRequestHandler], None]


class HostileHost:
    """`behaviors`: what it does, by path."""

    def __init__(self) -> None:
        self.behaviors: dict[str, Behave] = {}
        self.sent = 0
        """How many bytes of bodies were taken from it."""
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                host.behaviors[self.path.partition("?")[0]](self)

            def log_message(self, *_: Any) -> None: ...

        self._server = HttpServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answers(
        self,
        body: bytes = PDF,
        *,
        status: int = 200,
        content_type: str = "application/pdf",
        announced: int | None = None,
        **headers: str,
    ) -> Behave:
        """One answer, and then the end of the connection."""

        def behave(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header("Content-Type", content_type)
            handler.send_header("Content-Length", str(len(body) if announced is None else announced))
            handler.send_header("Connection", "close")
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()
            handler.wfile.write(body)
            self.sent += len(body)
            handler.close_connection = True

        return behave

    def moves(self, to: str, status: int = 302) -> Behave:
        return self.answers(b"", status=status, Location=to)

    def without_length(self, megabytes: int) -> Behave:
        """So many megabytes, of which nobody knows before how many there are."""

        def behave(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Type", "application/pdf")
            handler.send_header("Connection", "close")
            handler.end_headers()
            handler.wfile.write(PDF)
            for _ in range(megabytes):
                handler.wfile.write(b" " * 1_000_000)
                self.sent += 1_000_000
            handler.close_connection = True

        return behave

    def drips(self, head: bool = False) -> Behave:
        """A byte now and then, for ever; already of the header, if it says so."""

        def behave(handler: BaseHTTPRequestHandler) -> None:
            start = b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\nContent-Length: 5000\r\n"
            handler.wfile.write(start if head else start + b"\r\n%PDF-")
            while True:
                handler.wfile.write(b"X-Slow: 1\r\n" if head else b"x")
                time.sleep(0.02)

        return behave
