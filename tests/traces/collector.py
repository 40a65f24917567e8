"""A collector of OpenTelemetry, which takes spans over OTLP/HTTP as protobuf and keeps them; and an application whose
requests are traced."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

from http_server import HttpServer
from opentelemetry import context
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import set_span_in_context


@dataclass(frozen=True)
class Seen:
    """One span. Ids are hex digits, `parent` is empty for the first of a trace, and times are nanoseconds."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    began_ns: int
    ended_ns: int
    failed: bool
    attributes: Mapping[str, str | int]

    @property
    def took_s(self) -> float:
        return (self.ended_ns - self.began_ns) / 1e9


class Collector:
    def __init__(self, url: str) -> None:
        self.url = url
        self.refuses = False
        self.bodies: list[bytes] = []
        self.asked = 0
        self._lock = threading.Lock()
        self._spans: list[Seen] = []

    def take(self, body: bytes) -> int:
        with self._lock:
            self.asked += 1
            if self.refuses:
                return 503
            self.bodies.append(body)
            self._spans += _read(body)
            return 200

    def spans(self, trace: str | None = None) -> list[Seen]:
        """All that came, or those of one trace, in the order of their beginnings."""
        with self._lock:
            found = [span for span in self._spans if trace in (None, span.trace)]
        return sorted(found, key=lambda span: span.began_ns)

    def of(self, operation_id: str) -> list[Seen]:
        """Those that name this operation."""
        return [span for span in self.spans() if span.attributes.get("billing.operation_id") == operation_id]


def _read(body: bytes) -> Iterator[Seen]:
    for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = next(a.value.string_value for a in of_resource.resource.attributes if a.key == "service.name")
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield Seen(
                    service=service,
                    name=span.name,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    kind=span.kind,
                    began_ns=span.start_time_unix_nano,
                    ended_ns=span.end_time_unix_nano,
                    failed=span.status.code == 2,
                    attributes={each.key: each.value.string_value or each.value.int_value for each in span.attributes},
                )


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(collector.take(body) if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HttpServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def request_of_an_application(*, recorded: bool = True) -> Iterator[tuple[str, str]]:
    """An application's open span: the ids of its trace and its own, in hex. Of the application nothing is exported."""
    provider = TracerProvider(sampler=ALWAYS_ON if recorded else ALWAYS_OFF, shutdown_on_exit=False)
    span = provider.get_tracer("shop").start_span("POST /orders")
    token = context.attach(set_span_in_context(span))
    try:
        ids = span.get_span_context()
        yield f"{ids.trace_id:032x}", f"{ids.span_id:016x}"
    finally:
        context.detach(token)
        span.end()
