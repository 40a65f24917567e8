"""`billing email`: asking for one, seeing one without sending it, and listing those that were not sent."""

import json
from pathlib import Path

import pytest
from command import Run
from mail_server import MailServer
from mailing import ask_for_email, certificate, mail, mailing, time_passes, turn
from service import Service

from billing.tables.entities import Invoice

__all__ = ["certificate", "mail"]


@pytest.fixture
def data(tmp_path: Path) -> str:
    file = tmp_path / "refund.json"
    file.write_text(json.dumps({"amount": {"minor": 1999, "currency": "EUR"}, "date": "2026-11-30"}))
    return str(file)


def test_an_email_is_asked_for_once_and_its_status_is_shown(
    run: Run, service: Service, data: str, mail: MailServer
) -> None:
    words = ("email", "send", "refund_made", "--to", service.customer(), "--data", data, "--request-id", "refund-1")
    asked = run(*words, "--actor", "anna")
    assert asked.status == 0, asked.err
    email = asked.out.partition(":")[0]
    assert "refund_made to cus_" in asked.out
    assert "asked for before" in run(*words, "--actor", "anna").out
    assert run(*words, "--actor", "anna", "--json").json["id"] == email
    assert service.settle(email, gateway=mailing(service, mail)) == ["sent"]
    assert f"{email}: sent" in run("status", email).out
    explained = run("explain", "refund-1")
    assert (explained.status, "4XyZ1" in explained.out, "test@example.com" in explained.out) == (0, True, False)


