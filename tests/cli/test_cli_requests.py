"""Asking from a shell is the same as asking from an application: once, and with the same answers."""

import pytest
from cases import case
from sqlalchemy import select

from billing import database
from billing.tables.entities import InvoiceLine


@pytest.fixture
def ask(run, service):
    intent = service.intents()[0]

    def ask(*more: str, amount: str = "1999"):
        base = ("capture", "--payment-intent", intent, "--amount-minor", amount, "--currency", "usd")
        return run(*base, "--request-id", "order-1", *more)

    return ask


def test_a_capture_is_asked_for_once_and_its_status_follows(ask, run, service):
    first = ask("--json").json
    assert first["state"] == "requested"
    assert first["next"] == "a relay plans the work"
    assert ask("--json").json["id"] == first["id"]
    assert "asked for before" in ask().out
    service.settle(first["id"])
    told = run("status", "order-1", "--wait")
    assert told.status == 0
    assert f"{first['id']}: captured, since " in told.out
    assert service.captured(first["id"]) == {1999: 1}


def test_an_order_number_with_a_cards_digits_is_asked_for_with_one_line_of_warning(run_apart, service):
    base = ("capture", "--payment-intent", service.intents()[0], "--amount", "1999", "--currency", "usd", "--json")
    ran = run_apart(*base, "--request-id", "4539148803436467")
    assert (ran.status, ran.json["state"]) == (0, "requested")
    (line,) = ran.err.splitlines()
    assert line.startswith("billing: warning: --request-id may be a card number: ")
    assert "4539" not in line


def test_the_fact_names_who_asked(ask, service, monkeypatch):
    monkeypatch.setenv("LOGNAME", "grace")
    capture_id = ask("--json").json["id"]
    assert service.facts(capture_id)[0].actor == "shell:grace"


def test_the_same_request_with_another_amount_is_refused(ask):
    ask()
    again = ask(amount="2000")
    assert again.status == 2
    assert "first 1999, now 2000" in again.err


def test_a_part_is_asked_for_with_its_terms_and_explained(ask, run, service):
    asked = ask("--remainder", "keep", "--application-fee", "50", "--metadata", "order=42", "--json", amount="500")
    assert asked.status == 0, asked.err
    request = run("explain", asked.json["id"], "--json").json["operations"][0]["request"]
    assert {name: request[name] for name in ("capture_no", "remainder", "application_fee_minor", "transfer_minor")} == {
        "capture_no": 1,
        "remainder": "keep",
        "application_fee_minor": 50,
        "transfer_minor": None,
    }
    assert "42" not in str(request.get("callers_metadata", ""))


WRONG_TERMS = [
    (("--remainder", "kept"), "--remainder must be 'release'"),
    (("--application-fee", "5", "--transfer", "5"), "--application-fee and transfer exclude each other"),
    (("--application-fee", "2000"), "--application-fee 20.00 USD is more than the 19.99 USD"),
    (("--application-fee", "1.50"), "is in minor units"),
    (("--metadata", "order"), "--metadata 1 is not KEY=VALUE"),
    (("--metadata", "billing_x=1"), "must not begin with billing_"),
    (("--statement-descriptor", "SHOP"), "--statement-descriptor must be 5 to 22"),
]


def test_a_wrong_term_is_refused_in_one_line_that_names_its_option(ask, service):
    for options, line in WRONG_TERMS:
        with case(*options):
            told = ask(*options)
            assert (told.status, line in " ".join(told.err.split())) == (2, True), told.err
            assert service.states_of_work() == {}


def test_waiting_for_a_capture_that_is_refused_ends_with_status_1(ask, run, service):
    service.gateway()
    asked = ask("--json", amount="99999")
    assert asked.status == 0, asked.err
    capture_id = asked.json["id"]
    assert service.settle(capture_id) == ["refused"]
    told = run("status", capture_id, "--wait", "--json")
    assert told.status == 1
    assert told.json["reason"].startswith("more_than_authorized: amount_capturable: ")


def test_waiting_gives_up_and_says_what_is_missing(ask, run, service):
    ask()
    told = run("status", "order-1", "--wait", "--timeout", "0.3")
    assert told.status == 1
    last = told.err.splitlines()[-1]
    assert last == "not final after 0.3 s; next: a relay plans the work; is a relay running?"
    service.plan()
    told = run("status", "order-1", "--wait", "--timeout", "0")
    assert told.err.splitlines()[-1] == "not final after 0 s; next: a worker will claim it; is a worker running?"


def test_waiting_ends_at_once_where_a_person_has_to_act(ask, run, service):
    capture_id = ask("--json").json["id"]
    run("switch", "pull", "captures", "--reason", "INC-12")
    service.plan()
    service.work_off()
    held = run("status", capture_id, "--wait")
    assert held.status == 1
    assert "waiting does not help; next: nothing until the switch is released (captures: INC-12)" in held.err
    service.execute("UPDATE billing.work SET state = 'quarantined', reason = 'a test'")
    quarantined = run("status", capture_id, "--wait")
    assert quarantined.status == 1
    assert "next: needs a decision (a test)" in quarantined.err


def test_waiting_for_a_conflict_ends_at_once(ask, run, service):
    capture_id = ask("--json").json["id"]
    service.standin.add_fault("other_amount", path="/capture$", times=1)
    service.plan()
    service.work_off()
    service.work_off()
    told = run("status", capture_id, "--wait", "--json")
    assert told.status == 1
    assert told.json["state"] == "conflict"
    assert "needs a decision" in told.err


def test_a_void_is_asked_for_once_and_excludes_a_capture(ask, run, service):
    (intent,) = service.intents()
    base = ("void", "--payment-intent", intent, "--request-id", "order-2-canceled")
    first = run(*base, "--reason", "duplicate", "--json").json
    assert "asked for before" in run(*base, "--reason", "duplicate").out
    assert service.settle(first["id"]) == ["voided"]
    told = run("status", "order-2-canceled", "--wait")
    assert (told.status, f"{first['id']}: voided, since " in told.out) == (0, True)
    unknown = run(*base, "--reason", "because")
    assert unknown.status == 2
    assert "--reason must be one of duplicate, fraudulent, requested_by_customer, abandoned" in unknown.err
    late = ("capture", "--payment-intent", intent, "--amount", "1999", "--currency", "usd", "--request-id", "order-2")
    refused = run(*late)
    assert refused.status == 2
    assert f"already belongs to {first['id']}; it is given back" in refused.err


def test_an_invoice_is_issued_with_its_lines(run, service):
    base = ("invoice", "issue", "--customer", service.customer(), "--line", "3 seats = 20=4500", "--line", "fee=1")
    told = run(*base, "--currency", "EUR", "--days-until-due", "14", "--request-id", "sub-7", "--json")
    assert told.status == 0
    invoice_id = told.json["id"]
    assert service.settle(invoice_id) == ["sent"]
    assert [effect["amount"] for effect in service.effects("invoice.sent")] == [4501]
    (story,) = run("explain", "sub-7", "--json").json["operations"]
    assert story["request"]["lines"] == [4500, 1]
    with database.transaction(service.engine) as session:
        lines = session.scalars(select(InvoiceLine).order_by(InvoiceLine.position))
        assert [line.description for line in lines] == ["3 seats = 20", "fee"]


def test_a_line_without_an_amount_is_a_matter_of_usage(run):
    base = ("invoice", "issue", "--customer", "cus_1", "--line", "3 seats", "--currency", "EUR")
    told = run(*base, "--days-until-due", "14", "--request-id", "r")
    assert told.status == 2
    assert "--line" in told.err
