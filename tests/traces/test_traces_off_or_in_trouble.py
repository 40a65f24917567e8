"""Off by default, and never a reason for a process to end, to wait, or to leave money untaken."""

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from collector import Collector
from command import BILLING
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from scraping import MEASURED, Page, address, scrape
from service import PATIENCE_S, Service, eventually
from structlog.testing import LogCapture

from billing.traceparent import Traced
from jobs.local.supervisor import Child
from jobs.traces import exporter
from jobs.traces.exporter import Exporter

ROLES = (("relay",), ("worker", "captures"))


@pytest.fixture
def without_the_library(tmp_path: Path) -> dict[str, str]:
    """A process with this setting that imports the library fails to."""
    (tmp_path / "opentelemetry.py").write_text("raise ImportError('as if it were not installed')\n")
    return {"PYTHONPATH": str(tmp_path), "BILLING_LOG_LEVEL": "info"}


def take_one(service: Service) -> None:
    capture = service.ask_for_capture()
    eventually(lambda: service.status(capture).final, "the capture is final")


def lines(process: Child, event: str) -> list[dict[str, str]]:
    told = [json.loads(line) for line in process.output().split("\n")[:-1]]
    return [line for line in told if line["event"] == event]


@pytest.mark.parametrize("setting", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}], ids=["not-set", "empty"])
def test_where_no_collector_is_named_nothing_of_the_library_is_imported(
    service: Service, spawn: Callable[..., Child], without_the_library: dict[str, str], setting: dict[str, str]
) -> None:
    processes = [spawn(*role, program=BILLING, **without_the_library, **setting) for role in ROLES]
    take_one(service)
    assert [process.output() for process in processes if "traces." in process.output()] == []


def test_without_the_library_a_process_says_so_and_works(
    service: Service, spawn: Callable[..., Child], without_the_library: dict[str, str], traced: dict[str, str]
) -> None:
    processes = [spawn(*role, program=BILLING, **without_the_library | traced) for role in ROLES]
    take_one(service)
    for process in processes:
        (line,) = lines(process, "traces.unavailable")
        assert (line["level"], line["why"]) == ("error", "the extra `traces` is not installed")


