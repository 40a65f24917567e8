"""Hands spans to a collector over OTLP/HTTP, in a thread of its own. Whatever happens to it, its process works on.

This is the only file that imports `opentelemetry`, and it is imported only where traces are on. Everything but where
they go is set by the variables that OpenTelemetry's SDK reads itself: OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS.
"""

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib import metadata

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace import SpanProcessor as Processor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from billing.traceparent import traceparent
from jobs.traces.spans import Line, OfOperation, Span, spans_of

log = structlog.get_logger()

WAITING_MOST = 2048
"""So many spans wait for the collector, some 4 MB; any more are dropped, and counted."""
CLOSE_S = 2.0
"""So long a process that ends waits for its last spans to be taken."""


class Exporter:
    """The traces of one process. `hear` is called with every line; for many threads."""

    def __init__(self, service: str, environment: str, role: str, endpoint: str) -> None:
        # The SDK reads its variables from the environment only, and this one may stand in billing.toml.
        os.environ.setdefault("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        # It logs each request that fails; we log when it begins to, and when it is over.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._lock = threading.Lock()
        self._outlet = Outlet(OTLPSpanExporter())
        self._ids = _Ids()
        resource = {
            "service.name": f"{service}-{role}",
            "service.version": _version(),
            "deployment.environment.name": environment,
            # What the SDK's variables say goes first.
            **OTELResourceDetector().detect().attributes,
        }
        self._provider = TracerProvider(
            resource=Resource.create(resource), id_generator=self._ids, shutdown_on_exit=False
        )
        batches = BatchSpanProcessor(self._outlet, max_queue_size=WAITING_MOST)
        self._provider.add_span_processor(Bounded(batches, self._outlet))
        self._tracer, self._sampler = self._provider.get_tracer("billing"), self._provider.sampler

    def hear(self, line: Line) -> None:
        """Raises nothing: the line is written, and what it tells is done, whatever becomes of its spans."""
        try:
            now_ns = time.time_ns()
            for one in spans_of(line, now_ns):
                with self._lock:
                    self._tell(one)
        except Exception:  # noqa: BLE001 - it is counted, and must not keep a settled capture from its end
            self._outlet.count("dropped")

    def counts(self) -> Mapping[str, int]:
        return self._outlet.counts()

    def close(self) -> None:
        """Give the collector what waits for it. One that is away or hangs is not waited for."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces-close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)

    def _tell(self, one: OfOperation) -> None:
        own = own_trace(one.operation_id)
        trace_id, within = own[0], Context()
        if (named := traceparent(one.traceparent)) is not None:
            trace_id, span_id, flags = (int(part, 16) for part in named.split("-")[1:])
            within = _within(trace_id, span_id, flags)
        # Asked before the span is made, because most are not recorded. Every process asks the same sampler about the
        # same id, so either all spans of a trace are recorded, or none.
        if self._sampler.should_sample(within, trace_id, "billing").decision is not Decision.RECORD_AND_SAMPLE:
            return
        if named is None:
            self._ids.next = own if one.first else None
            within = within if one.first else _within(*own, TraceFlags.SAMPLED)
        try:
            self._write(one.make(), within)
        finally:
            self._ids.next = None

    def _write(self, span: Span, within: Context) -> None:
        written = self._tracer.start_span(
            span.name, within, SpanKind[span.kind], span.attributes, start_time=span.began_ns
        )
        if span.inner is not None:
            self._write(span.inner, set_span_in_context(written, Context()))
        if span.failed:
            written.set_status(Status(StatusCode.ERROR))
        written.end(span.ended_ns)


def _within(trace_id: int, span_id: int, flags: int) -> Context:
    parent = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return set_span_in_context(NonRecordingSpan(parent), Context())


def own_trace(operation_id: str) -> tuple[int, int]:
    """The ids of an operation's own trace and of its first span, where its request named no trace. Every process makes
    the same of the operation's id, so nothing has to be stored."""
    digest = sha256(operation_id.encode()).digest()
    return int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])


def _version() -> str:
    try:
        return metadata.version("billing-reference")
    except metadata.PackageNotFoundError:
        return "none"


class _Ids(IdGenerator):
    """Random ids, unless the next span begins a trace of ours."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.next: tuple[int, int] | None = None
        """The ids of the next trace and of its first span, which has no span within it."""

    def generate_trace_id(self) -> int:
        return self._random.generate_trace_id() if self.next is None else self.next[0]

    def generate_span_id(self) -> int:
        return self._random.generate_span_id() if self.next is None else self.next[1]


class Outlet(SpanExporter):
    """The exporter of the SDK, with what became of its spans. It logs once that they are lost, and once that they are
    taken again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._lock = threading.Lock()
        self._counts = Counter(exported=0, failed=0, dropped=0)
        self._waiting = 0
        self._away = False

    def counts(self) -> Mapping[str, int]:
        with self._lock:
            return dict(self._counts)

    def count(self, outcome: str) -> None:
        with self._lock:
            self._counts[outcome] += 1

    def admit(self) -> bool:
        """Whether one more span may wait."""
        with self._lock:
            if self._waiting >= WAITING_MOST:
                self._counts["dropped"] += 1
                return False
            self._waiting += 1
            return True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        taken = False
        try:
            result = self._exporter.export(spans)
            taken = result is SpanExportResult.SUCCESS
            return result
        finally:
            with self._lock:
                self._waiting -= len(spans)
                self._counts["exported" if taken else "failed"] += len(spans)
            if taken and self._away:
                log.info("traces.taken", spans=len(spans))
            elif not taken and not self._away:
                log.warning("traces.lost", spans=len(spans))
            self._away = not taken

    def shutdown(self) -> None:
        self._exporter.shutdown()


class Bounded(Processor):
    """Hands an ended span to the batches unless too many wait. It never waits itself."""

    def __init__(self, batches: BatchSpanProcessor, outlet: Outlet) -> None:
        self._batches, self._outlet = batches, outlet

    def on_end(self, span: ReadableSpan) -> None:
        if self._outlet.admit():
            self._batches.on_end(span)

    def shutdown(self) -> None:
        self._batches.shutdown()  # type: ignore[no-untyped-call]
