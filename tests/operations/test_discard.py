"""An operator ends work for which nothing was sent, and no other."""

import pytest
from service import Service

from billing.errors import InvalidRequest
from billing.gateway import NoAnswer, NotSent
from billing.states import WorkState


def quarantined(service: Service, *ids: str) -> None:
    service.execute("UPDATE billing.work SET state = 'quarantined', reason = 'a test', due_at = NULL")
    assert {service.work(each).state for each in ids} == {WorkState.QUARANTINED}


def refuses(service: Service, operation: str, why: str) -> None:
    """To discard it is refused, and nothing of it has changed."""
    before = service.topics(operation), [record.state for record in service.records(operation)]
    with pytest.raises(InvalidRequest, match=why):
        service.discard(operation)
    assert (service.topics(operation), [record.state for record in service.records(operation)]) == before
    assert service.work(operation).state == WorkState.QUARANTINED


def test_a_discarded_capture_is_refused_with_actor_and_reason_and_its_authorization_is_free_again(
    service: Service,
) -> None:
    (intent,) = service.intents()
    capture = service.ask_for_capture(intent)
    service.plan()
    quarantined(service, capture)
    service.discard(capture)
    status = service.status(capture)
    assert (status.state, status.reason, status.final) == ("refused", "discarded", True)
    assert (service.work(capture).state, service.work(capture).reason) == (WorkState.DONE, "discarded by anna")
    assert status.since == service.work(capture).state_since
    (fact,) = [fact for fact in service.facts(capture) if fact.topic == "capture.refused"]
    assert fact.actor == "anna"
    assert fact.payload == {
        "why": "discarded",
        "reason": "ordered twice",
        "work_id": service.work(capture).id,
        "minor": 1999,
        "currency": "USD",
        "account": "own",
    }
    again = service.ask_for_capture(intent)
    assert service.settle(again) == ["captured"]
    assert service.captured(again) == {1999: 1}
    assert service.status(capture).state == "refused"


@pytest.mark.parametrize("state", ["in_doubt", "conflict", "unsettled", "sent"])
def test_a_call_that_may_have_moved_money_is_not_discarded(service: Service, state: str) -> None:
    service.standin.add_fault("drop_after_commit", path="/capture$", times=1)
    capture = service.ask_for_capture()
    service.plan()
    service.work_off()
    service.execute("UPDATE billing.idempotency_records SET state = :state WHERE concluded_at IS NULL", state=state)
    quarantined(service, capture)
    refuses(service, capture, "may have done something")


@pytest.mark.parametrize(
    "still_out", ["unreported = 1", "unanswered = 1", "lease_until = now() - interval '1 day', lease_s = 3"]
)
def test_a_call_that_a_sleeping_process_may_still_send_or_report_is_not_discarded(
    service: Service, still_out: str
) -> None:
    capture = service.ask_for_capture()
    service.plan()
    service.report(service.prepared()[capture], NotSent("too late"))
    service.execute(f"UPDATE billing.idempotency_records SET {still_out}")
    quarantined(service, capture)
    refuses(service, capture, "capture g1 is planned")


def test_a_capture_that_a_look_in_quarantine_proved_absent_can_be_discarded(service: Service) -> None:
    capture = service.ask_for_capture()
    service.plan()
    service.report(service.prepared()[capture], NoAnswer("lost"))
    quarantined(service, capture)
    refuses(service, capture, "capture g1 is in_doubt")
    service.age(capture, 25 * 3600)
    service.execute("UPDATE billing.idempotency_records SET look_at = clock_timestamp()")
    service.work_off()
    assert [record.state for record in service.records(capture)] == ["disproved", "planned"]
    service.discard(capture)
    assert [record.conclusion for record in service.records(capture)] == ["absent", "discarded"]
    assert service.status(capture).state == "refused"
    assert service.posts("/capture") == []


def test_an_invoice_with_a_draft_is_not_discarded_and_one_without_can_be_reopened(service: Service) -> None:
    drafted, untouched = service.ask_for_invoice(), service.ask_for_invoice()
    service.plan()
    calls = service.prepared("invoices", 2)
    service.report(calls[drafted])
    service.report(calls[untouched], NotSent("too late"))
    quarantined(service, drafted, untouched)
    refuses(service, drafted, "is drafted")
    service.discard(untouched)
    assert service.status(untouched).state == "refused"
    service.reopen(untouched)
    assert service.settle(untouched) == ["sent"]


def test_what_has_ended_is_not_discarded(service: Service) -> None:
    capture = service.ask_for_capture()
    assert service.settle(capture) == ["captured"]
    quarantined(service, capture)
    refuses(service, capture, "is captured")
