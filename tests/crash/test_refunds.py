"""Refunds on real servers: answers that are lost or saved, money that comes back, and what is never done twice."""

import pytest
from service import Service, eventually

import billing
from billing import database
from billing.states import FREES_ITS_AMOUNT, RecordState, RefundState
from billing.tables.entities import Capture, Refund
from jobs.road import concluding, quarantine

PATH = "/v1/refunds$"


def left_of(service: Service, capture: str) -> int:
    row = service.row(Capture, capture)
    return int(row.amount_minor - row.refunds_minor)


def turn(service: Service) -> None:
    service.relay.round()
    service.work_off("refunds")


def undecided(service: Service) -> list[str]:
    with database.transaction(service.engine) as session:
        return [each.entity_id for each in quarantine.undecided(session)]


def test_a_refund_costs_one_provider_call_and_is_one_refund_at_stripe(service: Service) -> None:
    capture = service.captured_one()
    refund = service.ask_for_refund(capture, reason="requested_by_customer")
    before = len(service.standin.requests())
    assert service.settle(refund) == ["succeeded"]
    assert len(service.standin.requests()) - before == 1
    assert service.refunded(refund) == [500]
    assert service.row(Refund, refund).stripe_refund == service.effects("refund")[0]["id"]
    assert service.topics(refund) == ["requested", "attempted", "succeeded"]
    assert (left_of(service, capture), service.status(capture).refunds_minor) == (1499, 500)


def test_several_refunds_of_one_payment_are_called_one_after_the_other(service: Service) -> None:
    """[85] Each waits for the call of the other, because both change the same payment."""
    capture = service.captured_one()
    refunds = [service.ask_for_refund(capture, amount) for amount in (500, 700, None)]
    service.plan()
    assert len(service.prepared("refunds", most=3)) == 1
    service.execute("UPDATE billing.idempotency_records SET lease_until = now() - interval '1 hour'")
    assert service.settle(*refunds) == ["succeeded"] * 3
    assert [service.refunded(refund) for refund in refunds] == [[500], [700], [799]]
    assert left_of(service, capture) == 0


@pytest.mark.parametrize("fault", ["drop_before", "drop_after_commit", "truncate_body", "502_html", "200_html"])
def test_a_lost_answer_to_a_refund_is_resent_with_the_same_key(service: Service, fault: str) -> None:
    """[70]"""
    refund = service.ask_for_refund(service.captured_one())
    service.standin.add_fault(fault, path=PATH, method="POST", times=1)
    assert service.settle(refund) == ["succeeded"]
    assert service.refunded(refund) == [500]
    keys = [post["key"] for post in service.posts("/v1/refunds")]
    assert (len(keys), len(set(keys))) == (2, 1)


def test_a_refund_whose_500_had_its_effect_is_found_by_its_metadata(service: Service) -> None:
    """[70] Among more refunds of the same payment than fit on a page."""
    capture = service.captured_one(amount=1999)
    intent = service.row(Capture, capture).payment_intent
    for _ in range(120):
        service.by_hand("/v1/refunds", f"payment_intent={intent}&amount=1")
    refund = service.ask_for_refund(capture)
    service.standin.add_fault("500_with_effect", path=PATH, method="POST", times=1)
    assert service.settle(refund) == ["succeeded"]
    assert service.refunded(refund) == [500]
    assert {post["key"] for post in service.posts("/v1/refunds") if ":refund:" in post["key"]} == {
        service.records(refund)[0].key
    }


