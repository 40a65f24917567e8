"""Whatever fails keeps what is needed to judge it, at the moment at which it fails."""

import json
import random

import pytest
from service import Service, Through

from billing import database
from billing.gateway import Answer, Request
from billing.states import WorkState
from jobs.road import quarantine
from jobs.road.contracts import CONTRACTS_VERSION
from jobs.road.evidence import Failed, code_version
from jobs.road.runner import Runner

DELICATE = "anna@example.com 4242424242424242"
"""What the message of an exception may hold."""


def shown(service: Service, capture: str) -> quarantine.Shown:
    with database.transaction(service.engines["operator"]) as session:
        return quarantine.show(session, service.work(capture).id)


def failures(service: Service, capture: str) -> list[Failed]:
    return shown(service, capture).failures


def test_what_succeeds_keeps_nothing(service: Service) -> None:
    capture = service.ask_for_capture()
    assert service.settle(capture) == ["captured"]
    assert failures(service, capture) == []


def test_an_attempt_that_raised_keeps_the_chain_of_its_errors_without_their_messages(service: Service) -> None:
    """Also of the attempts before the one after which it is quarantined."""

    def breaks(request: Request) -> Answer | None:
        raise ValueError(DELICATE) from KeyError(DELICATE)

    capture = service.ask_for_capture()
    service.plan()
    service.execute("UPDATE billing.work SET attempts = 3")
    service.work_off(gateway=Through(service, before=breaks))
    service.execute("UPDATE billing.work SET attempts = 5, state = 'ready', due_at = NULL")
    service.work_off()
    attempt, *_, last = failures(service, capture)
    assert [error["kind"] for error in attempt.errors] == ["ValueError", "KeyError"]
    assert any("breaks" in place for place in attempt.errors[0]["at"])
    assert DELICATE not in json.dumps(attempt.errors)
    assert (attempt.quarantined, attempt.attempts) == (False, 4)
    assert (last.quarantined, last.attempts, last.reason) == (True, 5, service.work(capture).reason)
    assert (last.code_version, last.contracts_version) == (code_version(), CONTRACTS_VERSION)


def test_a_conflict_keeps_its_calls_as_they_stood_and_a_replay_does_not_change_them(service: Service) -> None:
    service.standin.add_fault("other_amount", path="/capture$", times=1)
    capture = service.ask_for_capture()
    service.plan()
    service.work_off()
    (kept,) = failures(service, capture)
    (call,) = kept.calls
    record = service.record(capture)
    assert kept.quarantined
    assert (call["step"], call["state"], call["learned"]) == ("capture", "conflict", record.learned)
    assert call["request_ids"] == record.request_ids != []
    service.replay(capture)
    assert service.settle(capture) == ["captured"]
    assert failures(service, capture) == [kept]


def test_an_answer_that_postgres_refuses_keeps_the_sqlstate_and_the_constraint(service: Service) -> None:
    capture = service.ask_for_capture()
    service.plan()
    service.execute(
        "ALTER TABLE billing.facts ADD CONSTRAINT refused CHECK (topic NOT IN ('capture.attempted')) NOT VALID"
    )
    service.work_off()
    assert service.work(capture).state == WorkState.QUARANTINED
    (kept,) = failures(service, capture)
    assert ("23514", "refused") in [(each.get("sqlstate"), each.get("constraint")) for each in kept.errors]
    assert [call["state"] for call in kept.calls] == ["unsettled"]


def poisoned() -> Exception:
    try:
        int(DELICATE)
    except ValueError as error:
        return error
    raise AssertionError


def test_work_that_cannot_be_prepared_keeps_where_it_failed(service: Service) -> None:
    capture = service.ask_for_capture()
    service.plan()
    runner = Runner(service.call_settings, random.Random(1))
    with database.transaction(service.engines["worker"]) as session:
        runner.set_aside(session, runner.claim(session, "captures", 1), poisoned())
    assert service.work(capture).state == WorkState.QUARANTINED
    (kept,) = failures(service, capture)
    assert [error["kind"] for error in kept.errors] == ["ValueError"]
    assert any("poisoned" in place for place in kept.errors[0]["at"])
    assert (kept.quarantined, kept.reason) == (True, "could not be prepared: ValueError")


@pytest.mark.parametrize("gone", ["operation", "evidence"])
def test_work_is_shown_with_whatever_is_left_of_it(service: Service, gone: str) -> None:
    """Another program wrote it for an operation that does not exist; or an older worker kept nothing."""
    capture = service.ask_for_capture()
    service.plan()
    if gone == "operation":
        service.execute("DELETE FROM billing.captures")
        service.work_off()
    else:
        service.execute("UPDATE billing.work SET state = 'quarantined', reason = 'as before'")
    found = shown(service, capture)
    assert found.work.entity_id == capture
    assert (found.explanation is None) == (gone == "operation")
    assert len(found.failures) == (gone == "operation")
