"""What whoever is on call asks and does: explain, the switches, the quarantine."""

import pytest

from billing import database
from billing.gateway import Budget, Request, boot_clock
from billing.states import RecordState, WorkState
from billing.tables.entities import Invoice
from jobs.cli import switches


def quarantine(service, capture_id: str, state: str | None = None) -> str:
    """As if machines had given up on it; with `state`, also on its last call. Returns the work's id."""
    service.execute(
        "UPDATE billing.work SET state = 'quarantined', reason = 'a test' WHERE entity_id = :id", id=capture_id
    )
    if state:
        service.execute(
            "UPDATE billing.idempotency_records SET state = :state, look_at = NULL, lease_until = NULL"
            " WHERE operation_id = :id AND generation = (SELECT max(generation) FROM billing.idempotency_records"
            "                                             WHERE operation_id = :id)",
            id=capture_id,
            state=state,
        )
    return str(service.work(capture_id).id)


def capture_behind_our_back(service, capture_id: str, intent: str) -> None:
    """The late success of a call that was thought to have done nothing."""
    body = f"amount_to_capture=1999&metadata[billing_operation]={capture_id}"
    request = Request("POST", f"/v1/payment_intents/{intent}/capture", body, key="late")
    service.gateway().send(request, Budget(boot_clock() + 5, boot_clock() + 10))


# Explain.


def test_a_captured_payment_is_explained_with_keys_request_ids_and_facts(run, service):
    (intent,) = service.intents()
    capture_id = service.ask_for_capture(intent)
    service.settle(capture_id)
    told = run("explain", capture_id)
    record = service.record(capture_id)
    for words in ("19.99 USD, captured", record.key, record.request_ids[0], "capture.captured: the money was taken"):
        assert words in told.out
    assert "next: nothing, this is final" in told.out
    assert "  authorized: 19.99 USD" in told.out
    by_intent, by_request, by_work, by_record = (
        run("explain", name, "--json").json for name in (intent, "order-1", service.work(capture_id).id, record.id)
    )
    assert by_intent["operations"] == by_request["operations"] == by_work["operations"] == by_record["operations"]
    (story,) = by_intent["operations"]
    assert story["status"]["id"] == capture_id
    assert story["calls"][0]["request_ids"] == record.request_ids
    assert [fact["version"] for fact in story["facts"]] == [1, 2, 3]


def test_an_invoice_is_found_by_the_id_that_stripe_gave_it(run, service):
    invoice_id = service.ask_for_invoice()
    service.settle(invoice_id)
    stripe_id = service.effects("invoice.sent")[0]["id"]
    (story,) = run("explain", stripe_id, "--json").json["operations"]
    assert story["status"]["id"] == invoice_id
    assert [call["step"] for call in story["calls"]] == ["create", "add_lines", "finalize", "send"]


def test_a_doubtful_payment_is_explained_with_what_happens_next(run, service):
    capture_id = service.ask_for_capture()
    service.standin.add_fault("drop_after_commit", path="/capture$", times=1)
    service.plan()
    service.work_off()
    told = run("explain", capture_id)
    assert "19.99 USD, in_doubt since" in told.out
    assert "next: a worker will claim it again at" in told.out
    assert "no_answer" in told.out


def test_of_several_captures_of_one_payment_the_newest_is_explained_first(run, service):
    (intent,) = service.intents()
    first = service.ask_for_capture(intent, amount=1998)
    service.standin.add_fault("402_declined", path="/capture$", times=1)
    assert service.settle(first) == ["declined"]
    second = service.ask_for_capture(intent)
    told = run("explain", intent)
    assert told.out.startswith(second)
    assert first in told.out


# Switches.


def test_who_has_no_name_here_is_asked_for_one(run, service, monkeypatch):
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    # As in a container that runs as a number which its system does not know.
    monkeypatch.setattr("os.getuid", lambda: 2_000_000_001)
    refused = run("switch", "pull", "captures", "--reason", "INC-12")
    assert (refused.status, refused.out) == (2, "")
    assert "--actor" in refused.err
    assert run("switch", "list", "--json").out.strip() == "[]"


