"""The road of one request through Postgres: planned, claimed, prepared, settled; no provider and no process."""

import random
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from test_issue_invoice import ask as ask_invoice
from test_request_capture import ask

import billing
from billing import switches
from billing.call_settings import CallSettings
from billing.calls import Call, Report
from billing.database import transaction
from billing.gateway import Answer, NoAnswer, Response
from billing.learned import Learned
from billing.steps import LookResult
from billing.tables.entities import Capture
from billing.tables.facts import Fact
from billing.tables.idempotency_records import Record
from billing.tables.work import Work
from billing.timing import SHORT
from jobs.road import housekeeping
from jobs.road.planning import plan
from jobs.road.runner import Outcome, Runner

CALL_SETTINGS = CallSettings("billing", "test", livemode=False, api_version="2026-10-28.endive", timing=SHORT)


@pytest.fixture
def runner() -> Runner:
    return Runner(CALL_SETTINGS, random.Random(1))


def new_request(engine: Engine, number: int = 1, *, known: bool = True) -> str:
    authorization = billing.Authorization(2000, "USD", None) if known else None
    with transaction(engine) as session:
        receipt = ask(session, payment_intent=f"pi_{number}", request_id=f"order-{number}", authorization=authorization)
        plan(session, SHORT)
    return receipt.capture_id


def claim(engine: Engine, runner: Runner, queue: str = "captures", free: int = 8) -> Outcome:
    with transaction(engine) as session:
        return runner.start(session, runner.claim(session, queue, free))


def report(engine: Engine, runner: Runner, call: Call, came_back: Answer | LookResult) -> Outcome:
    with transaction(engine) as session:
        return runner.finish(session, [Report(call, came_back, 1)])


def captured(call: Call, **changes: Any) -> Response:
    shown = {
        "id": call.request.path.split("/")[3],
        "object": "payment_intent",
        "livemode": False,
        "status": "succeeded",
        "currency": "usd",
        "amount_received": 2000,
        "latest_charge": "ch_1",
        **changes,
    }
    return Response(200, b"{}", shown, "req_1", replayed=False)


def works(engine: Engine) -> dict[str, str]:
    with transaction(engine) as session:
        return {work.entity_id: work.state for work in session.scalars(select(Work))}


def test_one_wish_from_the_request_to_the_money(engine: Engine, runner: Runner):
    """[3]"""
    capture_id = new_request(engine)
    (call,) = claim(engine, runner).calls
    assert works(engine) == {capture_id: "running"}
    with transaction(engine) as session:
        assert runner.claim(session, "captures", 8) == []
    report(engine, runner, call, captured(call))
    assert works(engine) == {capture_id: "done"}
    with transaction(engine) as session:
        assert billing.status(session, capture_id).state == "captured"
        told = session.execute(select(Fact.topic, Fact.entity_version, Fact.payload).order_by(Fact.id)).all()
    assert [topic for topic, _, _ in told] == ["capture.requested", "capture.attempted", "capture.captured"]
    assert [version for _, version, _ in told] == [1, 2, 3]
    allowed = {"minor", "currency", "payment_intent", "account", "authorized", "capture_before", "request_digest"}
    assert set(told[0].payload) == allowed
    told_of_the_money = {"minor", "currency", "authorized_minor", "account", "payment_intent", "charge", "why"}
    assert set(told[2].payload) == told_of_the_money


def test_a_fact_is_planned_once_however_often_a_relay_comes_by(engine: Engine):
    """[73, 83]"""
    new_request(engine)
    with transaction(engine) as session:
        session.execute(text("UPDATE billing.facts SET planned_version = NULL"))
        plan(session, SHORT)
    assert len(works(engine)) == 1


def test_no_two_captains_get_the_same_work(engine: Engine, runner: Runner):
    for number in range(4):
        new_request(engine, number)
    with transaction(engine) as first, transaction(engine) as second:
        one = runner.start(first, runner.claim(first, "captures", 3))
        two = runner.start(second, runner.claim(second, "captures", 3))
    assert (len(one.calls), len(two.calls)) == (3, 1)
    assert len({call.record_id for call in [*one.calls, *two.calls]}) == 4


def test_a_dead_workers_call_is_asked_again_with_the_same_key(engine: Engine, runner: Runner):
    new_request(engine)
    (first,) = claim(engine, runner).calls
    with transaction(engine) as session:
        session.execute(text("UPDATE billing.idempotency_records SET lease_until = clock_timestamp()"))
        assert housekeeping.rescue_lapsed(session) == 1
    (second,) = claim(engine, runner).calls
    assert second.request == first.request
    assert second.fence == first.fence + 1
    report(engine, runner, second, captured(second))
    # The first one was only asleep.
    report(engine, runner, first, captured(first))
    with transaction(engine) as session:
        assert session.scalars(select(Work)).one().attempts == 1
        assert session.scalars(select(Capture)).one().state == "captured"


