"""What takes a message: SMTP with TLS at once, Amazon SES (moto's), and the settings that name them."""

import socket
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from mail_server import MailServer
from mailing import certificate
from moto_server import MotoServer

from billing.gateway import Budget, NoAnswer, NotSent, Response, boot_clock
from jobs.config import mail_url
from jobs.config.secrets import Secret
from jobs.config.sources import SettingsError
from jobs.email.mailing import server_of
from jobs.email.messages import Message
from jobs.email.ses import Ses
from jobs.email.smtp import Smtp
from jobs.process.service import ServiceProcess

__all__ = ["certificate"]

MESSAGE = Message(
    "eml_1.g1", "billing@example.com", "anna@example.org", b"Subject: Hi\r\nMessage-ID: <eml_1>\r\n\r\nHi\r\n"
)


def budget(seconds: float = 60) -> Budget:
    return Budget(not_after=boot_clock() + seconds, over_at=boot_clock() + seconds)


def smtp(url: str) -> Smtp:
    place = mail_url.read(url)
    assert isinstance(place, mail_url.Place)
    return Smtp(lambda: place, livemode=False, login_refused=lambda: None)


def test_tls_at_once_is_taken_like_starttls(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = MailServer(certificate, tls_at_once=True)
    server.start()
    try:
        answer = smtp(server.url).deliver(MESSAGE, budget())
        assert isinstance(answer, Response)
        assert (answer.status, answer.request_id) == (200, "4XyZ1")
        assert len(server.received) == 1
    finally:
        server.stop()


@pytest.mark.parametrize(("command", "known"), [("RCPT", True), ("DATA", False)])
def test_a_server_that_falls_silent_is_cut_when_the_budget_is_over(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, command: str, known: bool
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = MailServer(certificate)
    server.start()
    try:
        server.hold = command
        answer = smtp(server.url).deliver(MESSAGE, Budget(boot_clock() + 30, boot_clock() + 3))
        assert isinstance(answer, Response if known else NoAnswer)
        assert smtp(server.url).deliver(MESSAGE, Budget(0, 0)) == NotSent("too late to start")
    finally:
        server.stop()


@pytest.mark.parametrize("after_starttls", [False, True])
def test_a_server_that_answers_byte_by_byte_is_cut_when_the_budget_is_over(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, after_starttls: bool
) -> None:
    """With its greeting, or with what comes before a login."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    left = threading.Event()

    def answer() -> None:
        client, _ = listener.accept()
        if after_starttls:
            for line in (b"220 hello", b"250-here\r\n250 STARTTLS", b"220 go on"):
                client.sendall(line + b"\r\n")
                if line != b"220 go on":
                    client.recv(1000)
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate)
            client = context.wrap_socket(client, server_side=True)
        with client:
            try:
                for _ in range(300):
                    client.sendall(b"2")
                    time.sleep(0.1)
            except OSError:
                left.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=answer)
        answering.start()
        told = smtp(f"smtp://us:pass@127.0.0.1:{listener.getsockname()[1]}").deliver(MESSAGE, budget(3))
        answering.join()
    assert isinstance(told, Response), "nothing was handed over"
    assert left.is_set(), "it did not stay for all of the answer"


@pytest.fixture
def ses(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> Ses:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    return Ses("eu-central-1", livemode=False, endpoint=moto.url)


def test_ses_takes_a_message_from_an_identity_that_it_knows(ses: Ses) -> None:
    unknown = ses.deliver(MESSAGE, budget())
    assert isinstance(unknown, Response)
    assert (unknown.status, unknown.error_code) == (400, "message_rejected")
    ses._client.create_email_identity(EmailIdentity="billing@example.com")
    taken = ses.deliver(MESSAGE, budget())
    assert isinstance(taken, Response)
    assert (taken.status, bool(taken.request_id)) == (200, True)


def test_ses_that_cannot_be_reached_or_has_no_time_is_not_asked(ses: Ses) -> None:
    away = Ses("eu-central-1", livemode=False, endpoint="http://127.0.0.1:1").deliver(MESSAGE, budget())
    assert isinstance(away, Response)
    assert (away.status, away.error_code) == (429, "server_away")
    assert ses.deliver(MESSAGE, budget(1)) == NotSent("too late to start")


@pytest.mark.parametrize(
    "url",
    [
        "http://mail.example.com",
        "smtp://user@mail.example.com",
        "smtps://mail.example.com/path",
        "smtps://",
        "ses://nowhere",
        "mail.example.com:465",
        "smtps://mail.example.com:port",
    ],
)
def test_a_url_that_leads_nowhere_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match="write smtps://") as refused:
        mail_url.read(url)
    assert "mail.example.com:" not in str(refused.value)
    with pytest.raises(SettingsError, match="BILLING_EMAIL_SERVER"):
        server_of(Secret.literal(url, "BILLING_EMAIL_SERVER"), livemode=False)


def test_a_password_is_written_as_in_every_url_and_not_shown() -> None:
    place = mail_url.read("smtp://us%40er:p%3A%2F%25@mail.example.com")
    assert isinstance(place, mail_url.Place)
    assert (place.user, place.password, place.port, place.tls_at_once) == ("us@er", "p:/%", 587, False)
    assert "p:/%" not in repr(place)


def test_a_worker_without_the_extra_or_without_a_sender_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, nothing_set: None
) -> None:
    from jobs.config.settings import Settings

    values: dict[str, Any] = {"environment": "test", "database_url": "postgresql://u:p@127.0.0.1/x"}
    process = ServiceProcess(Settings.model_validate(values), "worker-emails")
    with pytest.raises(SettingsError, match="BILLING_EMAIL_FROM is not set"):
        process._mailing(process.gateway(1))
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for name in [each for each in sys.modules if each.startswith("jobs.email")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SettingsError, match=r"pip install 'billing-reference\[email\]'"):
        process._mailing(process.gateway(1))
