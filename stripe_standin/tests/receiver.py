"""A real server that receives webhooks, and answers as the test wants."""

import http.server
import json
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Webhook:
    path: str
    body: bytes
    headers: dict[str, str]

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.body)


class _Server(http.server.ThreadingHTTPServer):
    block_on_close = False

    def handle_error(self, *about: Any) -> None:
        """Print nothing: a sender may hang up before it is answered."""


class Receiver:
    """Stores what it receives. `answer` returns the status, and may take as long as it likes."""

    def __init__(self) -> None:
        self._received: queue.Queue[Webhook] = queue.Queue()
        self.answer: Callable[[Webhook], int] = lambda webhook: 200
        self.page = b""
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                webhook = Webhook(self.path, body, dict(self.headers))
                receiver._received.put(webhook)
                self.send_response(receiver.answer(webhook))
                self.send_header("Location", f"{receiver.url}/elsewhere")
                self.send_header("Content-Length", str(len(receiver.page)))
                self.end_headers()
                self.wfile.write(receiver.page)

            def log_message(self, *about: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def next(self, wait_s: float = 60) -> Webhook:
        """The next one, waited for."""
        return self._received.get(timeout=wait_s)

    def all(self) -> list[Webhook]:
        """The webhooks that have come by now and were not returned yet."""
        found: list[Webhook] = []
        while not self._received.empty():
            found.append(self._received.get_nowait())
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
