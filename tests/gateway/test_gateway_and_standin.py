"""The gateway against the stand-in: real captures, its lies and its faults, settled by the protocol."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from billing import effects
from billing.call_settings import CallSettings
from billing.calls import Report, Result, Standing
from billing.captures import OPERATION
from billing.effects import Context
from billing.gateway import Budget, NotSent, Request, Response, boot_clock
from billing.learned import Learned
from billing.states import CaptureState
from billing.steps import LoadedOperation
from billing.stripe_gateway import API_VERSION, StripeGateway
from billing.tables.entities import Capture
from billing.timing import SHORT
from jobs.local.servers import LocalServers
from stripe_standin.control import Control
from stripe_standin.hostile import LIES

CALL_SETTINGS = CallSettings("billing", "test", livemode=False, api_version=API_VERSION, timing=SHORT)


@pytest.fixture
def control(stack: LocalServers) -> Iterator[Control]:
    control = Control(stack.environment["STRIPE_API_BASE"])
    control.reset()
    yield control
    control.reset()


@pytest.fixture
def door(stack: LocalServers) -> Iterator[StripeGateway]:
    door = StripeGateway(lambda: "sk_test_standin", stack.environment["STRIPE_API_BASE"], livemode=False, connections=2)
    yield door
    door._http.close()


def budget() -> Budget:
    until = boot_clock() + 10
    return Budget(until, until)


def an_operation(control: Control, **changes: Any) -> LoadedOperation:
    (intent,) = control.authorizations(amount=1999)
    values: dict[str, Any] = {
        "id": f"cap_{intent[3:].ljust(32, '0')}",
        "account": None,
        "request_id": "order-1",
        "payment_intent": intent,
        "capture_no": 1,
        "amount_minor": 1999,
        "currency": "USD",
        "authorized_minor": 1999,
        "state": CaptureState.REQUESTED,
        "version": 1,
        "correlation_id": None,
        **changes,
    }
    return LoadedOperation(Capture(**values), [], "wrk_1", "captures")


def step(door: StripeGateway, loaded: LoadedOperation, *, look: bool = False) -> tuple[Result, Report]:
    """One prepare, call and settle, at the time of now."""
    context = Context(OPERATION, loaded, datetime.now(UTC), CALL_SETTINGS, may_send=True)
    prepared = effects.prepare(context, look=look)
    assert prepared.call is not None, prepared
    report = effects.call(door, prepared.call, budget())
    return effects.settle(context, report), report


def test_a_capture_is_taken_once_and_its_answer_replayed(control: Control, door: StripeGateway):
    loaded = an_operation(control)
    result, report = step(door, loaded)
    assert result.standing is Standing.CONCLUDED
    assert loaded.row.state == CaptureState.CAPTURED
    again = door.send(report.call.request, budget())
    assert isinstance(again, Response)
    assert again.replayed
    assert [effect["amount"] for effect in control.effects("capture")] == [1999]
    assert control.effects("capture")[0]["metadata"]["billing_operation"] == loaded.row.id


@pytest.mark.parametrize(
    "lie", [lie for lie in LIES if lie not in ("not_end_state",)], ids=lambda lie: lie.replace("_", " ")
)
def test_a_success_about_something_else_is_a_conflict(control: Control, door: StripeGateway, lie: str):
    loaded = an_operation(control)
    control.add_fault(lie, path="/capture$", times=1)
    result, _ = step(door, loaded)
    assert result.standing is Standing.CONFLICT
    assert loaded.row.state == CaptureState.REQUESTED
    assert loaded.records[0].learned == Learned.MISMATCH
    assert loaded.records[0].concluded_at is None


def test_a_success_that_is_not_the_end_is_looked_at(control: Control, door: StripeGateway):
    loaded = an_operation(control)
    control.add_fault("not_end_state", path="/capture$", times=1)
    result, _ = step(door, loaded)
    assert result.standing is Standing.LOOKING
    result, _ = step(door, loaded, look=True)
    assert result.standing is Standing.CONCLUDED
    assert loaded.row.state == CaptureState.CAPTURED
    assert len(control.effects("capture")) == 1


# fault, how it stands afterwards, and what has then to be done: nothing, the same key again, or a look
FAULTS = [
    ("drop_before", Standing.IN_DOUBT),
    ("drop_after_commit", Standing.IN_DOUBT),
    ("truncate_body", Standing.IN_DOUBT),
    ("502_html", Standing.IN_DOUBT),
    ("200_html", Standing.IN_DOUBT),
    ("500_saved", Standing.IN_DOUBT),
    ("500_no_effect", Standing.IN_DOUBT),
    ("500_with_effect", Standing.IN_DOUBT),
    ("424", Standing.IN_DOUBT),
    ("429_rate", Standing.THROTTLED),
    ("429_lock_saved", Standing.THROTTLED),
    ("409_in_use", Standing.THROTTLED),
    ("401", Standing.MISCONFIGURED),
    ("403", Standing.MISCONFIGURED),
]


@pytest.mark.parametrize(("fault", "standing"), FAULTS, ids=[fault for fault, _ in FAULTS])
def test_every_fault_is_overcome_with_one_effect(control: Control, door: StripeGateway, fault: str, standing: Standing):
    loaded = an_operation(control)
    control.add_fault(fault, path="/capture$", times=1)
    result, _ = step(door, loaded)
    assert result.standing is standing
    for _ in range(4):
        if result.standing is Standing.CONCLUDED:
            break
        result, _ = step(door, loaded, look=result.standing is Standing.LOOKING)
    assert result.standing is Standing.CONCLUDED
    assert loaded.row.state == CaptureState.CAPTURED
    assert [effect["amount"] for effect in control.effects("capture")] == [1999]


def test_a_redirect_of_the_provider_is_not_followed(control: Control, door: StripeGateway):
    control.add_fault("redirect_307", path="/capture$", times=1, location="http://127.0.0.1:9/stranger")
    result, _ = step(door, an_operation(control))
    assert result.standing is Standing.IN_DOUBT


def test_a_decline_or_a_state_is_told_with_its_object(control: Control, door: StripeGateway):
    loaded = an_operation(control)
    cancel = Request("POST", f"/v1/payment_intents/{loaded.row.payment_intent}/cancel", "", "cancel")
    assert isinstance(door.send(cancel, budget()), Response)
    result, _ = step(door, loaded)
    assert result.standing is Standing.CONCLUDED
    assert loaded.row.state == CaptureState.CANCELED


def test_more_than_was_authorized_is_refused(control: Control, door: StripeGateway):
    loaded = an_operation(control, amount_minor=5000)
    result, _ = step(door, loaded)
    assert (result.standing, loaded.row.state) == (Standing.CONCLUDED, CaptureState.REFUSED)
    assert loaded.row.reason == "amount_too_large: amount_to_capture"
    assert not control.effects("capture")


def test_what_a_person_captured_in_the_dashboard_counts_as_done(control: Control, door: StripeGateway):
    loaded = an_operation(control)
    by_hand = Request("POST", f"/v1/payment_intents/{loaded.row.payment_intent}/capture", "", "by-hand")
    assert isinstance(door.send(by_hand, budget()), Response)
    result, _ = step(door, loaded)
    assert result.standing is Standing.LOOKING
    result, _ = step(door, loaded, look=True)
    assert (result.standing, loaded.row.state, loaded.row.reason) == (
        Standing.CONCLUDED,
        CaptureState.CAPTURED,
        "already_done",
    )
    assert len(control.effects("capture")) == 1


def test_the_other_mode_shows_nothing_of_ours(control: Control, stack: LocalServers):
    loaded = an_operation(control)
    live = StripeGateway(lambda: "sk_live_standin", stack.environment["STRIPE_API_BASE"], livemode=True, connections=1)
    answer = live.send(Request("GET", f"/v1/payment_intents/{loaded.row.payment_intent}"), budget())
    live._http.close()
    assert isinstance(answer, Response)
    assert answer.status == 404


def test_a_stand_in_that_is_gone_was_sent_nothing():
    door = StripeGateway(lambda: "sk_test_x", "http://127.0.0.1:9", livemode=False, connections=1)
    assert isinstance(door.send(Request("POST", "/v1/x", "", "key"), budget()), NotSent)
