"""What tests of e-mails share: mail servers, the gateway to one, and what a mailbox must hold."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mail_server import MailServer
from service import Service
from sqlalchemy import text

import billing
from bench.mail_server import make_certificate
from billing import database
from jobs.config import mail_url
from jobs.email.mailing import Mailing
from jobs.email.messages import sender
from jobs.email.recipients import Recipients, Resolve
from jobs.email.rendering import Templates
from jobs.email.smtp import Smtp
from jobs.road import quarantine

FROM = "Shop <billing@example.com>"
MINUTES_S = 120
DATA = {"amount": billing.Money(1999, "EUR"), "order": "order-42"}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("mail"))


@pytest.fixture
def mail(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    """A server with STARTTLS and a login, whose certificate this process trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = MailServer(certificate)
    server.start()
    yield server
    server.stop()


def mailing(
    service: Service, mail: MailServer, *, resolve: Resolve | None = None, templates: str | None = None
) -> Mailing:
    stripe, url = service.gateway(), mail.url
    server = Smtp(lambda: _place(url), livemode=False, login_refused=lambda: None)
    return Mailing(stripe, Recipients(stripe, resolve), Templates(templates), server, sender(FROM))


def _place(url: str) -> mail_url.Place:
    place = mail_url.read(url)
    assert isinstance(place, mail_url.Place)
    return place


def ask_for_email(service: Service, to: str | None = None, **more: Any) -> str:
    service._asked += 1
    wanted = {"template": "refund_made", "data": DATA, "request_id": f"mail-{service._asked}", **more}
    with database.transaction(service.engines["application"]) as session:
        return billing.request_email(session, to=to or service.customer(), **wanted).email_id


def turn(service: Service, gateway: Mailing) -> None:
    service.relay.round()
    service.work_off("emails", gateway)


def undecided(service: Service) -> list[str]:
    with database.transaction(service.engine) as session:
        return [each.entity_id for each in quarantine.undecided(session)]


def time_passes(service: Service, email: str, seconds: float = MINUTES_S) -> None:
    service.age(email, seconds)
    service.execute("UPDATE billing.work SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")


def sent(service: Service, mail: MailServer) -> str:
    email = ask_for_email(service)
    assert service.settle(email, gateway=mailing(service, mail)) == ["sent"]
    return email


def go_on(service: Service, mail: MailServer) -> None:
    """What was told is matched, and read."""
    for _ in range(2):
        service.execute("UPDATE billing.received_events SET match_at = clock_timestamp() WHERE match_at IS NOT NULL")
        turn(service, mailing(service, mail))


def everything(service: Service) -> str:
    """All rows of all tables."""
    with database.transaction(service.engine) as session:
        tables = session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'billing'")).all()
        rows = [session.scalars(text(f"SELECT t::text FROM billing.{each} AS t")).all() for each in tables]
        answers = session.scalars(text("SELECT convert_from(answer, 'UTF8') FROM billing.idempotency_records")).all()
    return str(rows) + str(answers)
