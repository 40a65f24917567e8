"""An S3 that is faulty once, where a test says: a real HTTP server in front of a real S3.

Every request is passed on as it came, with its Host, which the signature covers. The next one that fits the place gets
the fault; those after it are served well again.
"""

import http.client
import threading
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

_OF_ONE_CONNECTION = {"connection", "content-length", "expect", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True, slots=True)
class Place:
    """Requests of this method, whose path and query hold this text."""

    name: str
    method: str
    holds: str

    def __str__(self) -> str:
        return self.name


PUTS = (
    Place("the put of the object", "PUT", "/v1/"),
    Place("the put of the manifest", "PUT", "/manifests/"),
)
GETS = (
    Place("the read back of the object", "GET", "/v1/"),
    Place("the read back of the manifest", "GET", "/manifests/"),
)
CHECK = Place("the check of the bucket's lock", "GET", "?object-lock")


@dataclass(frozen=True, slots=True)
class Fault:
    """What one request meets. `served`: S3 gets it, and does what it asks for. Then the client gets

    `status` and `code`: an answer with S3's XML of this error, instead of S3's own answer
    `part`: this share of the body that was announced, and the end of the connection; 0: not even headers
    `held`: nothing, until the client gives up
    `pause_s`: S3's own answer, in ten pieces with such a pause before each
    """

    name: str
    served: bool = True
    status: int | None = None
    code: str = ""
    part: float = 1.0
    held: bool = False
    pause_s: float = 0.0

    def __str__(self) -> str:
        return self.name

    def afterwards(self) -> "Fault":
        """The same after S3 has done what it was asked for."""
        return replace(self, name=f"{self.name}-afterwards", served=True)


class FaultyS3:
    """A context manager. `met`: the place and the fault of each request that met one."""

    def __init__(self, port: int) -> None:
        self.met: list[tuple[str, str]] = []
        self._next: tuple[Place, Fault] | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(port))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def fail(self, place: Place, fault: Fault) -> None:
        """The next request at this place meets the fault."""
        with self._lock:
            self._next = (place, fault)

    def _meets(self, method: str, path: str) -> Fault | None:
        with self._lock:
            if self._next is None:
                return None
            place, fault = self._next
            if method != place.method or place.holds not in path:
                return None
            self._next = None
            self.met.append((place.name, fault.name))
            return fault

    def _handler(self, port: int) -> type[BaseHTTPRequestHandler]:
        faulty = self

        class Handler(BaseHTTPRequestHandler):
            # So a client's `Expect: 100-continue` is answered, and connections are kept.
            protocol_version = "HTTP/1.1"

            def serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fault = faulty._meets(self.command, self.path)
                answered = self._asked(body) if fault is None or fault.served else None
                if fault is not None and fault.status is not None:
                    self._answer(fault.status, {"Content-Type": "application/xml"}, _xml(fault.code))
                elif answered is None or (fault is not None and (fault.held or not fault.part)):
                    self.close_connection = True
                    if fault is not None and fault.held:
                        # Until the client has closed its end.
                        self.connection.settimeout(60)
                        self.rfile.read(1)
                else:
                    self._answer(*answered, fault=fault)

            def _asked(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
                """What the server answers."""
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                try:
                    connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        if name.lower() not in _OF_ONE_CONNECTION:
                            connection.putheader(name, value)
                    connection.putheader("Content-Length", str(len(body)))
                    connection.endheaders(body)
                    answer = connection.getresponse()
                    headers = {k: v for k, v in answer.getheaders() if k.lower() not in _OF_ONE_CONNECTION}
                    return answer.status, headers, answer.read()
                finally:
                    connection.close()

            def _answer(self, status: int, headers: dict[str, str], body: bytes, fault: Fault | None = None) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if fault is None:
                    self.wfile.write(body)
                    return
                body = body[: int(len(body) * fault.part)]
                piece = len(body) // 10 + 1
                for start in range(0, len(body), piece):
                    faulty._closing.wait(fault.pause_s)
                    self.wfile.write(body[start : start + piece])
                self.close_connection = fault.part < 1

            def log_message(self, *_: object) -> None:
                """The tests say what happened."""

            do_GET = do_PUT = do_POST = do_DELETE = serve  # noqa: N815 - so the class of the library calls them

        return Handler


def _xml(code: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>no</Message></Error>'.encode()