def test_a_collector_that_hangs_keeps_no_capture_and_no_process(
    service: Service, spawn: Callable[..., Child], traced: dict[str, str]
) -> None:
    """Connections are taken and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        relay, worker = (spawn(*role, **MEASURED | traced | hanging) for role in ROLES)
        take_one(service)
        page = eventually(lambda: _failed(worker), "what was lost is counted")
        assert page.sum("billing_captured_money_minor_total") == 1999
        assert [line["level"] for line in lines(worker, "traces.lost")] == ["warning"]
        for process in (relay, worker):
            process.terminate()
            assert process.wait(PATIENCE_S) == 0


def _failed(process: Child) -> Page | None:
    page = scrape(address(process))
    return page if page.sum("billing_spans_total", outcome="failed") else None


# In this process.


class Slow(SpanExporter):
    """A collector that takes no span before the test lets it."""

    def __init__(self) -> None:
        self.open = False
        self.taken = 0

    def export(self, spans: object) -> SpanExportResult:
        eventually(lambda: self.open, "it is opened")
        self.taken += len(spans)  # type: ignore[arg-type]
        return SpanExportResult.SUCCESS


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> LogCapture:
    captured = LogCapture()

    class Log:
        def __getattr__(self, level: str) -> Callable[..., object]:
            return lambda event, **fields: captured.entries.append({"event": event, "level": level, **fields})

    monkeypatch.setattr(exporter, "log", Log())
    return captured


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Exporter]]:
    """An exporter with these settings, and that instead of a collector."""
    made: list[Exporter] = []

    def opened(to: SpanExporter | None = None, **variables: str) -> Exporter:
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        if to is not None:
            monkeypatch.setattr(exporter, "OTLPSpanExporter", lambda: to)
        made.append(Exporter("billing", "test", "relay", "http://127.0.0.1:9"))
        return made[-1]

    yield opened
    for each in made:
        each.close()


def a_plan(operation_id: str = "cap_1", traceparent: str | None = None) -> Mapping[str, object]:
    return {
        "event": "operation.planned",
        "level": "info",
        "operation_id": operation_id,
        "contract": "take_capture",
        "queue": "captures",
        "trace": Traced(traceparent, time.time_ns()),
    }


def test_spans_that_a_slow_collector_does_not_take_are_dropped_and_counted_and_nobody_waits(
    opened: Callable[..., Exporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "WAITING_MOST", 600)
    slow = Slow()
    one = opened(slow)
    for number in range(700):
        one.hear(a_plan(f"cap_{number}"))
    assert one.counts() == {"exported": 0, "failed": 0, "dropped": 100}
    slow.open = True
    eventually(lambda: one.counts()["exported"] == 600, "the others are taken")
    one.hear(a_plan("cap_last"))
    eventually(lambda: one.counts()["exported"] == 601, "and there is room again")
    assert slow.taken == 601


def test_a_line_whose_spans_cannot_be_made_is_counted_and_troubles_nobody(opened: Callable[..., Exporter]) -> None:
    one = opened(Slow())
    one.hear({"event": "operation.planned", "level": "info"})
    assert one.counts()["dropped"] == 1


@pytest.mark.parametrize(("ratio", "some"), [("0", False), ("0.5", True), ("1", True)])
def test_of_traces_of_our_own_the_sampler_takes_its_part_and_all_of_each(
    collector: Collector, opened: Callable[..., Exporter], ratio: str, some: bool
) -> None:
    variables = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio}
    one = opened(**variables, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    for number in range(40):
        one.hear(a_plan(f"cap_{number}"))
    facts = [type("Row", (), {"entity_id": f"cap_{number}", "traceparent": None}) for number in range(40)]
    archived = {"event": "batch.archived", "level": "info", "batch": "capture batch 1", "trace": Traced(None, 1, facts)}
    one.hear(archived)
    one.close()
    operations = [span.attributes["billing.operation_id"] for span in collector.spans()]
    assert {operations.count(each) for each in operations} == ({2} if some else set())
    assert (0 < len(operations) < 80) == (ratio == "0.5")
    assert len(operations) == 80 or ratio != "1"


def test_a_trace_that_the_application_named_is_recorded_as_it_said(
    collector: Collector, opened: Callable[..., Exporter]
) -> None:
    variables = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}
    one = opened(**variables, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    for flags, trace in (("00", "a" * 32), ("01", "b" * 32)):
        one.hear(a_plan(traceparent=f"00-{trace}-{'1' * 16}-{flags}"))
    one.close()
    assert [(span.trace, span.parent) for span in collector.spans()] == [("b" * 32, "1" * 16)]


def test_a_loss_is_told_once_and_its_end_once(
    collector: Collector, opened: Callable[..., Exporter], told: LogCapture
) -> None:
    one = opened(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_EXPORTER_OTLP_TIMEOUT="0.2")
    collector.refuses = True
    for lost in (1, 2):
        one.hear(a_plan())
        eventually(lambda lost=lost: one.counts()["failed"] == lost, "it is lost")
    collector.refuses = False
    for taken in (1, 2):
        one.hear(a_plan())
        eventually(lambda taken=taken: one.counts()["exported"] == taken, "it is taken")
    assert [(entry["event"], entry["level"]) for entry in told.entries] == [
        ("traces.lost", "warning"),
        ("traces.taken", "info"),
    ]


def test_what_the_variables_of_opentelemetry_say_goes_first(
    collector: Collector, opened: Callable[..., Exporter]
) -> None:
    one = opened(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    one.hear(a_plan())
    one.close()
    named = opened(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_SERVICE_NAME="money")
    named.hear(a_plan())
    named.close()
    assert {span.service for span in collector.spans()} == {"billing-relay", "money"}
