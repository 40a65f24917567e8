"""Answers that are lost, late, replayed or unbelievable; on real servers, one effect whatever happens."""

import pytest
from service import Service, eventually
from sqlalchemy import select

from billing import database
from billing.states import RecordState, WorkState
from billing.tables.entities import Switch


def test_a_capture_with_a_known_authorization_costs_exactly_one_provider_call(service: Service) -> None:
    capture = service.ask_for_capture()
    before = len(service.standin.requests())
    assert service.settle(capture) == ["captured"]
    assert len(service.standin.requests()) - before == 1
    assert service.captured(capture) == {1999: 1}


def test_an_unknown_authorization_is_read_once_and_a_part_of_it_is_captured(service: Service) -> None:
    capture = service.ask_for_capture(amount=500, authorization=None)
    assert service.settle(capture) == ["captured"]
    assert service.captured(capture) == {500: 1}
    assert service.topics(capture) == ["requested", "looked", "authorization_read", "attempted", "captured"]


@pytest.mark.parametrize("fault", ["drop_before", "drop_after_commit", "truncate_body", "502_html", "200_html"])
def test_a_lost_answer_is_resent_with_the_same_key(service: Service, fault: str) -> None:
    """[1, 15, 57]"""
    capture = service.ask_for_capture()
    service.standin.add_fault(fault, path="/capture$", times=1)
    assert service.settle(capture) == ["captured"]
    assert service.captured(capture) == {1999: 1}
    keys = [post["key"] for post in service.posts("/capture")]
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_a_first_500_is_sent_once_more_and_its_replay_is_looked_at_before_a_new_key(service: Service) -> None:
    """[7]"""
    capture = service.ask_for_capture()
    service.standin.add_fault("500_saved", path="/capture$", times=1)
    assert service.settle(capture) == ["captured"]
    assert service.captured(capture) == {1999: 1}
    keys = [post["key"].rpartition(":")[2] for post in service.posts("/capture")]
    assert keys == ["g1", "g1", "g2"]
    assert [record.state for record in service.records(capture)] == [RecordState.DISPROVED, RecordState.ANSWERED]


def test_a_500_that_had_its_effect_is_found_and_never_sent_under_a_new_key(service: Service) -> None:
    """[8]"""
    capture = service.ask_for_capture()
    service.standin.add_fault("500_with_effect", path="/capture$", times=1)
    assert service.settle(capture) == ["captured"]
    assert service.captured(capture) == {1999: 1}
    assert {post["key"] for post in service.posts("/capture")} == {service.record(capture).key}


def test_a_saved_lock_timeout_is_looked_at_when_it_is_replayed(service: Service) -> None:
    """[9]"""
    capture = service.ask_for_capture()
    service.standin.add_fault("429_lock_saved", path="/capture$", times=1)
    assert service.settle(capture) == ["captured"]
    assert service.captured(capture) == {1999: 1}
    assert [record.generation for record in service.records(capture)] == [1, 2]


def test_a_key_past_its_horizon_is_looked_at_and_never_sent_again(service: Service) -> None:
    """[11, 12]"""
    capture = service.ask_for_capture()
    service.standin.add_fault("drop_before", path="/capture$", times=1)
    service.plan()
    service.work_off()
    assert service.status(capture).state == "in_doubt"
    service.age(capture, 23 * 3600 + 60)
    assert service.settle(capture) == ["captured"]
    keys = [post["key"].rpartition(":")[2] for post in service.posts("/capture")]
    assert keys == ["g1", "g2"]


def test_a_key_past_its_horizon_whose_effect_happened_is_found(service: Service) -> None:
    """[11]"""
    capture = service.ask_for_capture()
    service.standin.add_fault("drop_after_commit", path="/capture$", times=1)
    service.plan()
    service.work_off()
    service.age(capture, 24 * 3600 + 60)
    service.standin.advance(24 * 3600 + 60)
    assert service.settle(capture) == ["captured"]
    assert service.captured(capture) == {1999: 1}
    assert len(service.posts("/capture")) == 1


