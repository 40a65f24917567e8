"""A database is set back while e-mails were sent: none is sent again, and what the archive knows is known."""

from dataclasses import replace

import pytest
from command import Run
from mail_server import MailServer
from mailing import ask_for_email, certificate, mail, mailing
from service import Service, eventually
from set_back import Backup, start
from sqlalchemy import select

from billing import database
from billing.states import WorkState
from billing.tables.entities import Email

__all__ = ["certificate", "mail"]


def test_an_email_is_never_sent_again_by_a_recovery(
    service: Service, run: Run, bucket: None, backup: Backup, mail: MailServer
) -> None:
    gateway, customer = mailing(service, mail), service.customer()

    def sent(**more: str) -> str:
        email = ask_for_email(service, customer, **more)
        assert service.settle(email, gateway=gateway) == ["sent"]
        return email

    kept = sent()
    # The first waits in the backup, and is sent after it; so is one that only the archive knows.
    waiting = ask_for_email(service, customer)
    service.plan()
    assert run("archive", "run", "--once").status == 0
    backup.take()
    assert service.settle(waiting, gateway=gateway) == ["sent"]
    lost_here = ask_for_email(service, customer, request_id="known-later")
    assert service.settle(lost_here, gateway=gateway) == ["sent"]
    asked = ask_for_email(service, customer)
    service.plan()
    assert run("archive", "run", "--once").status == 0
    in_the_gap = sent()
    unarchived = ask_for_email(service, customer)
    count = len(mail.received)

    backup.put_back()
    start()
    compared = run("recover", "--json")
    assert compared.status != 0
    done = run("recover", "--apply", "--reason", "INC-17", "--json")
    assert (done.status, done.json["differences"]) == (0, []), done.out
    assert run("recover", "--release", "--reason", "nothing differs, INC-17").status == 0

    def turn() -> bool:
        service.relay.round()
        service.work_off("emails", gateway)
        return set(service.states_of_work()) == {WorkState.DONE}

    eventually(turn, "all work is done")
    assert len(mail.received) == count
    known = {
        each: (service.row(Email, each).state, service.row(Email, each).reason)
        for each in (kept, waiting, lost_here, asked)
    }
    assert known == {
        kept: ("sent", None),
        waiting: ("sent", None),
        lost_here: ("sent", None),
        asked: ("refused", "restored"),
    }
    # An application that asks again gets the receipt of the first.
    assert ask_for_email(service, customer, request_id="known-later") == lost_here
    del in_the_gap, unarchived


def test_without_an_archive_what_waits_in_the_backup_is_refused_and_not_sent(
    service: Service, run: Run, backup: Backup, mail: MailServer
) -> None:
    gateway = mailing(service, mail)
    email = ask_for_email(service)
    service.plan()
    backup.take()
    assert service.settle(email, gateway=gateway) == ["sent"]
    backup.put_back()
    start()
    compared = run("recover", "--json")
    assert [each["operation_id"] for each in compared.json["differences"]] == [email]
    assert run("recover", "--release", "--reason", "too early").status != 0
    assert run("recover", "--apply", "--reason", "INC-17").status == 0
    assert run("recover", "--release", "--reason", "INC-17").status == 0
    assert service.settle(email, gateway=gateway) == ["refused"]
    assert service.status(email).reason == "restored"
    assert len(mail.received) == 1
    # One that is asked for afterwards is sent.
    assert service.settle(ask_for_email(service), gateway=gateway) == ["sent"]


@pytest.mark.parametrize("known", [True, False], ids=["asked-for-before", "asked-for-after"])
def test_the_email_of_an_invoice_that_was_finalized_after_the_backup_is_not_sent_again(
    service: Service, run: Run, backup: Backup, mail: MailServer, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setenv("BILLING_INVOICE_EMAILS", "own")
    service.call_settings = replace(service.call_settings, mails_invoices=lambda _account: True)
    service.settle(service.ask_for_capture())
    gateway, invoice = mailing(service, mail), service.ask_for_invoice() if known else ""
    service.plan()
    backup.take()
    invoice = invoice or service.ask_for_invoice()
    assert service.settle(invoice) == ["sent"]
    email = _email_of(service, invoice)
    assert service.settle(email, gateway=gateway) == ["sent"]
    assert len(mail.received) == 1
    backup.put_back()
    start()
    service.relay.round()
    service.work_off("invoices")
    service.work_off("emails", gateway)
    for _ in range(2):
        run("recover", "--apply", "--reason", "INC-17")
    compared = run("recover", "--json")
    assert compared.json["differences"] == [], compared.out
    assert run("recover", "--release", "--reason", "INC-17").status == 0

    def turn() -> bool:
        service.relay.round()
        for queue in ("invoices", "emails"):
            service.work_off(queue, gateway if queue == "emails" else None)
        return set(service.states_of_work()) == {WorkState.DONE}

    eventually(turn, "all work is done")
    assert len(mail.received) == 1
    assert service.posts("/send") == []
    assert service.status(invoice).state == "sent"
    assert service.status(_email_of(service, invoice)).reason == "restored"


def test_the_receipt_of_a_capture_that_was_taken_after_the_backup_is_not_sent_again(
    service: Service, run: Run, backup: Backup, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLING_RECEIPT_EMAILS", "own")
    service.call_settings = replace(service.call_settings, mails_receipts=lambda _account: True)
    gateway, customer = mailing(service, mail), service.customer()
    service.settle(service.captured_one())
    capture = service.ask_for_capture(service.intents(customer=customer)[0])
    service.plan()
    backup.take()
    assert service.settle(capture) == ["captured"]
    assert service.settle(_receipt_of(service, capture), gateway=gateway) == ["sent"]
    assert len(mail.received) == 1
    backup.put_back()
    start()
    for _ in range(2):
        run("recover", "--apply", "--reason", "INC-17")
    compared = run("recover", "--json")
    assert compared.json["differences"] == [], compared.out
    assert run("recover", "--release", "--reason", "INC-17").status == 0

    def turn() -> bool:
        service.relay.round()
        for queue in ("captures", "emails"):
            service.work_off(queue, gateway if queue == "emails" else None)
        return set(service.states_of_work()) == {WorkState.DONE}

    eventually(turn, "all work is done")
    assert len(mail.received) == 1
    assert service.status(capture).state == "captured"
    assert service.status(_receipt_of(service, capture)).reason == "restored"


def _receipt_of(service: Service, capture: str) -> str:
    with database.transaction(service.engine) as session:
        return str(session.scalars(select(Email.id).where(Email.request_id == f"{capture}:receipt")).one())


def _email_of(service: Service, invoice: str) -> str:
    with database.transaction(service.engine) as session:
        return str(session.scalars(select(Email.id).where(Email.request_id == f"{invoice}:invoice_email")).one())
