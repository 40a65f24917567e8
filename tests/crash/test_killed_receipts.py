"""A worker that dies around the end of a capture or a refund: its receipt is begun once, and sent once."""

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

BOUNDARIES = tuple(product(("commit.before", "send.before", "send.after", "commit.after"), (1, 2)))


@pytest.fixture
def own(service: Service) -> Service:
    """A service that sends receipts itself."""
    service.call_settings = replace(service.call_settings, mails_receipts=lambda _account: True)
    return service


def request_ids(service: Service) -> list[str]:
    with database.transaction(service.engine) as session:
        return list(session.scalars(select(Email.request_id)))


def test_a_worker_killed_around_a_capture_or_its_refund_leaves_one_receipt_of_each(
    own: Service, mail: MailServer
) -> None:
    customer, killed, every = own.customer(), [], []
    for name, count in BOUNDARIES:
        capture = own.ask_for_capture(own.intents(customer=customer)[0])
        own.plan()
        if reap(fork_worker(own, "captures", at=f"{name}:{count}")) == KILLED:
            killed.append(f"capture {name}:{count}")
        own.age(capture, own.timing.lease_s)
        assert own.settle(capture) == ["captured"]
        refund = own.ask_for_refund(capture)
        own.plan()
        if reap(fork_worker(own, "refunds", at=f"{name}:{count}")) == KILLED:
            killed.append(f"refund {name}:{count}")
        own.age(refund, own.timing.lease_s)
        assert own.settle(refund) == ["succeeded"]
        every += [f"{capture}:receipt", f"{refund}:receipt"]
    assert len(killed) >= 8, killed
    assert sorted(request_ids(own)) == sorted(every)
    with database.transaction(own.engine) as session:
        written = list(session.scalars(select(Email.id)))
    assert set(own.settle(*written, gateway=mailing(own, mail))) == {"sent"}
    assert set(mail.mailbox.values()) == {1}