@pytest.mark.parametrize(("fault", "ends"), [("401", "released"), ("403", "pulled")])
def test_a_refused_key_after_an_unanswered_send_concludes_nothing_and_stops_the_account(
    service: Service, fault: str, ends: str
) -> None:
    """[42, 43] A refused key is probed for; a missing permission would pass the probe, so a person releases it."""
    capture = service.ask_for_capture()
    service.standin.add_faults(
        [
            {"fault": "drop_after_commit", "path": "/capture$", "times": 1},
            {"fault": fault, "path": "/capture$", "times": 1},
            {"fault": fault, "path": "/account$", "times": 1},
        ]
    )
    assert service.settle(capture) == ["captured"], "a look concludes it, whatever the switch says"
    assert service.captured(capture) == {1999: 1}
    assert len({post["key"] for post in service.posts("/capture")}) == 1

    def switched() -> str:
        service.relay.round()
        service.work_off()
        with database.transaction(service.engine) as session:
            switch = session.scalars(select(Switch)).one()
        assert (switch.scope, switch.actor) == ("account:own", "billing")
        return switch.state

    eventually(lambda: switched() == ends, f"the switch is {ends}")
    assert (switched() == "released") == (ends == "released")


def test_a_rate_limited_capture_goes_on_with_the_same_key(service: Service) -> None:
    """[10]"""
    capture = service.ask_for_capture()
    service.standin.add_fault("429_rate", path="/capture$", times=3)
    assert service.settle(capture) == ["captured"]
    assert len({post["key"] for post in service.posts("/capture")}) == 1
    assert service.record(capture).unanswered == 1


def test_a_limiter_after_an_unanswered_send_leaves_it_in_doubt(service: Service) -> None:
    capture = service.ask_for_capture()
    service.standin.add_faults(
        [
            {"fault": "drop_after_commit", "path": "/capture$", "times": 1},
            {"fault": "429_rate", "path": "/capture$", "times": 1},
        ]
    )
    service.plan()
    service.work_off()
    assert service.settle(capture) == ["captured"]
    assert service.captured(capture) == {1999: 1}
    assert len(service.records(capture)) == 1


@pytest.mark.parametrize("fault", ["other_id", "other_livemode", "other_currency", "other_amount", "other_object"])
def test_an_answer_about_something_else_is_a_conflict_for_a_person(service: Service, fault: str) -> None:
    """[33, 39, 40]"""
    capture = service.ask_for_capture()
    service.standin.add_fault(fault, path="/capture$", times=1)
    service.plan()
    service.work_off()
    assert service.status(capture).state == "conflict"
    assert service.work(capture).state == WorkState.QUARANTINED
    service.relay.round()
    service.work_off()
    assert len(service.posts("/capture")) == 1


def test_an_answer_that_is_not_in_the_end_state_is_looked_at(service: Service) -> None:
    capture = service.ask_for_capture()
    service.standin.add_fault("not_end_state", path="/capture$", times=1)
    assert service.settle(capture) == ["captured"]
    assert service.captured(capture) == {1999: 1}
    assert len(service.posts("/capture")) == 1


def test_a_redirect_is_not_followed_and_not_believed(service: Service) -> None:
    capture = service.ask_for_capture()
    service.standin.add_fault("redirect_307", path="/capture$", times=1, location="http://127.0.0.1:9/stranger")
    assert service.settle(capture) == ["captured"]
    assert service.captured(capture) == {1999: 1}


def test_an_authorization_that_somebody_else_captured_is_success_without_a_second_capture(service: Service) -> None:
    """[29]"""
    capture = service.ask_for_capture(intent := service.intents()[0])
    service.by_hand(f"/v1/payment_intents/{intent}/capture")
    assert service.settle(capture) == ["captured"]
    assert service.status(capture).reason == "already_done"
    assert len(service.effects("capture", intent)) == 1


def test_more_than_is_authorized_is_refused_before_anything_is_sent(service: Service) -> None:
    """[32, 33]"""
    capture = service.ask_for_capture(amount=2000, authorization=None)
    assert service.settle(capture) == ["refused"]
    assert service.status(capture).reason == (
        "more_than_authorized: amount_capturable: expected at least 2000, found 1999"
    )
    assert service.posts("/capture") == []