@pytest.mark.parametrize("scope", ["everything", "captures", "account:own"])
def test_once_a_switch_has_committed_nothing_new_is_prepared(engine: Engine, runner: Runner, scope: str):
    capture_id = new_request(engine)
    with transaction(engine) as session:
        switches.pull(session, scope, actor="ops", reason="a test")
    assert not claim(engine, runner).calls
    assert works(engine) == {capture_id: "held"}
    with transaction(engine) as session:
        # Whoever asks why nothing happens is told which switch, and why it was pulled.
        assert session.scalars(select(Work)).one().reason == f"{scope}: a test"
        switches.release(session, scope, actor="ops", reason="over")
        assert housekeeping.release_held(session) == 1
    assert len(claim(engine, runner).calls) == 1


def test_a_switch_pulled_between_two_steps_stops_the_second(engine: Engine, runner: Runner):
    capture_id = new_request(engine, known=False)
    (read,) = claim(engine, runner).calls
    assert read.looking
    with transaction(engine) as session:
        switches.pull(session, "captures", actor="ops", reason="a test")
    authorized = {"amount_capturable": 2000, "currency": "usd", "latest_charge": None}
    outcome = report(engine, runner, read, LookResult(Learned.SUCCEEDED, authorized))
    assert not outcome.calls
    assert works(engine) == {capture_id: "held"}


def test_refused_credentials_hold_the_work_and_count_no_attempt(engine: Engine, runner: Runner):
    capture_id = new_request(engine)
    (call,) = claim(engine, runner).calls
    outcome = report(engine, runner, call, Response(401, b"{}", {"error": {}}, "req_1", replayed=False))
    assert outcome.refused_accounts == {None: 401}
    assert works(engine) == {capture_id: "held"}
    with transaction(engine) as session:
        assert session.scalars(select(Work)).one().attempts == 0
        assert session.scalars(select(Record)).one().state == "planned"


def test_work_that_cannot_be_prepared_does_not_stop_the_others(engine: Engine, runner: Runner):
    """A newer version has begun a step that this one does not know; or a row of ours has a bug."""
    poisoned = new_request(engine, 1)
    (call,) = claim(engine, runner).calls
    report(engine, runner, call, NoAnswer("reset"))
    with transaction(engine) as session:
        session.execute(text("UPDATE billing.idempotency_records SET step = 'a step of tomorrow'"))
        session.execute(text("UPDATE billing.work SET state = 'ready', due_at = NULL"))
    healthy = new_request(engine, 2)
    with transaction(engine) as session:
        claimed = runner.claim(session, "captures", 1)
        with pytest.raises(KeyError):
            runner.start(session, claimed)
    with transaction(engine) as session:
        runner.set_aside(session, claimed, ValueError("one of the rows"))
    (call,) = claim(engine, runner).calls
    assert call.loaded.row.id == healthy
    assert works(engine)[poisoned] in ("quarantined", "parked")


def test_two_operations_never_call_about_the_same_object_at_once(engine: Engine, runner: Runner):
    """An invoice of another operation holds it, say; the second waits, and its other work is committed."""
    first = new_request(engine, 1)
    (call,) = claim(engine, runner).calls
    second = new_request(engine, 2)
    with transaction(engine) as session:
        session.execute(
            text("UPDATE billing.captures SET payment_intent = 'pi_1', capture_no = 2 WHERE id = :id"), {"id": second}
        )
    outcome = claim(engine, runner)
    assert outcome.calls == []
    assert works(engine) == {first: "running", second: "waiting"}
    with transaction(engine) as session:
        assert [record.operation_id for record in session.scalars(select(Record))] == [first]
    report(engine, runner, call, captured(call))
    with transaction(engine) as session:
        session.execute(text("UPDATE billing.work SET due_at = clock_timestamp() WHERE state = 'waiting'"))
        housekeeping.make_due_ready(session)
    assert len(claim(engine, runner).calls) == 1


def test_the_steps_of_an_invoice_follow_each_other_without_being_claimed_again(engine: Engine, runner: Runner):
    with transaction(engine) as session:
        invoice_id = ask_invoice(session).invoice_id
        plan(session, SHORT)
    (create,) = claim(engine, runner, "invoices").calls
    draft = {
        "id": "in_1",
        "object": "invoice",
        "livemode": False,
        "customer": "cus_1",
        "currency": "eur",
        "status": "draft",
        "metadata": {"billing_operation": invoice_id},
    }
    (lines,) = report(engine, runner, create, Response(200, b"{}", draft, "req_1", replayed=False)).calls
    assert (create.step.name, lines.step.name) == ("create", "add_lines")
    assert lines.request.path == "/v1/invoices/in_1/add_lines"
    with transaction(engine) as session:
        records = session.scalars(select(Record).order_by(Record.generation)).all()
        assert [(each.step, each.generation, each.provider_object) for each in records] == [
            ("create", 1, "in_1"),
            ("add_lines", 2, "in_1"),
        ]
        assert records[0].concluded_at is not None