def test_a_pulled_switch_holds_and_a_released_one_lets_go(run, service):
    told = run("switch", "pull", "captures", "--reason", "INC-12", "--actor", "grace", "--json").json
    assert (told["actor"], told["unanswered"], told["last_could_start_at"]) == ("grace", [], None)
    capture_id = service.ask_for_capture()
    service.relay.round()
    service.work_off()
    assert service.work(capture_id).state == WorkState.HELD
    assert "held" not in run("status", capture_id).out
    assert "nothing until the switch is released (captures: INC-12)" in run("status", capture_id).out
    assert [row["scope"] for row in run("switch", "list", "--json").json] == ["captures"]
    assert "INC-12" in run("switch", "list").out
    assert run("switch", "release", "captures", "--reason", "mended").status == 0
    assert service.settle(capture_id) == ["captured"]
    assert run("switch", "list").out == "no switch is pulled\n"


@pytest.fixture
def at_once(monkeypatch):
    """A receipt does not wait for calls in flight: nobody makes them here."""
    monkeypatch.setattr(switches, "WATCHED_S", 0.0)


def test_the_receipt_of_a_pulled_switch_lists_the_calls_in_flight(run, service, at_once):
    capture_id = service.ask_for_capture()
    invoice_id = service.ask_for_invoice()
    service.plan()
    prepare(service)
    told = run("switch", "pull", "captures", "--reason", "INC-12", "--json").json
    assert [call["operation_id"] for call in told["unanswered"]] == [capture_id]
    assert told["last_could_start_at"] < told["last_could_end_at"]
    told = run("switch", "pull", "everything", "--reason", "INC-12")
    assert capture_id in told.out
    assert invoice_id in told.out


def test_the_receipt_counts_what_is_in_flight_and_what_is_in_doubt_in_its_scope(run, service, at_once):
    service.standin.add_fault("drop_after_commit", path="/capture$", times=1)
    doubtful = service.ask_for_capture()
    service.plan()
    service.work_off()
    assert service.status(doubtful).state == "in_doubt"
    service.ask_for_invoice()
    service.plan()
    prepare(service, "invoices")
    told = run("switch", "pull", "captures", "--reason", "INC-12").out
    assert "no call is in flight\n" in told
    assert "1 call is in doubt; Stripe is asked, and nothing is sent" in told
    told = run("switch", "pull", "invoices", "--reason", "INC-12").out
    assert "1 call is in flight, prepared before; the last could start until" in told
    assert "no call is in doubt" in told
    for scope, counts in {"everything": (1, 1), "account:own": (1, 1), "account:acct_1": (0, 0)}.items():
        told = run("switch", "pull", scope, "--reason", "INC-12", "--json").json
        assert (told["in_flight"], told["in_doubt"]) == counts, scope


def test_the_receipt_counts_more_calls_than_it_lists(run, service, at_once, monkeypatch):
    from billing import switches

    monkeypatch.setattr(switches, "LISTED", 1)
    for _ in range(2):
        service.ask_for_capture()
    service.plan()
    prepare(service)
    told = run("switch", "pull", "captures", "--reason", "INC-12").out
    assert "2 calls are in flight" in told
    assert told.splitlines()[-3:-1] == ["  and 1 more", "no call is in doubt"]


def test_a_switch_that_was_pulled_before_stays_with_its_first_reason(run, service):
    assert "pulled before" not in run("switch", "pull", "captures", "--reason", "INC-12").out
    again = run("switch", "pull", "captures", "--reason", "INC-13")
    assert again.status == 0
    assert "it was pulled before, and keeps its first reason: INC-12" in again.out


def test_releasing_what_is_not_pulled_says_where_to_look(run, service):
    told = run("switch", "release", "captures", "--reason", "mended")
    assert told.status == 2
    assert told.err == "billing switch release: captures is not pulled; `billing switch list` shows what is\n"


def prepare(service, *queues: str) -> None:
    """A worker claims what is ready in both queues, and dies before it calls."""
    import random

    from jobs.road.runner import Runner

    for queue in queues or ("captures", "invoices"):
        with database.transaction(service.engine) as session:
            runner = Runner(service.call_settings, random.Random(1))
            runner.start(session, runner.claim(session, queue, 4))


# Quarantine.


def test_quarantined_work_is_listed_and_shown(run, service):
    assert run("quarantine", "list").out == "nothing is in quarantine\n"
    capture_id = service.ask_for_capture()
    service.plan()
    work_id = quarantine(service, capture_id)
    assert work_id in run("quarantine", "list").out
    assert [row["entity_id"] for row in run("quarantine", "list", "--json").json] == [capture_id]
    assert run("quarantine", "show", work_id).out.startswith(capture_id)
    assert run("quarantine", "show", work_id, "--json").json["status"]["id"] == capture_id