@pytest.mark.parametrize(
    ("content", "to", "complaint"),
    [
        ("no json", "cus_1", "the file holds no JSON"),
        ('{"name": "Anna Muster"}', "cus_1", "data: name must be Money"),
        ("{}", "anna@example.org", "--to must be an id"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_one_line(
    run: Run, service: Service, tmp_path: Path, content: str, to: str, complaint: str
) -> None:
    file = tmp_path / "data.json"
    file.write_text(content)
    refused = run(
        "email", "send", "refund_made", "--to", to, "--data", str(file), "--request-id", "r-1", "--actor", "a"
    )
    assert refused.status != 0
    assert complaint in refused.err.replace("\n", " "), refused.err
    assert "Muster" not in refused.err
    assert run("email", "list", "--state", "requested").out == "no e-mail is requested\n"


def test_a_preview_is_a_file_and_sends_nothing(run: Run, service: Service, data: str, tmp_path: Path) -> None:
    page, text = tmp_path / "out.html", tmp_path / "out.txt"
    words = ("email", "preview", "refund_made", "--data", data, "--locale", "ar")
    made = run(*words, "--name", "<b>Anna</b>", "--to-file", str(page))
    assert made.status == 0, made.err
    assert str(page) in made.out
    assert 'dir="rtl"' in page.read_text()
    assert "&lt;b&gt;Anna" in page.read_text()
    shown = run(*words, "--to-file", str(text), "--json").json
    assert (shown["locale"], "<html" in text.read_text()) == ("ar", False)
    absent = run("email", "preview", "absent", "--data", data, "--to-file", str(page))
    assert "There are: capture_receipt, invoice, invoice_sent, refund_made" in absent.err.replace("\n", " ")
    assert "--to-file " in run(*words, "--to-file", str(tmp_path / "no" / "where.html")).err


def test_the_e_mail_of_an_invoice_at_stripe_is_previewed_as_its_customer_would_get_it(
    run: Run, service: Service, tmp_path: Path
) -> None:
    invoice = service.ask_for_invoice()
    assert service.settle(invoice) == ["sent"]
    at_stripe = str(service.row(Invoice, invoice).stripe_invoice)
    page = tmp_path / "out.html"
    words = ("email", "preview", "invoice", "--to-file", str(page))
    made = run(*words, "--of", at_stripe)
    assert made.status == 0, made.err
    assert "3 seats" in page.read_text()
    assert service.row(Invoice, invoice).number in page.read_text()
    for wrong in ("in_absent", "inv_1", "in_1/../../v1/balance"):
        refused = run(*words, "--of", wrong)
        assert (refused.status, "--of: no_such_invoice" in refused.err.replace("\n", " ")) == (2, True), refused.err
    assert "not both" in run(*words, "--of", at_stripe, "--invoice", str(page)).err


def test_refused_emails_are_listed_as_tasks(run: Run, service: Service, mail: MailServer) -> None:
    email = ask_for_email(service, service.by_hand("/v1/customers", "name=Nobody"))
    assert service.settle(email, gateway=mailing(service, mail)) == ["refused"]
    listed = run("email", "list")
    assert f"{email}  refund_made to cus_" in listed.out
    assert "(no_address)" in listed.out
    (shown,) = run("email", "list", "--json").json
    assert (shown["id"], shown["state"], shown["reason"]) == (email, "refused", "no_address")
    assert run("email", "list", "--state", "sent", "--json").json == []
    assert "--state must be one of" in run("email", "list", "--state", "lost").err
    assert "under a new request id" in run("explain", email).out


def test_a_replay_is_planned_without_a_mail_server_and_carried_out_with_one(
    run: Run, service: Service, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    email = ask_for_email(service, service.by_hand("/v1/customers", "name=Anna+Muster&email=anna%40example.org"))
    service.plan()
    service.execute("UPDATE billing.work SET attempts = 5 WHERE entity_id = :id", id=email)
    service.work_off("emails")
    replay = ("quarantine", "replay", service.work(email).id, "--reason", "INC-12", "--actor", "ada")
    monkeypatch.setenv("DATABASE_URL", f"{service.url}?options=-c%20role%3Dbilling_worker")
    plan = run(*replay, "--dry-run", "--json").json
    assert (plan["call"]["method"], plan["call"]["path"]) == ("MAIL", "/email/refund_made")
    assert plan["call"]["parameters"]["to"].startswith("cus_")
    shown = run(*replay, "--dry-run")
    assert "call    MAIL /email/refund_made" in shown.out, shown.err
    for told in (shown.out, json.dumps(plan)):
        assert "anna@" not in told
        assert "Muster" not in told
    assert run(*replay, "--approve", plan["id"]).status != 0
    assert (service.status(email).state, mail.received) == ("requested", [])
    monkeypatch.setenv("BILLING_EMAIL_SERVER", mail.url)
    monkeypatch.setenv("BILLING_EMAIL_FROM", "Shop <billing@example.com>")
    done = run(*replay, "--approve", plan["id"])
    assert (done.status, len(mail.of(email))) == (0, 1), done.err
    assert f"{email} is sent" in done.out


def test_an_operator_concludes_an_undecided_email_by_command(run: Run, service: Service, mail: MailServer) -> None:
    email, gateway = ask_for_email(service), mailing(service, mail)
    mail.drop = "DATA"
    turn(service, gateway)
    for _ in range(2):
        time_passes(service, email)
        turn(service, gateway)
    assert email in run("quarantine", "list", "--undecided").out
    words = ("quarantine", "conclude", email, "--reason", "its log, 02:14", "--actor", "anna")
    done = run(*words, "--it-happened")
    assert (done.status, f"{email} is sent" in done.out) == (0, True), done.err
    assert service.status(email).state == "sent"
    assert run(*words).status != 0


def test_the_receipt_of_a_capture_or_a_refund_is_previewed_by_its_id(
    run: Run, service: Service, tmp_path: Path
) -> None:
    capture = service.captured_one()
    refund = service.ask_for_refund(capture)
    page = tmp_path / "page.txt"
    for template, of, shown in (("capture_receipt", capture, "$19.99"), ("refund_made", refund, "$5.00")):
        ran = run("email", "preview", template, "--of", of, "--locale", "en", "--to-file", str(page))
        assert ran.status == 0, ran.err
        assert shown in page.read_text()
    unknown = run("email", "preview", "capture_receipt", "--of", "cap_unknown1", "--to-file", str(page))
    assert unknown.status == 2
    assert "cap_unknown1" in unknown.err