def test_a_refund_whose_outcome_is_unknown_is_never_repeated_under_a_new_key_by_a_machine(service: Service) -> None:
    """[69, 70] Stripe saved a 500, and lists no refund. That proves nothing: it may still carry it out."""
    capture = service.captured_one()
    refund = service.ask_for_refund(capture)
    service.standin.add_fault("500_saved", path=PATH, method="POST", times=1)
    eventually(lambda: turn(service) or undecided(service) == [refund], "it is undecided")
    for _ in range(5):
        service.age(refund, 30 * 3600)
        turn(service)
    assert {post["key"] for post in service.posts("/v1/refunds")} == {service.records(refund)[0].key}
    assert [record.state for record in service.records(refund)] == [RecordState.IN_DOUBT]
    assert (service.refunded(refund), service.status(refund).state) == ([], "in_doubt")
    # [69] Its amount counts as given back, and its payment waits for it: nothing is asked for in its place.
    assert left_of(service, capture) == 1499
    with pytest.raises(billing.MoreThanCaptured):
        service.ask_for_refund(capture, 1500)
    other = service.ask_for_refund(capture, 1499)
    turn(service)
    assert (service.refunded(other), service.status(other).state) == ([], "requested")


def test_an_undecided_refund_ends_when_somebody_makes_it_at_stripe_under_our_id(service: Service) -> None:
    """[70] What docs/moves/refunds.md tells an operator to do, if the refund is wanted."""
    refund = service.ask_for_refund(service.captured_one())
    service.standin.add_fault("500_saved", path=PATH, method="POST", times=1)
    eventually(lambda: turn(service) or undecided(service) == [refund], "it is undecided")
    row = service.row(Refund, refund)
    made = f"payment_intent={row.payment_intent}&amount=500&metadata[billing_operation]={refund}"
    by_hand = service.by_hand("/v1/refunds", made)
    service.age(refund, 3600)
    assert service.settle(refund) == ["succeeded"]
    assert (service.refunded(refund), service.row(Refund, refund).stripe_refund) == ([500], by_hand)


@pytest.mark.parametrize("late", [False, True], ids=["nothing comes", "its success comes to light"])
def test_what_a_person_has_ruled_out_is_a_conflict_if_it_was_done_after_all(service: Service, late: bool) -> None:
    """[70] And a replay then looks, and finds it."""
    refund = service.ask_for_refund(service.captured_one())
    service.plan()
    (sleeper,) = service.prepared("refunds").values()
    service.age(refund, 26 * 3600)
    service.relay.round()
    eventually(lambda: turn(service) or undecided(service) == [refund], "it is undecided")
    with database.transaction(service.engines["operator"]) as session:
        concluding.conclude(session, refund, actor="anna", reason="nothing at Stripe")
    assert service.status(refund).state == "refused"
    if late:
        service.report(sleeper)
        assert service.status(refund).state == "conflict"
        service.replay(refund)
        assert service.settle(refund) == ["succeeded"]
        assert service.refunded(refund) == [500]


def test_a_refund_that_was_made_twice_needs_a_decision(service: Service) -> None:
    refund = service.ask_for_refund(service.captured_one())
    row = service.row(Refund, refund)
    for _ in range(2):
        service.by_hand(
            "/v1/refunds", f"payment_intent={row.payment_intent}&amount=500&metadata[billing_operation]={refund}"
        )
    service.standin.add_fault("500_saved", path=PATH, method="POST", times=1)
    eventually(lambda: turn(service) or service.status(refund).needs_decision, "it is in conflict")
    assert "refunded_more_than_once" in (service.status(refund).reason or "")


def test_a_payment_that_somebody_gave_back_refuses_the_refund_and_frees_its_amount(service: Service) -> None:
    capture = service.captured_one()
    intent = service.row(Capture, capture).payment_intent
    service.by_hand("/v1/refunds", f"payment_intent={intent}")
    refund = service.ask_for_refund(capture)
    assert service.settle(refund) == ["refused"]
    assert service.status(refund).reason == "charge_already_refunded"
    assert left_of(service, capture) == 1999


def test_more_than_stripe_has_left_is_refused(service: Service) -> None:
    capture = service.captured_one()
    intent = service.row(Capture, capture).payment_intent
    service.by_hand("/v1/refunds", f"payment_intent={intent}&amount=1600")
    refund = service.ask_for_refund(capture)
    assert service.settle(refund) == ["refused"]
    assert service.status(refund).reason == "invalid_request_error: amount"
    assert left_of(service, capture) == 1999


