"""A database is set back while money has moved: nothing is repeated, and everything is known again."""

import os
from collections import Counter

import pytest
from command import Run
from service import Service, eventually
from set_back import Backup, pulled, start

import billing
from billing.states import WorkState
from billing.tables.entities import Capture, Invoice, Void

GAP = int(os.environ.get("BILLING_TEST_GAP", "60"))
"""Captures between the backup and its restore: a half of them archived, a half not. `make restore-drill` has 500."""


def ask_and_settle(service: Service, count: int) -> list[str]:
    captures = [service.ask_for_capture(intent) for intent in service.intents(count)]
    assert set(service.settle(*captures)) == {"captured"}
    service.plan()
    return captures


QUEUES = ("captures", "invoices")
"""Documents of what was made again are fetched again, by a queue of their own."""


def turn(service: Service) -> None:
    service.relay.round()
    for queue in QUEUES:
        service.work_off(queue)


def the_archive_goes_on(service: Service, run: Run) -> None:
    service.plan()
    assert run("archive", "run", "--once").status == 0
    assert run("archive", "verify").status == 0
    assert ask_and_settle(service, 1)


def test_what_moved_in_the_gap_is_known_again_and_nothing_is_repeated(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """[81] Of what happened after the backup, one half was archived, and the other half is only known at Stripe."""
    before = ask_and_settle(service, 2)
    invoice = service.ask_for_invoice()
    asked = {service.ask_for_capture() for _ in range(2)}
    service.plan()
    called = service.prepared(most=1)
    (under_way,), (waiting,) = called, asked - called.keys()
    assert run("archive", "run", "--once").status == 0
    backup.take()

    for call in called.values():
        service.report(call)
    assert set(service.settle(waiting, under_way, invoice)) == {"captured", "sent"}
    archived = ask_and_settle(service, GAP // 2)
    archived_invoice = service.ask_for_invoice()
    assert service.settle(archived_invoice) == ["sent"]
    service.plan()
    assert run("archive", "run", "--once").status == 0
    lost = ask_and_settle(service, GAP // 2)
    lost_invoice = service.ask_for_invoice()
    assert service.settle(lost_invoice) == ["sent"]
    # What somebody did to it since does not hide what we did.
    service.by_hand(f"/v1/invoices/{service.row(Invoice, lost_invoice).stripe_invoice}/void")
    taken = Counter(effect["id"] for effect in service.effects("capture"))
    sent = len(service.posts(""))

    backup.put_back()
    start()
    assert pulled(run) == [("everything", "billing")]
    # Workers look: what was under way is found at Stripe, and gets facts under numbers that are archived already.
    service.age(under_way, 1000)
    eventually(lambda: turn(service) or service.status(under_way).state == "captured", "it is looked at")
    assert run("archive", "run", "--once").status == 2
    assert "restored" in run("switch", "release", "everything", "--reason", "go on").err

    plan = run("recover", "--json")
    assert plan.status == 1
    assert plan.json["why"] == "another_database"
    assert len(plan.json["differences"]) >= GAP + 2
    assert run("recover", "--release", "--reason", "INC-17").status == 1
    done = run("recover", "--apply", "--reason", "INC-17", "--json")
    assert (done.status, done.json["differences"], done.err.count("facts are back") > 0) == (0, [], True), done.out
    assert pulled(run) == [("everything", "billing")]
    assert len(service.posts("")) == sent

    every = [*before, waiting, under_way, *archived, *lost]
    assert {service.row(Capture, each).state for each in every} == {"captured"}
    assert {service.row(Invoice, each).state for each in (invoice, archived_invoice, lost_invoice)} == {"sent"}
    released = run("recover", "--release", "--reason", "nothing differs, INC-17")
    assert released.status == 0, released.err
    assert pulled(run) == []
    eventually(lambda: turn(service) or set(service.states_of_work(*QUEUES)) == {WorkState.DONE}, "all work is done")
    assert Counter(effect["id"] for effect in service.effects("capture")) == taken
    assert len(service.posts("")) == sent
    for each in every:
        assert service.topics(each).count("captured") == 1
        assert sorted({fact.id for fact in service.facts(each)}) == [fact.id for fact in service.facts(each)]
    the_archive_goes_on(service, run)


def test_an_application_that_asked_again_before_the_recovery_is_told_which_of_the_two_stays(
    service: Service, run: Run, backup: Backup
) -> None:
    """Its new capture has the authorization that the forgotten one was taken from. It is discarded, and then the
    forgotten one is attached; nothing is taken twice."""
    backup.take()
    (intent,) = service.intents()
    forgotten = service.ask_for_capture(intent)
    assert service.settle(forgotten) == ["captured"]
    backup.put_back()
    again = service.ask_for_capture(intent)
    start()
    found = run("recover", "--apply", "--reason", "INC-17", "--json")
    assert found.status == 1
    ((named, what),) = [(each["operation_id"], each["what"]) for each in found.json["differences"]]
    assert (named, "another capture or void holds its authorization" in what) == (forgotten, True)
    assert run("recover", "--release", "--reason", "INC-17").status == 1
    service.plan()
    service.execute("UPDATE billing.work SET state = 'quarantined' WHERE entity_id = :id", id=again)
    assert run("quarantine", "discard", service.work(again).id, "--reason", "asked twice").status == 0
    assert run("recover", "--apply", "--reason", "INC-17").status == 0
    assert run("recover", "--release", "--reason", "INC-17").status == 0
    assert service.row(Capture, forgotten).state == "captured"
    assert service.captured(forgotten) == {1999: 1}


def test_voids_that_were_forgotten_are_known_again_and_none_is_sent_twice(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """[81] One is in the archive, one only at Stripe, and of one the request was known, and not the cancel."""
    known = service.ask_for_void()
    service.plan()
    backup.take()
    archived = service.ask_for_void()
    assert service.settle(known, archived) == ["voided", "voided"]
    service.plan()
    assert run("archive", "run", "--once").status == 0
    lost = service.ask_for_void(reason="fraudulent")
    assert service.settle(lost) == ["voided"]
    before = {each: service.row(Void, each) for each in (known, archived, lost)}
    canceled, sent = Counter(each["id"] for each in service.effects("payment_intent.canceled")), len(service.posts(""))

    backup.put_back()
    start()
    done = run("recover", "--apply", "--reason", "INC-18", "--json")
    assert (done.status, done.json["differences"]) == (0, []), done.out
    for each, was in before.items():
        row = service.row(Void, each)
        assert (row.state, row.payment_intent, row.held_minor) == ("voided", was.payment_intent, 1999)
        assert row.cancellation_reason == was.cancellation_reason
        assert service.topics(each).count("voided") == 1
    assert service.row(Void, archived).request_id == before[archived].request_id
    assert service.row(Void, lost).request_id == f"recovered:{lost}", "a cancel says nothing of it"
    assert run("recover", "--release", "--reason", "INC-18").status == 0
    eventually(lambda: turn(service) or set(service.states_of_work(*QUEUES)) == {WorkState.DONE}, "all work is done")
    assert Counter(each["id"] for each in service.effects("payment_intent.canceled")) == canceled
    assert len(service.posts("")) == sent
    with pytest.raises(billing.AuthorizationTaken, match=lost):
        service.ask_for_void(before[lost].payment_intent, request_id="asked-again")
    the_archive_goes_on(service, run)


def test_an_invoice_whose_draft_was_forgotten_goes_on_and_one_without_its_lines_ends(
    service: Service, run: Run, backup: Backup
) -> None:
    """The first was asked for before the backup, and its draft made after it. Of the second only a draft without lines
    exists, which nobody can pay: it is not made again."""
    known = service.ask_for_invoice()
    service.plan()
    backup.take()
    lost = service.ask_for_invoice()
    service.plan()
    for call in service.prepared("invoices", most=2).values():
        service.report(call)
    assert {service.status(each).state for each in (known, lost)} == {"drafted"}
    backup.put_back()
    start()
    applied = run("recover", "--apply", "--reason", "INC-17")
    assert applied.status == 0, applied.out
    assert service.row(Invoice, known).state == "drafted"
    assert run("recover", "--release", "--reason", "INC-17").status == 0
    assert service.settle(known) == ["sent"]
    assert len(service.effects("invoice.created")) == 2
    assert run("explain", lost).status == 2


def test_a_recovery_that_dies_is_run_again(service: Service, run: Run, bucket: None, backup: Backup) -> None:
    backup.take()
    captures = []
    for _ in range(3):
        captures += ask_and_settle(service, 2)
        assert run("archive", "run", "--once").status == 0
    backup.put_back()
    start()
    # It cannot write the last of them.
    service.execute(
        "ALTER TABLE billing.archive_batches ADD CONSTRAINT broken CHECK (class <> 'attempt' OR number < 2)"
    )
    assert run("recover", "--apply", "--reason", "INC-17").status != 0
    service.execute("ALTER TABLE billing.archive_batches DROP CONSTRAINT broken")
    assert run("recover", "--apply", "--reason", "INC-17").status == 0
    assert {service.row(Capture, each).state for each in captures} == {"captured"}
    assert [row["outcome"] for row in run("audit", "--json").json if row["command"] == "recover"] == ["done", "failed"]
    assert run("recover", "--release", "--reason", "INC-17").status == 0
    assert run("archive", "verify").status == 0