def test_an_undecided_call_is_not_in_quarantine_and_is_listed_apart(run, service):
    assert run("quarantine", "list", "--undecided").out == "no call is undecided\n"
    service.standin.add_fault("drop_after_commit", path="/capture$", times=1)
    capture_id = service.ask_for_capture()
    service.plan()
    service.work_off()
    service.execute("UPDATE billing.idempotency_records SET parked_at = now() WHERE operation_id = :id", id=capture_id)
    assert run("quarantine", "list").out == "nothing is in quarantine\n"
    assert capture_id in run("quarantine", "list", "--undecided").out
    (call,) = run("quarantine", "list", "--undecided", "--json").json
    assert (call["entity_id"], call["step"], call["generation"]) == (capture_id, "capture", 1)


def replay(run, work_id: str) -> list[str]:
    told = run("quarantine", "replay", work_id, "--reason", "INC-12", "--actor", "grace", "--json")
    assert told.status == 0, told.err
    return told.json["done"]


def test_work_that_used_up_its_attempts_starts_again(run, service):
    capture_id = service.ask_for_capture()
    service.plan()
    service.execute("UPDATE billing.work SET attempts = 5 WHERE entity_id = :id", id=capture_id)
    service.work_off()
    assert service.work(capture_id).state == WorkState.QUARANTINED
    assert replay(run, service.work(capture_id).id) == ["its attempts start again"]
    assert service.settle(capture_id) == ["captured"]
    fact = next(fact for fact in service.facts(capture_id) if fact.topic == "capture.replayed")
    assert (fact.actor, fact.payload["reason"]) == ("grace", "INC-12")


def test_an_answer_that_could_not_be_applied_is_looked_at_and_never_sent_again(run, service):
    (intent,) = service.intents()
    capture_id = service.ask_for_capture(intent)
    service.standin.add_fault("drop_after_commit", path="/capture$", times=1)
    service.plan()
    service.work_off()
    work_id = quarantine(service, capture_id, RecordState.UNSETTLED)
    sent = len(service.posts("/capture"))
    assert "never sent again" in replay(run, work_id)[0]
    assert service.settle(capture_id) == ["captured"]
    assert len(service.posts("/capture")) == sent
    assert service.captured(capture_id) == {1999: 1}


def test_a_conflict_that_stripe_does_not_confirm_is_resolved_by_looking(run, service):
    capture_id = service.ask_for_capture()
    service.standin.add_fault("other_amount", path="/capture$", times=1)
    service.plan()
    service.work_off()
    assert service.status(capture_id).state == "conflict"
    replay(run, service.work(capture_id).id)
    assert service.settle(capture_id) == ["captured"]
    assert len(service.posts("/capture")) == 1


def test_a_conflict_that_stripe_confirms_comes_back_to_quarantine(run, service):
    (intent,) = service.intents()
    capture_id = service.ask_for_capture(intent, amount=1500)
    capture_behind_our_back(service, capture_id, intent)
    service.plan()
    service.work_off()
    service.work_off()
    assert service.status(capture_id).state == "conflict"
    work_id = service.work(capture_id).id
    replay(run, work_id)
    service.work_off()
    service.work_off()
    assert service.status(capture_id).state == "conflict"
    assert service.work(capture_id).state == WorkState.QUARANTINED
    assert len(service.posts("/capture")) == 2


def test_a_late_success_of_a_disproved_key_becomes_history_once_a_later_key_succeeded(run, service):
    capture_id = service.ask_for_capture()
    service.standin.add_fault("500_saved", path="/capture$", times=1)
    service.settle(capture_id)
    service.execute(
        "UPDATE billing.idempotency_records SET state = 'conflict' WHERE operation_id = :id AND generation = 1",
        id=capture_id,
    )
    assert service.status(capture_id).state == "conflict"
    done = replay(run, quarantine(service, capture_id))
    assert done == ["capture g1 is history: the capture stays captured"]
    assert service.settle(capture_id) == ["captured"]
    assert [record.state for record in service.records(capture_id)] == ["disproved", "answered"]


