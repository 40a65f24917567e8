"""Messages of a mailbox are read as far as they are reports about e-mails of ours; hostile ones are refused alone."""

import random

import pytest
from enumerated import SEED
from reports import READER, delivery_report, feedback_report, ses_bounce, ses_complaint

from billing.email_notices import Kind, event_of, told
from jobs.email import ses_notices
from jobs.email.reports import MESSAGE_MOST, Unreadable, read

EMAIL = "eml_0198f0c21a2b7c3d8e4f5a6b7c8d9e0f"
"""The same in every process that collects these tests."""


@pytest.mark.parametrize("whole", [True, False], ids=["whole message", "headers"])
@pytest.mark.parametrize(
    ("status", "kind"), [("5.1.1", Kind.HARD), ("4.2.2", Kind.SOFT), ("5.1.1 (unknown user)", Kind.HARD)]
)
def test_a_delivery_report_is_a_bounce_with_its_code(whole: bool, status: str, kind: Kind) -> None:
    notice = read(delivery_report(EMAIL, status=status, whole=whole))
    assert notice is not None
    assert (notice.kind, notice.email, notice.status) == (kind, EMAIL, status[:5])
    event = event_of(notice, livemode=False)
    assert (event.type, event.operation_id) == (f"email.{kind}.{status[:5]}", EMAIL)
    assert READER not in str(vars(event))
    said = told([event])
    assert said is not None
    assert said.why == f"{kind.removeprefix('bounce.')} {status[:5]}"


@pytest.mark.parametrize("action", ["delayed", "delivered", "relayed", "expanded"])
def test_a_report_that_nothing_failed_is_no_bounce(action: str) -> None:
    assert read(delivery_report(EMAIL, action=action)) is None


def test_a_feedback_report_is_a_complaint_unless_it_says_the_contrary() -> None:
    notice = read(feedback_report(EMAIL))
    assert notice is not None
    assert (notice.kind, notice.email, notice.status) == (Kind.COMPLAINT, EMAIL, None)
    assert read(feedback_report(EMAIL, "not-spam")) is None
    assert read(feedback_report(EMAIL, "auth-failure")) is None


def test_the_same_report_is_the_same_event_and_another_one_is_not() -> None:
    def event_id(raw: bytes) -> str:
        notice = read(raw)
        assert notice is not None
        return event_of(notice, livemode=False).id

    # A mail server may add headers at each delivery.
    again = b"Received: from a\n" + delivery_report(EMAIL)
    assert event_id(delivery_report(EMAIL)) == event_id(again)
    assert event_id(delivery_report(EMAIL)) != event_id(delivery_report(EMAIL, report_id="<2@mx.example.org>"))


@pytest.mark.parametrize(
    "own",
    [
        "<eml_1.g1@example.com>",
        "<cap_0198f0c21a2b7c3d4e5f60718293a4b5.g1@example.com>",
        f"<x{EMAIL}.g1@example.com>",
        f"<{EMAIL}@example.com>",
        f"<{EMAIL.upper()}.g1@example.com>",
        "",
        "a" * 100_000,
    ],
    ids=lambda own: own[:20],
)
def test_a_report_that_names_no_email_of_ours_is_passed_over(own: str) -> None:
    assert read(delivery_report(EMAIL, own=own or " ")) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00" * 1000,
        b"hello",
        b"Subject: Out of office\n\nI am away",
        b"Content-Type: multipart/report; boundary=x\n\n",
        b"Content-Type: multipart/report\n\n--x\n",
        b'Content-Type: text/plain; charset="no-such-charset"\n\n\xff\xfe',
        delivery_report(EMAIL).replace(b"us-ascii", b"no-such-charset").replace(b"From: ", b"From: =?nope?q?x?= "),
        delivery_report(EMAIL).replace(b"Action: failed", b"Action: \xff\xff"),
    ],
    ids=range(9),
)
def test_what_is_no_report_is_passed_over_or_read_without_an_error(raw: bytes) -> None:
    read(raw)


def test_a_message_that_is_too_large_or_nested_too_deep_is_refused() -> None:
    with pytest.raises(Unreadable, match="more than 5 MB"):
        read(delivery_report(EMAIL) + b"x" * MESSAGE_MOST)
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(2000))
    with pytest.raises(Unreadable, match="nested"):
        read(nested)
    with pytest.raises(Unreadable, match="cannot be read"):
        read(b"Content-Type: message/rfc822\n\n" * 5000)


def test_reports_that_were_damaged_anywhere_raise_nothing_else() -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    for _ in range(400):
        raw = bytearray(rng.choice([delivery_report(EMAIL), feedback_report(EMAIL)]))
        for _ in range(rng.randint(1, 20)):
            at = rng.randrange(len(raw))
            raw[at : at + rng.choice([0, 1, 30])] = rng.randbytes(rng.choice([0, 1, 5]))
        try:
            notice = read(bytes(raw))
        except Unreadable:
            continue
        if notice is not None:
            event = event_of(notice, livemode=False)
            assert READER not in str(vars(event))


def test_what_amazon_ses_tells_is_read_and_names_no_address() -> None:
    import json

    message = "0102018f0c21a2b7-1a2b3c4d-5e6f-7081-92a3-b4c5d6e7f809-000000"
    bounce = ses_notices.read(json.dumps(ses_bounce(message)), "sns-1")
    assert bounce is not None
    assert (bounce.kind, bounce.message, bounce.status) == (Kind.HARD, message, "5.1.1")
    assert READER not in str(vars(event_of(bounce, livemode=False)))
    soft = ses_notices.read(json.dumps(ses_bounce(message, kind="Transient", status="4.4.7")), "sns-2")
    assert soft is not None
    assert soft.kind is Kind.SOFT
    complaint = ses_notices.read(json.dumps(ses_complaint(message)), "sns-3")
    assert complaint is not None
    assert complaint.kind is Kind.COMPLAINT
    events = ses_bounce(message, eventType="Bounce")
    del events["notificationType"]
    assert ses_notices.read(json.dumps(events), "sns-4") is not None
    for other in (
        "no json",
        "[" * 100_000,
        "[]",
        "{}",
        json.dumps(ses_complaint(message, "not-spam")),
        json.dumps({"notificationType": "Delivery", "mail": {"messageId": message}}),
        json.dumps({"notificationType": "Bounce", "bounce": [], "mail": 1}),
        json.dumps(ses_bounce("anna@example.org")),
    ):
        assert ses_notices.read(other, "sns-5") is None
    odd = ses_notices.read(json.dumps(ses_bounce(message, bounce={"bouncedRecipients": [1], "timestamp": 5})), "sns-6")
    assert odd is not None
    assert (odd.status, odd.told_at) == (None, None)
