"""A capture that nobody wants any more is undone once, and never before it is proven that it took the money."""

import pytest
from service import Service, eventually
from worker import KILLED, fork_worker, reap

import billing
from billing import database, effects
from billing.gateway import Budget, boot_clock
from billing.tables.entities import Capture, Refund

BOUNDARIES = ("commit.before", "send.before", "send.after", "commit.after")


def turn(service: Service) -> None:
    service.relay.round()
    for queue in ("captures", "refunds"):
        service.work_off(queue)


def waits(service: Service, refund: str, capture: str) -> bool:
    """It waits for the end of its capture, and was not sent."""
    turn(service)
    assert (service.status(refund).state, service.posts("/v1/refunds")) == ("requested", [])
    return service.work(refund).reason == f"{capture} must be over first"


def test_what_a_capture_took_is_given_back_once_however_often_that_is_asked_for(service: Service) -> None:
    capture = service.captured_one()
    (refund,) = {service.compensate(capture) for _ in range(3)}
    assert service.settle(refund) == ["succeeded"]
    assert service.compensate(capture) == refund
    assert service.refunded(refund) == [1999]
    row, asked = service.row(Refund, refund), service.facts(refund)[0]
    assert (row.request_id, row.correlation_id) == (
        f"compensation:{capture}",
        service.row(Capture, capture).correlation_id,
    )
    assert (asked.actor, asked.version, asked.payload["compensates"]) == ("compensation", 2, True)


def test_of_a_capture_that_was_refunded_in_part_the_rest_is_given_back(service: Service) -> None:
    capture = service.captured_one()
    service.settle(service.ask_for_refund(capture, 500))
    refund = service.compensate(capture)
    assert service.settle(refund) == ["succeeded"]
    assert service.refunded(refund) == [1499]


def test_a_capture_for_which_nothing_was_sent_is_withdrawn_and_takes_nothing(service: Service) -> None:
    capture = service.ask_for_capture(authorization=None)
    intent, before = service.row(Capture, capture).payment_intent, len(service.standin.requests())
    refund = service.compensate(capture)
    assert service.settle(capture, refund) == ["refused", "refused"]
    assert [service.status(each).reason for each in (capture, refund)] == ["withdrawn", "nothing_was_taken"]
    assert len(service.standin.requests()) == before
    assert service.status(capture).refunds_minor == 0
    # Its authorization is free for another one.
    assert service.settle(service.ask_for_capture(intent)) == ["captured"]


@pytest.mark.parametrize("charged", [True, False])
def test_nothing_is_given_back_while_the_capture_is_in_doubt(service: Service, charged: bool) -> None:
    """[67]"""
    capture = service.ask_for_capture()
    intent = service.row(Capture, capture).payment_intent
    service.plan()
    (silent,) = service.prepared().values()
    refund = service.compensate(capture)
    if charged:
        effects.call(service.gateway(), silent, Budget(boot_clock() + 10, boot_clock() + 20))
    else:
        service.by_hand(f"/v1/payment_intents/{intent}/cancel", "cancellation_reason=abandoned")
    for _ in range(3):
        assert waits(service, refund, capture)
    service.age(capture, 60)
    ends = ("captured", "succeeded") if charged else ("canceled", "refused")
    assert tuple(service.settle(capture, refund)) == ends
    assert service.refunded(refund) == ([1999] if charged else [])
    assert service.status(capture).refunds_minor == (1999 if charged else 0)


def test_nothing_is_given_back_while_a_capture_is_in_conflict(service: Service) -> None:
    """[67] Somebody has captured another amount: a person decides first."""
    capture = service.ask_for_capture()
    intent = service.row(Capture, capture).payment_intent
    service.plan()
    (call,) = service.prepared().values()
    refund = service.compensate(capture)
    service.by_hand(f"/v1/payment_intents/{intent}/capture", "amount_to_capture=1000")
    service.report(call)
    eventually(lambda: turn(service) or service.status(capture).state == "conflict", "it is in conflict")
    assert waits(service, refund, capture)


def test_what_a_late_success_contradicts_is_not_taken_for_nothing(service: Service) -> None:
    """[67] It has ended as refused, and a late answer says that it took the money: neither is proven."""
    capture = service.ask_for_capture()
    service.plan()
    (sleeper,) = service.prepared().values()
    refund = service.compensate(capture)
    service.execute("UPDATE billing.captures SET state = 'refused' WHERE id = :id", id=capture)
    service.execute(
        "UPDATE billing.idempotency_records SET state = 'answered', learned = 'refused', concluded_at = now(),"
        " fence = fence + 1, lease_until = NULL, lease_s = NULL WHERE operation_id = :id",
        id=capture,
    )
    service.report(sleeper)
    assert service.status(capture).state == "conflict"
    assert waits(service, refund, capture)
    service.replay(capture)
    assert service.settle(capture, refund) == ["captured", "succeeded"]
    assert service.refunded(refund) == [1999]


def test_an_application_that_takes_its_time_holds_up_its_own_capture_alone(service: Service) -> None:
    """Its transaction has the row of its capture until it commits. The most urgent one is claimed with the others."""
    held, *others = [service.ask_for_capture() for _ in range(3)]
    service.plan()
    with database.transaction(service.engines["application"]) as session:
        refund = billing.compensate(session, held).refund_id
        service.work_off()
        assert [service.status(each).state for each in others] == ["captured"] * 2
        assert service.work(held).reason == "others have its operation"
    assert service.settle(held, refund) == ["refused", "refused"]
    assert service.status(held).reason == "withdrawn"


def test_a_worker_killed_between_the_end_of_a_capture_and_its_compensation_gives_the_money_back_once(
    service: Service,
) -> None:
    """[1, 2, 54, 67] Who settled the capture dies right after the commit; then who makes the refund dies, anywhere."""
    died = {}
    for boundary in ("", *(f"{name}:1" for name in BOUNDARIES)):
        capture = service.ask_for_capture()
        service.plan()
        service.prepared()
        died[boundary] = refund = service.compensate(capture)
        service.age(capture, 60)
        service.relay.round()
        assert reap(fork_worker(service, "captures", at="commit.after:2")) == KILLED
        assert (service.status(capture).state, service.status(refund).state) == ("captured", "requested")
        if boundary:
            assert reap(fork_worker(service, "refunds", at=boundary)) == KILLED
    assert set(service.settle(*died.values())) == {"succeeded"}
    for refund in died.values():
        assert service.refunded(refund) == [1999]
        assert len({record.key for record in service.records(refund)}) == 1


@pytest.mark.parametrize("state", ["expired", "declined", "refused", "canceled"])
def test_a_capture_that_took_nothing_has_nothing_to_undo(service: Service, state: str) -> None:
    capture = service.ask_for_capture()
    service.execute("UPDATE billing.captures SET state = :state WHERE id = :id", state=state, id=capture)
    with pytest.raises(billing.NotCaptured, match="there is nothing to give back"):
        service.compensate(capture)


def test_what_is_given_back_already_and_what_does_not_exist_are_named(service: Service) -> None:
    capture = service.captured_one()
    service.ask_for_refund(capture, None)
    with pytest.raises(billing.MoreThanCaptured, match="nothing is left of it"):
        service.compensate(capture)
    with pytest.raises(billing.UnknownEntity):
        service.compensate("cap_unknown")
    with pytest.raises(billing.InvalidText, match="must be one of"):
        service.compensate(capture, reason="regret")
