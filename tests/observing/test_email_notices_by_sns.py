"""Amazon SNS over HTTPS: only what Amazon signed about an allowed topic is taken, and nobody else makes us ask."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from http_server import HttpServer
from reports import READER, ses_bounce
from service import Service
from sqlalchemy import select

from billing import database
from billing.tables.received_events import ReceivedEvent
from jobs.web import sns
from jobs.web.notices import ADVICE, BUSY, Notices
from jobs.web.sns import Sns, SnsMessage, Unsigned

TOPIC = "arn:aws:sns:eu-central-1:123456789012:bounces"
HOST = "https://sns.eu-central-1.amazonaws.com"
CERTIFICATE = f"{HOST}/SimpleNotificationService-0198f0c21a2b7c3d.pem"
CONFIRM = f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37"
MESSAGE = "0102018f0c21a2b7-1a2b3c4d-5e6f-7081-92a3-b4c5d6e7f809-000000"

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def certificate(key: rsa.RSAPrivateKey = KEY) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Amazon:
    """What SNS's own address answers, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away = False

    def get(self, url: str) -> bytes:
        self.asked.append(url)
        if self.away:
            raise OSError("TimeoutError")
        return certificate() if url == CERTIFICATE else b"<ConfirmSubscriptionResponse/>"


def signed(version: str = "1", key: rsa.RSAPrivateKey = KEY, **changes: Any) -> dict[str, Any]:
    """As SNS makes it: written down from its page, and not with the code that reads it."""
    fields = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Message": json.dumps(ses_bounce(MESSAGE)),
        "Timestamp": "2026-11-30T02:14:09.000Z",
        "SignatureVersion": version,
        "SigningCertURL": CERTIFICATE,
        **changes,
    }
    names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    if fields["Type"] != "Notification":
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields)
    digest = hashes.SHA1() if version == "1" else hashes.SHA256()  # noqa: S303 - version 1 of SNS's signatures
    signature = key.sign(text.encode(), padding.PKCS1v15(), digest)
    return fields | {"Signature": base64.b64encode(signature).decode()}


def body(fields: object) -> bytes:
    return json.dumps(fields).encode()


def checked(message: object, amazon: Amazon | None = None) -> SnsMessage | Unsigned:
    return Sns({TOPIC}, (amazon or Amazon()).get).check(message if isinstance(message, bytes) else body(message))


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("more", [{}, {"Subject": "Amazon SES"}], ids=["no subject", "subject"])
def test_what_amazon_signed_is_taken_and_its_certificate_is_read_once(version: str, more: dict[str, str]) -> None:
    amazon = Amazon()
    taker = Sns({TOPIC}, amazon.get)
    for _ in range(3):
        found = taker.check(body(signed(version, **more)))
        assert isinstance(found, SnsMessage)
    assert amazon.asked == [CERTIFICATE]


OTHER_HOSTS = [
    "https://evil.example/SimpleNotificationService-0198f0c21a2b7c3d.pem",
    "https://sns.eu-central-1.amazonaws.com.evil.example/SimpleNotificationService-0198f0c21a2b7c3d.pem",
    "https://evil.example/sns.eu-central-1.amazonaws.com/SimpleNotificationService-0198f0c21a2b7c3d.pem",
    "https://sns.eu-central-1.amazonaws.com@evil.example/SimpleNotificationService-0198f0c21a2b7c3d.pem",
    "https://evil.example\\@sns.eu-central-1.amazonaws.com/SimpleNotificationService-0198f0c21a2b7c3d.pem",
    "https://sns.eu-central-1.amazonaws.com:8443/SimpleNotificationService-0198f0c21a2b7c3d.pem",
    "https://bucket.s3.amazonaws.com/SimpleNotificationService-0198f0c21a2b7c3d.pem",
    "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0198f0c21a2b7c3d.pem",
    "http://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0198f0c21a2b7c3d.pem",
    f"{HOST}/../evil.pem",
    f"{HOST}/SimpleNotificationService-0198f0c21a2b7c3d.pem?x=1",
    f"{HOST}/SimpleNotificationService-0198f0c21a2b7c3d.pem#x",
    "file:///etc/passwd",
    "",
    "https://[",
]


@pytest.mark.parametrize("url", OTHER_HOSTS)
def test_a_certificate_of_anybody_else_is_not_even_asked_for(url: str) -> None:
    amazon = Amazon()
    assert checked(signed(SigningCertURL=url), amazon) is Unsigned.NOT_OF_AMAZON
    assert amazon.asked == []


def test_a_topic_that_no_setting_names_is_refused_before_anybody_is_asked() -> None:
    amazon = Amazon()
    for topic in ("arn:aws:sns:eu-central-1:999999999999:bounces", f"{TOPIC}2", "x", ""):
        assert checked(signed(TopicArn=topic), amazon) is Unsigned.OTHER_TOPIC
    assert amazon.asked == []


@pytest.mark.parametrize("changed", ["Message", "MessageId", "Timestamp", "Type"])
def test_a_field_that_was_changed_after_signing_is_found(changed: str) -> None:
    values = {"MessageId": "00000000-0000", "Type": "UnsubscribeConfirmation"}
    forged = {**signed(), "Token": "t", "SubscribeURL": CONFIRM, changed: values.get(changed, "another")}
    assert checked(forged) is Unsigned.BAD_SIGNATURE


