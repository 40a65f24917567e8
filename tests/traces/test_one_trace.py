"""One trace leads from an application's request through relay, worker and provider to the archive."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from collector import Collector, Seen, request_of_an_application
from scraping import MEASURED, Page, address, scrape
from service import PATIENCE_S, Service, eventually

from billing import database
from billing.explain import explain_one
from billing.tables.entities import Invoice
from jobs.local.seaweed import SeaweedFS
from jobs.local.supervisor import Child

PAGE = (Path(__file__).parents[2] / "docs" / "operate" / "traces.md").read_text()
INTERNAL, CLIENT, CONSUMER = 1, 3, 5
ARCHIVED = ("archive capture", "archive attempt")
POST = "POST /v1/payment_intents/{id}/capture"


@pytest.fixture
def bucket(s3: SeaweedFS) -> dict[str, str]:
    """The settings of an archiver."""
    name = f"test-{uuid4().hex}"
    store = s3.store(name)
    store.set_up("test")
    store.close()
    return {
        "S3_ENDPOINT_URL": s3.url,
        "BILLING_S3_ACCESS_KEY": s3.access_key,
        "BILLING_S3_SECRET_KEY": s3.secret_key,
        "BILLING_ARCHIVE_BUCKET": name,
        "BILLING_ARCHIVE_WAIT_S": "0",
    }


def whole(collector: Collector, trace: str, names: set[str]) -> list[Seen]:
    """The spans of a trace, once each of these names is among them."""
    eventually(lambda: names <= {span.name for span in collector.spans(trace)}, f"{names} are there")
    return collector.spans(trace)


def named(spans: list[Seen], name: str) -> list[Seen]:
    return [span for span in spans if span.name == name]


def on_the_page() -> set[tuple[int, str, str]]:
    """The drawing of a trace: how deep, the span, and whose it is."""
    (drawing,) = re.findall(r"^```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    rows = [re.fullmatch(r"( *)(.*?)  +(\S.*)", line) for line in drawing.splitlines()]
    return {(len(row[1]) // 2, row[2], row[3]) for row in rows if row is not None}


def shown(spans: list[Seen], request: str) -> set[tuple[int, str, str]]:
    depths = {request: 0}
    for span in sorted(spans, key=lambda span: span.parent != request):
        depths[span.id] = depths[span.parent] + 1
    return {(0, "POST /orders", "your application")} | {(depths[span.id], span.name, span.service) for span in spans}


def test_a_request_is_followed_to_the_archive(
    service: Service,
    spawn: Callable[..., Child],
    collector: Collector,
    traced: dict[str, str],
    bucket: dict[str, str],
) -> None:
    service.standin.add_fault("latency", path="/capture$", seconds=0.3)
    with request_of_an_application() as (trace, request):
        capture = service.ask_for_capture()
    log = MEASURED | traced
    relay = spawn("relay", **log)
    spawn("worker", "captures", **log)
    spawn("archive", "run", **log | bucket)
    spans = whole(collector, trace, {"plan take_capture", "take_capture capture", POST, *ARCHIVED})
    (plan,), (turn,), (call,) = (named(spans, name) for name in ("plan take_capture", "take_capture capture", POST))
    assert [span.service for span in (plan, turn, call)] == ["billing-relay", *["billing-worker-captures"] * 2]
    assert [span.kind for span in (plan, turn, call)] == [INTERNAL, CONSUMER, CLIENT]
    assert [span.parent for span in (plan, turn, call)] == [request, request, turn.id]
    archived = [span for span in spans if span.name.startswith("archive ")]
    assert {(span.service, span.parent) for span in archived} == {("billing-archiver", request)}
    # The call's own time, and not that of the line that tells of it.
    assert call.took_s >= 0.3
    assert turn.began_ns <= call.began_ns <= call.ended_ns <= turn.ended_ns
    assert turn.attributes == {
        "billing.operation_id": capture,
        "billing.contract": "take_capture",
        "billing.step": "capture",
        "billing.state": "captured",
        "billing.standing": "concluded",
        "billing.fence": 1,
    }
    assert call.attributes == {
        "http.request.method": "POST",
        "url.template": "/v1/payment_intents/{id}/capture",
        "http.response.status_code": 200,
        "billing.step": "capture",
        "billing.generation": 1,
        "billing.answer": "200",
    }
    assert shown(spans, request) == on_the_page()
    assert {name for span in spans for name in span.attributes} <= set(re.findall(r"`([a-z_.]+)`", PAGE))
    # The log leads to the trace, and shows nothing else of it.
    (line,) = [json.loads(each) for each in relay.output().splitlines() if "operation.planned" in each]
    assert line["trace"] == trace
    with database.transaction(service.engine) as session:
        assert explain_one(session, capture).request["trace"] == trace
    page = eventually(lambda: _exported(relay), "it is counted")
    assert page.sum("billing_spans_total", outcome="dropped") == 0


def _exported(process: Child) -> Page | None:
    page = scrape(address(process))
    return page if page.sum("billing_spans_total", outcome="exported") else None


def test_a_call_that_is_made_again_is_in_the_same_trace(
    service: Service, spawn: Callable[..., Child], collector: Collector, traced: dict[str, str]
) -> None:
    service.standin.add_fault("500_saved", path="/capture$", times=1)
    with request_of_an_application() as (trace, request):
        capture = service.ask_for_capture()
    for role in (("relay",), ("worker", "captures")):
        spawn(*role, **traced)
    eventually(lambda: service.status(capture).final, "the capture is final")

    def concluded() -> list[Seen]:
        return [span for span in collector.spans(trace) if span.attributes.get("billing.standing") == "concluded"]

    eventually(concluded, "its last turn is told")
    spans = collector.spans(trace)
    calls = named(spans, POST)
    # Sent again, and replayed; looked at; then sent with the key of the next generation.
    assert [call.attributes["billing.answer"] for call in calls] == ["500", "500", "200"]
    assert [call.attributes["billing.generation"] for call in calls] == [1, 1, 2]
    assert [call.failed for call in calls] == [True, True, False]
    assert len(named(spans, "look capture")) == 1
    turns = named(spans, "take_capture capture")
    assert [turn.parent for turn in turns] == [request] * 4
    assert {call.parent for call in calls} < {turn.id for turn in turns}


def test_after_a_worker_died_the_trace_goes_on(
    service: Service, spawn: Callable[..., Child], collector: Collector, traced: dict[str, str]
) -> None:
    service.standin.add_fault("hold_after", path="/capture$", times=1)
    with request_of_an_application() as (trace, request):
        capture = service.ask_for_capture()
    spawn("relay", **traced)
    worker = spawn("worker", "captures", **traced)
    eventually(lambda: service.effects("capture"), "the money has moved")
    worker.kill()
    worker.wait(PATIENCE_S)
    spawn("worker", "captures", **traced)
    eventually(lambda: service.status(capture).final, "the capture is final")
    (turn,) = named(whole(collector, trace, {"take_capture capture"}), "take_capture capture")
    assert (turn.parent, turn.attributes["billing.fence"]) == (request, 2)


def test_an_operation_whose_request_named_no_trace_has_one_of_its_own(
    service: Service, spawn: Callable[..., Child], collector: Collector, traced: dict[str, str]
) -> None:
    invoice = service.ask_for_invoice()
    for role in (("relay",), ("worker", "invoices")):
        spawn(*role, **traced)
    eventually(lambda: service.status(invoice).final, "the invoice is final")
    last = "issue_invoice send"
    eventually(lambda: last in {span.name for span in collector.of(invoice)}, "its last turn is told")
    first, *turns = sorted(collector.of(invoice), key=lambda span: span.parent)
    assert (first.name, first.parent) == ("plan issue_invoice", "")
    assert {(span.trace, span.parent) for span in turns} == {(first.trace, first.id)}
    assert {span.name for span in turns} == {
        f"issue_invoice {step}" for step in ("create", "add_lines", "finalize", "send")
    }
    assert service.work(invoice).traceparent is None


def test_a_trace_that_the_application_does_not_record_is_not_exported(
    service: Service, spawn: Callable[..., Child], collector: Collector, traced: dict[str, str]
) -> None:
    with request_of_an_application(recorded=False) as (trace, _):
        unrecorded = service.ask_for_capture()
    with request_of_an_application() as (other, _):
        recorded = service.ask_for_capture()
    for role in (("relay",), ("worker", "captures")):
        spawn(*role, **traced)
    eventually(lambda: service.status(unrecorded).final and service.status(recorded).final, "both are final")
    whole(collector, other, {"take_capture capture"})
    assert (service.work(unrecorded).traceparent or "").startswith(f"00-{trace}-")
    assert collector.spans(trace) == []
    assert collector.of(unrecorded) == []


def test_no_span_has_an_amount_a_key_or_an_id_that_is_not_ours(
    service: Service, spawn: Callable[..., Child], collector: Collector, traced: dict[str, str]
) -> None:
    (intent,) = service.intents(amount=76543)
    with request_of_an_application():
        capture = service.ask_for_capture(intent, 76543, correlation_id="basket-9", authorization=None)
    invoice = service.ask_for_invoice()
    for role in (("relay",), ("worker", "captures"), ("worker", "invoices")):
        spawn(*role, **traced)
    eventually(lambda: service.status(capture).final and service.status(invoice).final, "both are final")
    for operation, last in ((capture, "take_capture capture"), (invoice, "issue_invoice send")):
        eventually(lambda o=operation, n=last: n in {s.name for s in collector.of(o)}, "its last turn is told")
    said = b"".join(collector.bodies)
    customer = service.row(Invoice, invoice).customer
    for secret in (intent, "76543", "4501", "basket-9", "order-", "test:cap_", "sk_test", customer, "in_1"):
        assert secret.encode() not in said, secret
