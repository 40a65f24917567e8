"""Answers Prometheus over HTTP with the numbers of this process. Whatever happens to it, its process works on.

This is the only file that imports `prometheus_client`, and it is imported only where metrics are on.
"""

import errno
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from socket import AF_INET, AF_INET6, SHUT_RDWR, socket
from socketserver import TCPServer
from typing import Any

import structlog
from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from sqlalchemy import Engine

from billing.gateway import boot_clock
from billing.transport import cut_at
from jobs.metrics.counting import Counting, Labels, Observed
from jobs.metrics.instruments import READS, instruments
from jobs.metrics.labels import bounded
from jobs.metrics.reading import Reading, Rows
from jobs.metrics.sources import FromDatabase, FromLog, FromProcess, Instrument, Kind, Process

log = structlog.get_logger()

AGAIN_S = 10.0
"""A port that is taken is tried again: the process before this one may be about to end."""
CLIENT_S = 5.0
"""A client that neither asks nor reads for so long is left."""
WHOLE_S = 10.0
"""One that asks and reads byte by byte, after so long. Prometheus waits no longer itself, unless it is told to."""
CLIENTS = 8
"""So many are answered at once; others are turned away."""


class AtScrape:
    """All numbers of a process at this moment. A collector of `prometheus_client`."""

    def __init__(self, process: Process, role: str, counting: Counting, reading: Reading | None) -> None:
        self._process, self._counting, self._reading = process, counting, reading
        self._instruments = [each for each in instruments() if role in each.roles]

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering reads nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        read = self._reading.rows() if self._reading is not None else {}
        sums, observed = self._counting.sums(), self._counting.observed()
        for instrument in self._instruments:
            match instrument.source:
                case FromLog() if instrument.kind is Kind.HISTOGRAM:
                    yield _histogram(instrument, observed[instrument.name])
                case FromLog():
                    yield _family(instrument, sums[instrument.name])
                case FromDatabase(statement, column):
                    yield _family(instrument, _series(instrument, read.get(statement, ()), column))
                case FromProcess(ask):
                    yield _family(instrument, {(said,): value for said, value in ask(self._process).items()})


def _series(instrument: Instrument, rows: Rows, column: str) -> Mapping[Labels, float]:
    """By labels. Rows whose labels are the same once they are bounded are one: the sum, or the highest age."""
    found: dict[Labels, float] = {}
    for row in rows:
        labels = tuple(bounded(label, row[label]) for label in instrument.labels)
        value, before = float(row[column]), found.get(labels, 0.0)
        found[labels] = max(value, before) if instrument.unit == "seconds" else value + before
    return found


def _family(instrument: Instrument, series: Mapping[Labels, float]) -> Metric:
    kind = CounterMetricFamily if instrument.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(instrument.name, instrument.meaning, labels=instrument.labels)
    for labels, value in series.items():
        family.add_metric(labels if instrument.labels else (), float(value))
    return family


def _histogram(instrument: Instrument, series: Mapping[Labels, Observed]) -> Metric:
    family = HistogramMetricFamily(instrument.name, instrument.meaning, labels=instrument.labels)
    bounds = [*map(str, map(float, instrument.buckets)), "+Inf"]
    for labels, one in series.items():
        family.add_metric(labels, list(zip(bounds, accumulate(one.counts), strict=True)), one.sum)
    return family


class Exporter:
    """The metrics of one process, from `start` on. `open_engine`: how a relay reads the database for them."""

    def __init__(self, process: Process, host: str, port: int, open_engine: Callable[[float], Engine] | None) -> None:
        self._host, self._port = host, port
        role = process.role.partition("-")[0]
        self.registry = CollectorRegistry(auto_describe=False)
        counting = Counting(role)
        self.count = counting.count
        self._reading = Reading(open_engine, partial(counting.add, READS)) if open_engine is not None else None
        self.registry.register(AtScrape(process, role, counting, self._reading))
        ProcessCollector(registry=self.registry)
        self._closed = threading.Event()
        self._server: _Server | None = None

    def start(self) -> None:
        threading.Thread(target=self._serve, name="metrics", daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        if self._reading is not None:
            self._reading.close()
        if self._server is not None:
            # It wakes the thread that waits for the next client.
            with suppress(OSError):
                self._server.socket.shutdown(SHUT_RDWR)

    def _serve(self) -> None:
        said = False
        while not self._closed.is_set():
            try:
                self._server = _Server(self._host, self._port, self.registry)
            except OSError as error:
                why = errno.errorcode.get(error.errno or 0, type(error).__name__)
            else:
                with self._server:
                    log.info("metrics.served", host=self._host, port=self._server.server_port)
                    while not self._closed.is_set():
                        self._server.handle_request()
                return
            if not said:
                log.error("metrics.unavailable", host=self._host, port=self._port, why=why)
                said = True
            self._closed.wait(AGAIN_S)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        self.address_family = AF_INET6 if ":" in host else AF_INET
        self.registry = registry
        self._free = threading.BoundedSemaphore(CLIENTS)
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks a name server for our own name.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            # The system has no more threads for us now. Its place is free for the next one.
            self._free.release()
            raise

    def process_request_thread(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, _request: object, _client_address: object) -> None:
        # A client that left is nobody's trouble.
        if not isinstance(sys.exc_info()[1], OSError):
            log.warning("scrape.failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = CLIENT_S
    server_version, sys_version = "billing", ""

    def handle(self) -> None:
        with cut_at(self.connection, boot_clock() + WHOLE_S):
            super().handle()

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404)
            return
        try:
            page = generate_latest(self.server.registry)
        except Exception:
            self.send_error(500)
            raise
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Nothing: the log is for outcomes."""