def test_another_key_or_another_version_does_not_fit() -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert checked(signed(key=other)) is Unsigned.BAD_SIGNATURE
    assert checked({**signed("2"), "SignatureVersion": "1"}) is Unsigned.BAD_SIGNATURE
    assert checked({**signed(), "Signature": "no base64!"}) is Unsigned.BAD_SIGNATURE


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"no json",
        b"[" * 100_000,
        b"\xff\xfe",
        b"[]",
        b'"text"',
        body({}),
        body({**signed(), "Type": "Other"}),
        body({**signed(), "Message": 1}),
        body({**signed(), "MessageId": "anna@example.org"}),
        body({**signed(), "SignatureVersion": "3"}),
        body({**signed(), "Subject": ["x"]}),
    ],
    ids=range(12),
)
def test_what_is_no_message_of_sns_is_refused(bad: bytes) -> None:
    assert checked(bad) is Unsigned.NOT_A_MESSAGE


def test_a_certificate_that_cannot_be_read_is_asked_for_again_and_not_without_end() -> None:
    amazon = Amazon()
    amazon.away = True
    taker = Sns({TOPIC}, amazon.get)
    for number in range(50):
        url = CERTIFICATE.replace("3d.pem", f"{number:04}.pem")
        assert taker.check(body(signed(SigningCertURL=url))) is Unsigned.NO_CERTIFICATE
    assert len(amazon.asked) == sns.ASKED_MOST


def subscription(**changes: Any) -> dict[str, Any]:
    told = {"Type": "SubscriptionConfirmation", "Token": "2336412f37", "SubscribeURL": CONFIRM, "Message": "confirm"}
    return signed(**told | changes)


@pytest.fixture
def amazon() -> Amazon:
    return Amazon()


@pytest.fixture
def taker(service: Service, amazon: Amazon) -> Notices:
    return Notices(Sns({TOPIC}, amazon.get), service.engines["web"], livemode=False)


def test_a_subscription_is_confirmed_for_an_allowed_topic_only(taker: Notices, amazon: Amazon) -> None:
    assert taker.take(body(subscription()))[0] == 200
    assert amazon.asked == [CERTIFICATE, CONFIRM]
    amazon.asked.clear()
    for url in (
        "https://evil.example/?Action=ConfirmSubscription",
        CONFIRM.replace("ConfirmSubscription", "DeleteTopic"),
        CONFIRM.replace(TOPIC, f"{TOPIC}2"),
        CONFIRM.replace("/?", "/x?"),
        CONFIRM + "&Action=DeleteTopic",
    ):
        assert taker.take(body(subscription(SubscribeURL=url))) == (400, Unsigned.NOT_OF_AMAZON)
    assert taker.take(body({**subscription(), "Token": "another"})) == (400, Unsigned.BAD_SIGNATURE)
    assert amazon.asked == []
    amazon.away = True
    assert taker.take(body(subscription())) == (503, Unsigned.NO_CERTIFICATE)


def events(service: Service) -> list[ReceivedEvent]:
    with database.transaction(service.engine) as session:
        return list(session.scalars(select(ReceivedEvent)))


def test_a_bounce_is_in_the_inbox_once_and_no_address_with_it(
    taker: Notices, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        assert taker.take(body(signed()))[0] == 200
    (event,) = events(service)
    assert (event.type, event.object_id, event.source) == ("email.bounce.hard.5.1.1", f"ses_{MESSAGE}", "ses")
    assert READER not in str(vars(event))
    assert READER not in "".join(capsys.readouterr())
    assert taker.take(body(signed(Message="Successfully validated SNS topic")))[0] == 200
    assert taker.take(body(subscription(Type="UnsubscribeConfirmation")))[0] == 200
    assert len(events(service)) == 1


def test_while_postgres_is_away_amazon_is_told_to_send_it_again(taker: Notices, service: Service) -> None:
    service.execute("ALTER TABLE billing.received_events RENAME TO away")
    try:
        assert taker.take(body(signed())) == (503, BUSY)
    finally:
        service.execute("ALTER TABLE billing.away RENAME TO received_events")
    assert taker.take(body(signed()))[0] == 200


def test_every_refusal_says_what_to_do() -> None:
    assert set(ADVICE) == {*Unsigned, BUSY}


@contextmanager
def answering(status: int, content: bytes, **headers: str) -> Iterator[str]:
    """A server that answers everything so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = HttpServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def test_an_answer_is_bounded_and_a_redirect_is_not_followed() -> None:
    with answering(200, b"pem") as there:
        assert sns.ask(there) == b"pem"
        with answering(302, b"", Location=there) as redirects, pytest.raises(OSError, match="status 302"):
            sns.ask(redirects)
    for status, content in ((200, b"x" * (sns.ANSWER_MOST + 1)), (404, b"")):
        with answering(status, content) as there, pytest.raises(OSError, match="status"):
            sns.ask(there)
    with pytest.raises(OSError, match="Error"):
        sns.ask("http://127.0.0.1:1/x")
