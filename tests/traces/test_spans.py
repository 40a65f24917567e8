"""What a span is called and what it says, without a server."""

from typing import Any

import pytest

from billing.operations import OPERATIONS
from billing.traceparent import Traced
from jobs.traces.spans import SPANS, OfOperation, path_template, spans_of


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/v1/payment_intents/pi_1/capture", "/v1/payment_intents/{id}/capture"),
        ("/v1/payment_intents/pi_1?expand[]=latest_charge", "/v1/payment_intents/{id}"),
        ("/v1/invoices", "/v1/invoices"),
        ("/v1/invoices/in_1", "/v1/invoices/{id}"),
        ("/v1/invoices/in_1/add_lines", "/v1/invoices/{id}/add_lines"),
        ("/v1/account", "/v1/account"),
    ],
)
def test_a_path_is_told_without_ids(path: str, template: str) -> None:
    assert path_template(path) == template


def told(event: str, **fields: Any) -> list[OfOperation]:
    return list(spans_of({"event": event, "level": "info", **fields}, 2_000))


def test_a_line_of_any_other_event_makes_no_span() -> None:
    assert told("postgres.away", error="OperationalError") == []


def test_what_is_settled_without_a_call_makes_no_span() -> None:
    """Held work, for example: the lines tell of it at each release, and nothing was done."""
    fields = {"operation_id": "cap_1", "contract": "take_capture", "state": "requested", "standing": "blocked"}
    assert told("operation.settled", **fields, trace=Traced(None, 0)) == []


def test_a_batch_tells_each_operation_once_and_none_of_what_no_application_requested() -> None:
    class A:
        def __init__(self, entity_id: str, traceparent: str | None = None) -> None:
            self.entity_id, self.traceparent = entity_id, traceparent

    facts = [A("cap_1"), A("cap_1", "00-a"), A("inv_1"), A("swi_1"), A("cmd_1"), A("odd")]
    found = told("batch.archived", batch="capture batch 7", trace=Traced(None, 1_000, facts))
    assert [(each.operation_id, each.traceparent, each.make().attributes["billing.facts"]) for each in found] == [
        ("cap_1", "00-a", 2),
        ("inv_1", None, 1),
    ]
    assert {(span.name, span.began_ns, span.ended_ns) for span in (each.make() for each in found)} == {
        ("archive capture", 1_000, 2_000)
    }


def test_the_page_names_each_line_that_makes_spans() -> None:
    assert set(SPANS) == {"operation.planned", "operation.prepared", "operation.settled", "batch.archived"}
    assert {"cap", "inv"} <= {operation.prefix for operation in OPERATIONS.values()}