def test_a_lost_refusal_is_understood_once_so_little_is_left_that_there_can_be_no_refund(service: Service) -> None:
    """A refund that was lost and cannot be there any more is refused by a look, and not undecided for ever."""
    capture = service.captured_one()
    intent = service.row(Capture, capture).payment_intent
    refund = service.ask_for_refund(capture)
    service.standin.add_fault("500_saved", path=PATH, method="POST", times=1)
    eventually(lambda: turn(service) or undecided(service) == [refund], "it is undecided")
    service.by_hand("/v1/refunds", f"payment_intent={intent}&amount=1500")
    service.age(refund, 3600)
    assert service.settle(refund) == ["refused"]
    assert (service.status(refund).reason or "").startswith("too_little_left: left: expected at least 500, found 499")


def test_a_pending_refund_is_looked_at_until_the_bank_has_ended_it(service: Service) -> None:
    capture = service.captured_one(card="pm_card_pendingRefund")
    refund = service.ask_for_refund(capture)
    eventually(lambda: turn(service) or service.status(refund).state == "pending", "Stripe has accepted it")
    turn(service)
    status = service.status(refund)
    assert (status.state, status.final, status.reason) == ("pending", False, "processing")
    assert left_of(service, capture) == 1499
    assert undecided(service) == []
    service.standin.advance(60)
    assert service.settle(refund) == ["succeeded"]
    assert [t for t in service.topics(refund) if t != "looked"] == ["requested", "attempted", "pending", "succeeded"]
    assert len(service.posts("/v1/refunds")) == 1


def test_a_worker_killed_while_it_observes_leaves_no_doubt(service: Service) -> None:
    capture = service.captured_one(card="pm_card_pendingRefund")
    refund = service.ask_for_refund(capture)
    eventually(lambda: turn(service) or service.status(refund).state == "pending", "Stripe has accepted it")

    def observing() -> bool:
        service.relay.round()
        return bool(service.prepared("refunds"))

    eventually(observing, "a worker that is silent from then on looks at it")
    service.age(refund, 1000)
    turn(service)
    assert service.status(refund).state == "pending"
    service.standin.advance(60)
    assert service.settle(refund) == ["succeeded"]


def test_every_state_that_frees_the_amount_is_an_end_without_the_money() -> None:
    assert set(FREES_ITS_AMOUNT) == {RefundState.FAILED, RefundState.CANCELED, RefundState.REFUSED}


def test_a_refund_is_stopped_by_the_switch_of_its_kind(service: Service) -> None:
    refund = service.ask_for_refund(service.captured_one())
    service.pull("refunds")
    service.plan()
    service.work_off("refunds")
    assert (service.work(refund).state, service.posts("/v1/refunds")) == ("held", [])
    service.release("refunds")
    assert service.settle(refund) == ["succeeded"]


def test_a_capture_is_never_given_back_by_the_service_itself(service: Service) -> None:
    """[67] The loser of a race, a conflict, a late answer: none of them makes a refund. Only a request does."""
    capture = service.ask_for_capture()
    intent = service.row(Capture, capture).payment_intent
    service.by_hand(f"/v1/payment_intents/{intent}/capture", "amount_to_capture=1000")
    service.plan()
    eventually(lambda: service.work_off() or service.status(capture).state == "conflict", "it is in conflict")
    assert service.effects("refund") == service.posts("/v1/refunds") == []


def test_the_record_of_a_refund_outlives_every_error(service: Service) -> None:
    """[66] The next send has its key, because its record was committed before the first."""
    refund = service.ask_for_refund(service.captured_one())
    service.plan()
    (call,) = service.prepared("refunds").values()
    kept = service.record(refund)
    assert (kept.key, kept.state) == (call.request.key, RecordState.SENT)
    service.age(refund, 1000)
    assert service.settle(refund) == ["succeeded"]
    assert [record.key for record in service.records(refund)] == [kept.key]
    assert service.refunded(refund) == [500]
