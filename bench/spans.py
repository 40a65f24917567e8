"""Measures what the spans of a worker's turn cost in CPU: recorded, partly recorded, not recorded.

    python -m bench.spans

A collector in a process of its own takes them; its CPU is not counted, that of encoding and sending is.
"""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

from billing.calls import Call, Report
from billing.gateway import Request, Response
from billing.traceparent import Traced
from jobs.traces.exporter import Exporter

TURNS = 4000
TOGETHER, PAUSE_S = 400, 0.2
"""So many turns at once, and then a pause, so that none is dropped."""
RATIOS = ("1", "0.1", "0")


def main() -> None:
    """Each ratio in a process of its own, because the SDK reads its variables once."""
    if sys.argv[1:] == ["collect"]:
        collect()
    elif sys.argv[1:]:
        measure(*sys.argv[1:])
    else:
        program = [sys.executable, "-m", "bench.spans"]
        with subprocess.Popen([*program, "collect"], stdout=subprocess.PIPE, text=True) as collector:  # noqa: S603 - ourselves
            assert collector.stdout is not None
            url = f"http://127.0.0.1:{collector.stdout.readline().strip()}"
            for ratio in RATIOS:
                sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio}
                subprocess.run([*program, url, ratio], env={**os.environ, **sampler}, check=True)  # noqa: S603 - ourselves
            collector.kill()


def measure(url: str, ratio: str) -> None:
    exporter = Exporter("billing", "test", "worker-captures", url)
    lines = [a_turn(number) for number in range(TURNS)]
    began_s = time.process_time()
    for number, line in enumerate(lines):
        exporter.hear(line)
        if number % TOGETHER == 0:
            time.sleep(PAUSE_S)
    exporter.close()
    took_us = (time.process_time() - began_s) / TURNS * 1e6
    counts = exporter.counts()
    print(f"{float(ratio):4.0%} recorded: {took_us:6.1f} µs for each turn; {dict(counts)}")


def a_turn(number: int) -> dict[str, Any]:
    """The line that tells of a capture that was taken."""
    loaded: Any = SimpleNamespace(records=[SimpleNamespace(id="rec_1", generation=1)])
    step: Any = SimpleNamespace(name="capture")
    operation: Any = None
    call = Call(
        record_id="rec_1",
        operation=operation,
        step=step,
        loaded=loaded,
        fence=1,
        request=Request("POST", "/v1/payment_intents/pi_1/capture"),
        looking=False,
        not_after_s=1.0,
        prepared_at=datetime.now(UTC),
        call_budget_s=30.0,
    )
    report = Report(call, Response(200, b"{}", {}, None, replayed=False), 7, began_ns=time.time_ns())
    return {
        "event": "operation.settled",
        "level": "info",
        "operation_id": f"cap_{number}",
        "contract": "take_capture",
        "state": "captured",
        "standing": "concluded",
        "trace": Traced(None, report.began_ns, report),
    }


def collect() -> None:
    """Take whatever comes, until killed. Prints its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
