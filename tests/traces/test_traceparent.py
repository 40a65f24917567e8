"""Which trace a request belongs to is read from the application, and carried; whatever it is, the request goes on."""

import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from collector import request_of_an_application
from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, set_span_in_context
from service import Service

from billing import traceparent
from billing.tables.facts import Fact

NAMED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("written", [NAMED, NAMED[:-2] + "00", "01" + NAMED[2:]])
def test_what_w3c_writes_is_a_traceparent(written: str) -> None:
    assert traceparent.traceparent(written) == written
    assert traceparent.trace_id(written) == "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    "written",
    [
        *(None, 7, b"00", "", "x" * 55, NAMED.upper(), f"{NAMED}-more", f" {NAMED}", f"{NAMED}\n"),
        "ff" + NAMED[2:],
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        # Digits that are none to W3C.
        NAMED.replace("4bf92f35", "٤bf92f35"),
    ],
)
def test_what_is_none_is_dropped(written: object) -> None:
    assert traceparent.traceparent(written) is None


def test_an_application_that_traces_nothing_names_no_trace(service: Service) -> None:
    assert traceparent.current() is None
    capture = service.ask_for_capture()
    service.plan()
    assert (service.facts(capture)[0].traceparent, service.work(capture).traceparent) == (None, None)


def test_the_open_span_is_named_in_the_request_in_its_work_and_in_every_fact_of_a_worker(service: Service) -> None:
    with request_of_an_application() as (its_trace, span):
        capture, invoice = service.ask_for_capture(), service.ask_for_invoice()
    assert service.settle(capture, invoice) == ["captured", "sent"]
    for operation in (capture, invoice):
        assert (service.work(operation).traceparent or "").startswith(f"00-{its_trace}-{span}-")
        assert {fact.traceparent for fact in service.facts(operation)} == {service.work(operation).traceparent}


class Odd(NonRecordingSpan):
    """A span of an application's own making."""

    def __init__(self, answer: Any) -> None:
        super().__init__(trace.INVALID_SPAN_CONTEXT)
        self._answer = answer

    def get_span_context(self) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def hostile() -> Iterator[Any]:
    ids = {"trace_id": 1, "span_id": 1, "trace_flags": 1}
    yield SimpleNamespace(**ids | {"trace_id": 1 << 200})
    yield SimpleNamespace(**ids | {"span_id": 0})
    yield SimpleNamespace(**ids | {"trace_flags": 256})
    yield SimpleNamespace(**ids | {"trace_id": "' OR 1=1"})
    yield None
    yield RuntimeError("a bug of somebody's")


@pytest.mark.parametrize("answer", list(hostile()), ids=repr)
def test_an_odd_span_costs_the_trace_and_not_the_request(service: Service, answer: Any) -> None:
    token = context.attach(set_span_in_context(Odd(answer)))
    try:
        capture = service.ask_for_capture()
    finally:
        context.detach(token)
    assert service.facts(capture)[0].traceparent is None


def test_what_another_program_writes_as_a_trace_is_not_carried_on(service: Service) -> None:
    """An application's login may write any fact."""
    capture = service.ask_for_capture()
    service.execute("UPDATE billing.facts SET traceparent = '00-' || repeat('z', 52)")
    service.plan()
    assert service.work(capture).traceparent is None
    assert service.settle(capture) == ["captured"]


def test_a_trace_has_room_for_its_name_and_for_no_more() -> None:
    assert len(NAMED) == traceparent.LENGTH == Fact.__table__.c.traceparent.type.length  # type: ignore[attr-defined]


def test_to_import_billing_loads_nothing_of_opentelemetry() -> None:
    program = "import sys, billing; print([name for name in sys.modules if 'opentelemetry' in name])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=200)
    assert ran.stdout.strip() == "[]"
