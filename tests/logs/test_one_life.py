"""The life of one capture or invoice, read from the lines of all processes by one grep."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from service import Service, eventually

from billing.tables.entities import Capture
from jobs.local.supervisor import Child

Line = dict[str, Any]
PLANNED = "operation.planned"


@pytest.fixture
def lines(spawn: Callable[..., Child]) -> Callable[[], list[Line]]:
    """Every line of a relay and two workers in the order of their times; each must be one JSON object.

    That something was planned comes first: a worker that looks just then may have it before the relay has told it.
    """
    roles = [("relay",), ("worker", "captures"), ("worker", "invoices")]
    processes = [spawn(*role, BILLING_LOG_LEVEL="info") for role in roles]

    def read() -> list[Line]:
        # The last line may be half written.
        written = [line for process in processes for line in process.output().split("\n")[:-1]]
        return sorted(map(json.loads, written), key=lambda line: (line["event"] != PLANNED, line["timestamp"]))

    return read


def told(lines: list[Line], correlation_id: str) -> list[str]:
    """What `grep` finds, in short."""
    found = [line for line in lines if correlation_id in json.dumps(line)]
    return [" ".join([line["event"], *_short(line)]) for line in found]


def _short(line: Line) -> list[str]:
    told = [line[name] for name in ("step", "standing") if name in line]
    return [*told, "looking"] if line.get("looking") else told


def test_the_life_of_an_operation_is_read_by_its_correlation_id(
    service: Service, lines: Callable[[], list[Line]]
) -> None:
    lost, saved, declined, plain = service.intents(4)
    service.standin.add_fault("drop_after_commit", path=f"{lost}/capture$", times=1)
    service.standin.add_fault("500_saved", path=f"{saved}/capture$", times=1)
    service.standin.add_fault("402_declined", path=f"{declined}/capture$", times=1)
    names = {"story-lost": lost, "story-saved": saved, "story-declined": declined, "story-plain": plain}
    captures = {name: service.ask_for_capture(intent, correlation_id=name) for name, intent in names.items()}
    captures["story-invoice"] = service.ask_for_invoice(correlation_id="story-invoice")
    eventually(lambda: all(service.status(entity).final for entity in captures.values()), "all are final")

    def finished() -> bool:
        ends = [line for line in lines() if line.get("standing") == "concluded" or line["event"] == PLANNED]
        return Counter(line["correlation_id"] for line in ends) == dict.fromkeys(captures, 2)

    eventually(finished, "the last lines are written")
    found = lines()
    sent = ["operation.prepared capture"]
    assert told(found, "story-plain") == ["operation.planned", *sent, "operation.settled concluded"]
    assert told(found, "story-declined") == told(found, "story-plain")
    assert told(found, "story-lost") == [
        *("operation.planned", *sent, "operation.settled in_doubt"),
        *(*sent, "operation.settled concluded"),
    ]
    assert told(found, "story-saved") == [
        *("operation.planned", *sent, "operation.settled in_doubt"),
        # Sent again with the same key, and replayed; so it is looked at, and only then sent with another.
        *(*sent, "operation.settled looking"),
        *("operation.prepared capture looking", "operation.settled again"),
        *(*sent, "operation.settled concluded"),
    ]
    assert told(found, "story-invoice") == [
        "operation.planned",
        *(f"operation.prepared {step}" for step in ("create", "add_lines", "finalize", "send")),
        "operation.settled concluded",
    ]
    last = [line for line in found if line.get("correlation_id") == "story-declined"][-1]
    assert (last["state"], last["why"], last["operation_id"]) == (
        "declined",
        "card_declined",
        captures["story-declined"],
    )
    # Whatever names an operation names its correlation, too; and the other way round.
    for name, entity in captures.items():
        by_entity = [line for line in found if entity in json.dumps(line)]
        assert by_entity == [line for line in found if name in json.dumps(line)]
        assert by_entity == [line for line in found if line.get("correlation_id") == name]


def test_without_a_correlation_id_an_order_is_found_by_its_request_id(
    service: Service, lines: Callable[[], list[Line]]
) -> None:
    """And a grep for another finds none of its lines."""
    capture = service.ask_for_capture()
    request_id = service.row(Capture, capture).request_id

    def finished() -> list[Line]:
        found = lines()
        whole = [line for line in found if line.get("standing") == "concluded" or line["event"] == PLANNED]
        return found if len(whole) == 2 else []

    found = eventually(finished, "it is captured")
    (last,) = [line for line in found if line.get("standing") == "concluded"]
    assert (last["operation_id"], last["correlation_id"]) == (capture, request_id)
    by_entity = [line for line in found if line.get("operation_id") == capture]
    assert by_entity == [line for line in found if line.get("correlation_id") == request_id]
    assert {"operation.planned", "operation.prepared", "operation.settled"} <= {line["event"] for line in by_entity}
    assert told(found, "story-plain") == []


def test_a_claim_or_a_settling_that_fails_is_told_with_both_ids_and_no_words_of_postgres(
    service: Service, lines: Callable[[], list[Line]]
) -> None:
    """A row that cannot be written: the answer is kept, and the work goes to a person."""
    service.execute("ALTER TABLE billing.captures ADD CONSTRAINT never CHECK (state <> 'captured')")
    capture = service.ask_for_capture(correlation_id="story-stuck")
    eventually(lambda: service.states_of_work()["quarantined"], "it is put aside")
    found = eventually(lambda: [line for line in lines() if line["event"] == "settle.kept"], "it is told")
    assert [(line["operation_id"], line["correlation_id"]) for line in found] == [(capture, "story-stuck")]
    failed = [line for line in lines() if line["event"] == "settle.failed"]
    assert failed
    assert all(line["correlation_id"] == "story-stuck" for line in failed)
    assert "Failing row" not in json.dumps(lines())
