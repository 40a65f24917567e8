"""A worker that dies around the finalizing of an invoice: its e-mail is begun once, and sent once."""

from dataclasses import replace
from itertools import product

import pytest
from mail_server import MailServer
from mailing import certificate, mail, mailing
from service import Service
from sqlalchemy import select
from worker import KILLED, fork_worker, reap

from billing import database
from billing.tables.entities import Email

__all__ = ["certificate", "mail"]


@pytest.fixture
def own(service: Service) -> Service:
    """A service that e-mails invoices itself."""
    service.call_settings = replace(service.call_settings, mails_invoices=lambda _account: True)
    return service


def emails(service: Service) -> list[Email]:
    with database.transaction(service.engine) as session:
        return list(session.scalars(select(Email).order_by(Email.id)))


def test_a_worker_killed_around_finalizing_leaves_one_email(own: Service, mail: MailServer) -> None:
    """At each boundary around the third of its calls, whose settling begins the e-mail."""
    asked = {}
    for name, count in product(("commit.before", "send.before", "send.after", "commit.after"), (3, 4)):
        invoice = own.ask_for_invoice()
        own.plan()
        if reap(fork_worker(own, "invoices", at=f"{name}:{count}")) == KILLED:
            asked[f"{name}:{count}"] = invoice
        own.age(invoice, own.timing.lease_s)
        assert own.settle(invoice) == ["sent"]
    assert len(asked) >= 6, asked
    of_invoice = [email.request_id for email in emails(own)]
    assert len(of_invoice) == len(set(of_invoice))
    assert {f"{each}:invoice_email" for each in asked.values()} <= set(of_invoice)
    assert own.posts("/send") == []
    gateway = mailing(own, mail)
    assert set(own.settle(*(email.id for email in emails(own)), gateway=gateway)) == {"sent"}
    assert set(mail.mailbox.values()) == {1}