def test_a_late_success_after_a_refusal_is_looked_at_and_believed(run, service):
    (intent,) = service.intents()
    capture_id = service.ask_for_capture(intent)
    service.standin.add_fault("402_declined", path="/capture$", times=1)
    assert service.settle(capture_id) == ["declined"]
    capture_behind_our_back(service, capture_id, intent)
    done = replay(run, quarantine(service, capture_id, RecordState.CONFLICT))
    assert "whether the money moved after all" in done[0]
    assert service.settle(capture_id) == ["captured"]


def test_a_late_success_is_not_replayed_when_another_capture_holds_the_authorization(run, service):
    (intent,) = service.intents()
    capture_id = service.ask_for_capture(intent)
    service.standin.add_fault("402_declined", path="/capture$", times=1)
    assert service.settle(capture_id) == ["declined"]
    second = service.ask_for_capture(intent)
    told = run("quarantine", "replay", quarantine(service, capture_id, RecordState.CONFLICT), "--reason", "INC-12")
    assert told.status == 2
    assert second in told.err
    assert service.status(capture_id).state == "conflict"


def test_work_whose_call_may_be_in_flight_is_not_replayed(run, service):
    capture_id = service.ask_for_capture()
    service.plan()
    prepare(service)
    service.execute("UPDATE billing.work SET state = 'quarantined' WHERE entity_id = :id", id=capture_id)
    told = run("quarantine", "replay", service.work(capture_id).id, "--reason", "INC-12")
    assert told.status == 2
    assert "in flight" in told.err


def test_work_that_is_not_quarantined_is_not_replayed(run, service):
    capture_id = service.ask_for_capture()
    service.settle(capture_id)
    told = run("quarantine", "replay", service.work(capture_id).id, "--reason", "INC-12")
    assert told.status == 2
    assert "done, not quarantined" in told.err


def test_a_refused_invoice_is_made_again_under_a_new_key(run, service):
    invoice_id = service.ask_for_invoice()
    service.standin.add_fault("other_amount", path="/add_lines$", times=1)
    assert service.settle(invoice_id) == ["refused"]
    told = run("invoice", "reopen", invoice_id, "--reason", "tax is off now", "--actor", "grace")
    assert told.status == 0, told.err
    assert service.settle(invoice_id) == ["sent"]
    assert len(service.effects("invoice.finalized")) == 1
    created = [record.generation for record in service.records(invoice_id) if record.step == "create"]
    assert len(created) == 2
    again = run("invoice", "reopen", invoice_id, "--reason", "tax is off now")
    assert again.status == 2
    assert "is sent, not refused" in again.err


def test_a_refused_invoice_is_found_by_its_request_id_and_a_capture_is_not_made_again(run, service):
    invoice_id = service.ask_for_invoice()
    service.standin.add_fault("other_amount", path="/add_lines$", times=1)
    assert service.settle(invoice_id) == ["refused"]
    told = run("invoice", "reopen", service.row(Invoice, invoice_id).request_id, "--reason", "tax is off now")
    assert told.out.startswith(f"{invoice_id} is reopened")
    capture_id = service.ask_for_capture()
    told = run("invoice", "reopen", capture_id, "--reason", "x")
    assert told.status == 2
    assert "only an invoice is made again" in told.err


@pytest.mark.parametrize("reason", ["", "x" * 501, "two\x1blines"])
def test_a_replay_without_a_proper_reason_changes_nothing(run, service, reason):
    capture_id = service.ask_for_capture()
    service.plan()
    work_id = quarantine(service, capture_id)
    assert run("quarantine", "replay", work_id, "--reason", reason).status == 2
    assert service.work(capture_id).state == WorkState.QUARANTINED


# Retries.


def test_what_is_tried_again_is_shown_with_what_happens_next(run, service):
    assert run("retries").out == "all work is done; nothing waits\n"
    capture_id = service.ask_for_capture()
    service.standin.add_fault("drop_after_commit", path="/capture$", times=1)
    service.plan()
    service.work_off()
    told = run("retries", "--contract", "take_capture:1")
    assert told.status == 0
    for words in (
        "take_capture:1: 1 waiting",
        "attempts: 1 with 0",
        "next due",
        "network timeout",
        "the same bytes again",
    ):
        assert words in told.out
    assert service.settle(capture_id) == ["captured"]
    assert run("retries").out == "all work is done; nothing waits\n"
