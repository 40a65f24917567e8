"""How a request stands, in one word, in every state that its row, its records and its work can have."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session
from test_issue_invoice import ask as ask_invoice
from test_request_capture import ask

import billing
from billing import ids
from billing.states import CaptureState, InvoiceState, RecordState, WorkState
from billing.tables.entities import Capture, Invoice
from billing.tables.idempotency_records import Record
from billing.tables.work import Work

THEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def capture_id(session: Session) -> str:
    return ask(session).capture_id


def record(session: Session, entity_id: str, **changes: Any) -> None:
    values: dict[str, Any] = {
        "id": ids.new("rec"),
        "operation_id": entity_id,
        "step": "capture",
        "generation": 1,
        "work_id": "wrk_1",
        "queue": "captures",
        "key": ids.new("key"),
        "method": "POST",
        "path": "/v1/x",
        "body": "",
        "livemode": False,
        "api_version": "v",
        "sends": 1,
        "unanswered": 1,
        "first_sent_at": THEN,
        "last_prepared_at": THEN,
        **changes,
    }
    session.add(Record(**values))
    session.flush()


def work(session: Session, entity_id: str, state: WorkState, **changes: Any) -> None:
    values: dict[str, Any] = {
        "id": ids.new("wrk"),
        "contract": "take_capture",
        "version": 1,
        "queue": "captures",
        "entity_id": entity_id,
        "scopes": [],
        "state": state,
        "urgency": THEN,
        "dedupe_key": ids.new("key"),
        **changes,
    }
    session.add(Work(**values))
    session.flush()


def test_a_new_wish_waits_for_its_work_to_be_planned(session: Session, capture_id: str):
    shown = billing.status(session, capture_id)
    assert (shown.state, shown.final, shown.work) == ("requested", False, None)
    assert shown.next == "a relay plans the work"


@pytest.mark.parametrize("state", [state for state in CaptureState if state != CaptureState.REQUESTED])
def test_every_end_of_a_capture_is_final(session: Session, capture_id: str, state: CaptureState):
    session.get_one(Capture, capture_id).state = state
    session.flush()
    shown = billing.status(session, capture_id)
    assert (shown.state, shown.final, shown.next) == (state, True, "nothing, this is final")


ENDS_OF_INVOICES = ("sent", "unpaid", "paid", "uncollectible", "voided", "refused")


@pytest.mark.parametrize("state", list(InvoiceState))
def test_an_invoice_shows_how_far_it_is(session: Session, state: InvoiceState):
    invoice_id = ask_invoice(session).invoice_id
    session.get_one(Invoice, invoice_id).state = state
    session.flush()
    shown = billing.status(session, invoice_id)
    assert (shown.state, shown.final) == (state, state in ENDS_OF_INVOICES)


RECORDS: list[tuple[str, dict[str, Any], str]] = [
    ("written, never sent", {"state": RecordState.PLANNED, "unanswered": 0, "first_sent_at": None}, "requested"),
    ("sent, and nothing left us", {"state": RecordState.PLANNED, "unanswered": 0}, "in_progress"),
    ("in flight", {"state": RecordState.SENT}, "in_progress"),
    ("in flight again", {"state": RecordState.SENT, "unanswered": 2}, "in_doubt"),
    ("unanswered", {"state": RecordState.IN_DOUBT}, "in_doubt"),
    ("an answer that could not be applied", {"state": RecordState.UNSETTLED}, "in_doubt"),
    ("contradicted", {"state": RecordState.CONFLICT}, "conflict"),
    ("contradicted later", {"state": RecordState.CONFLICT, "concluded_at": THEN}, "conflict"),
    ("disproved", {"state": RecordState.DISPROVED, "concluded_at": THEN}, "in_progress"),
]


@pytest.mark.parametrize(("changes", "state"), [pytest.param(*row[1:], id=row[0]) for row in RECORDS])
def test_doubt_is_told_as_doubt(session: Session, capture_id: str, changes: dict[str, Any], state: str):
    record(session, capture_id, **changes)
    shown = billing.status(session, capture_id)
    assert (shown.state, shown.final) == (state, False)
    assert shown.next


def test_a_conflict_is_shown_even_after_the_money_was_taken(session: Session, capture_id: str):
    session.get_one(Capture, capture_id).state = CaptureState.CAPTURED
    record(session, capture_id, state=RecordState.CONFLICT, concluded_at=THEN)
    shown = billing.status(session, capture_id)
    assert (shown.state, shown.final) == ("conflict", False)
    assert shown.next.startswith("needs a decision")


def test_a_look_that_is_due_says_when(session: Session, capture_id: str):
    look_at = THEN + timedelta(hours=1)
    record(session, capture_id, state=RecordState.IN_DOUBT, look_at=look_at)
    assert billing.status(session, capture_id).next == "Stripe is asked what happened, at 2026-01-01 01:00:00 UTC"


def test_a_parked_one_says_so(session: Session, capture_id: str):
    record(session, capture_id, state=RecordState.IN_DOUBT, look_at=THEN, parked_at=THEN)
    assert "undecided so far" in billing.status(session, capture_id).next


@pytest.mark.parametrize("state", list(WorkState))
def test_every_state_of_the_work_says_what_is_next(session: Session, capture_id: str, state: WorkState):
    due = THEN if state == WorkState.WAITING else None
    work(session, capture_id, state, due_at=due, reason="because")
    shown = billing.status(session, capture_id)
    assert shown.work == state
    assert shown.next
    assert shown.next != "a relay plans the work"


@pytest.mark.parametrize("stranger", ["cap_" + "0" * 32, "inv_none", "swi_1", "xyz", "", "cap", "pi_1"])
def test_a_strangers_id_is_unknown(session: Session, stranger: str):
    with pytest.raises(billing.UnknownEntity):
        billing.status(session, stranger)
