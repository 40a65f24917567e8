"""E-mails on a real mail server with TLS: one each, or it is known that nobody knows."""

from dataclasses import replace
from typing import Any

import pytest
from mail_server import MailServer
from mailing import DATA, MINUTES_S, ask_for_email, certificate, everything, mail, mailing, time_passes, turn, undecided
from service import Service
from sqlalchemy import text

import billing
from billing import database
from billing.emails import bounded
from billing.explain import explain_one
from billing.gateway import Response
from billing.states import RecordState
from billing.tables.entities import Email
from jobs.road import concluding

__all__ = ["certificate", "mail"]

DAY_S = 24 * 3600


def exhausted(service: Service, email: str) -> str:
    """Five workers died before anything of it was sent. Returns its work, which is in quarantine."""
    service.plan()
    service.execute("UPDATE billing.work SET attempts = 5 WHERE entity_id = :id", id=email)
    service.work_off("emails")
    assert service.work(email).state == "quarantined"
    return service.work(email).id


def conclude(service: Service, email: str, *, it_happened: bool = False) -> None:
    with database.transaction(service.engines["operator"]) as session:
        concluding.conclude(session, email, actor="anna", reason="the server's log", it_happened=it_happened)


def test_an_email_is_asked_for_in_the_callers_transaction_and_sent_once(service: Service, mail: MailServer) -> None:
    email = ask_for_email(service)
    assert service.settle(email, gateway=mailing(service, mail)) == ["sent"]
    turn(service, mailing(service, mail))
    ((recipients, message),) = mail.received
    assert recipients == ["test@example.com"]
    assert message["Message-ID"] == f"<{email}.g1@example.com>"
    assert (message["From"], message["To"]) == ("Shop <billing@example.com>", "Test <test@example.com>")
    assert (message["Subject"], message["Auto-Submitted"]) == ("Refund from Shop", "auto-generated")
    plain, html = (message.get_body((kind,)) for kind in ("plain", "html"))
    assert plain is not None
    assert html is not None
    assert "Amount: €19.99" in plain.get_content()
    assert "<bdi>€19.99</bdi>" in html.get_content()
    assert service.row(Email, email).provider_message == "4XyZ1"
    assert service.topics(email) == ["requested", "attempted", "sent"]


def test_neither_address_nor_name_is_kept_anywhere(
    service: Service, mail: MailServer, capsys: pytest.CaptureFixture[str]
) -> None:
    email = ask_for_email(service, service.by_hand("/v1/customers", "name=Anna+Muster&email=anna%40example.org"))
    assert service.settle(email, gateway=mailing(service, mail)) == ["sent"]
    assert mail.received[0][0] == ["anna@example.org"]
    printed = "".join(capsys.readouterr())
    for secret in ("anna", "Muster", "example.org"):
        assert secret not in everything(service)
        assert secret not in printed


def test_the_same_request_id_is_the_same_email(service: Service) -> None:
    customer = service.customer()
    with database.transaction(service.engines["application"]) as session:
        wanted: dict[str, Any] = {"template": "refund_made", "to": customer, "request_id": "mail-1"}
        first = billing.request_email(session, data=DATA, **wanted)
        again = billing.request_email(session, data=DATA, **wanted)
        assert (first.new, again.new, again.email_id) == (True, False, first.email_id)
        for changed in ({"data": {}}, {"to": "cus_2"}, {"template": "invoice_sent"}, {"locale": "de"}):
            with pytest.raises(billing.RequestReused):
                billing.request_email(session, **{**wanted, "data": DATA, **changed})


@pytest.mark.parametrize(
    "bad",
    [
        {"to": "anna@example.org"},
        {"to": "Anna"},
        {"to": "cus_1\r\nBcc: x"},
        {"to": "4242424242424242"},
        {"template": "../layout"},
        {"template": "Refund"},
        {"locale": "de\nX: y"},
        {"data": {"name": "Anna Muster"}},
        {"data": {"mail": "anna@example.org"}},
        {"data": {"{{7*7}}": 1}},
        {"data": {"a": 1.5}},
        {"data": {"a": [1]}},
        {"data": {f"a{n}": 1 for n in range(41)}},
        {"data": "text"},
        {"request_id": "anna@example.org"},
    ],
    ids=str,
)
def test_what_could_name_a_person_or_become_a_header_is_refused_and_nothing_is_written(
    service: Service, bad: dict[str, Any]
) -> None:
    wanted = {"template": "refund_made", "to": "cus_1", "data": DATA, "request_id": "mail-1", **bad}
    with database.transaction(service.engines["application"]) as session:
        with pytest.raises(billing.InvalidRequest) as refused:
            billing.request_email(session, **wanted)
        assert "anna" not in str(refused.value).lower()
        assert session.execute(text("SELECT count(*) FROM billing.emails")).scalar_one() == 0


def test_values_are_kept_as_json_that_a_template_can_show() -> None:
    from datetime import UTC, date, datetime

    at = datetime(2026, 11, 30, 12, tzinfo=UTC)
    given = {"amount": billing.Money(1999, "EUR"), "due_date": date(2026, 12, 24), "at": at, "lines": 3, "paid": False}
    kept = bounded(given)
    assert kept == {
        "amount": {"minor": 1999, "currency": "EUR"},
        "due_date": "2026-12-24",
        "at": "2026-11-30T12:00:00+00:00",
        "lines": 3,
        "paid": False,
    }
    assert bounded(kept) == kept


def test_a_customer_without_an_address_is_a_refusal_with_a_reason(service: Service, mail: MailServer) -> None:
    email = ask_for_email(service, service.by_hand("/v1/customers", "name=Nobody"))
    assert service.settle(email, gateway=mailing(service, mail)) == ["refused"]
    assert (service.status(email).reason, mail.received) == ("no_address", [])


@pytest.mark.parametrize(
    "address",
    [
        *("not-an-address", "a@b@c", "anna@example.org, eve@example.org", "anna@example.org\r\nBcc: eve@example.org"),
        *("Anna <anna@example.org>", "@example.org", "anna@", "änna@example.org", "a" * 300 + "@example.org"),
    ],
)
def test_an_address_that_could_become_another_header_or_recipient_is_refused(
    service: Service, mail: MailServer, address: str
) -> None:
    email = ask_for_email(service, "user-17")
    gateway = mailing(service, mail, resolve=lambda _: {"address": address})
    assert service.settle(email, gateway=gateway) == ["refused"]
    assert (service.status(email).reason, mail.received) == ("address_unusable", [])


def test_a_customer_who_is_gone_gets_nothing(service: Service, mail: MailServer) -> None:
    deleted = service.customer()
    service.by_hand(f"/v1/customers/{deleted}", method="DELETE")
    emails = [ask_for_email(service, deleted), ask_for_email(service, "cus_unknown1")]
    assert service.settle(*emails, gateway=mailing(service, mail)) == ["refused"] * 2
    assert [service.status(each).reason for each in emails] == ["recipient_deleted", "no_such_recipient"]
    assert mail.received == []


def test_an_application_resolves_its_own_ids_when_the_email_is_sent(service: Service, mail: MailServer) -> None:
    asked: list[str] = []

    def resolve(reference: str) -> dict[str, str] | None:
        asked.append(reference)
        if reference == "user-broken1":
            raise LookupError(reference)
        known = {"address": "anna@example.org", "name": "Anna", "locale": "de"}
        return known if reference == "user-17" else None

    gateway = mailing(service, mail, resolve=resolve)
    known, unknown = (ask_for_email(service, each) for each in ("user-17", "user-18"))
    broken = ask_for_email(service, "user-broken1")
    assert service.settle(known, unknown, gateway=gateway) == ["sent", "refused"]
    assert service.status(unknown).reason == "no_such_recipient"
    assert asked.count("user-17") == 1
    assert mail.of(known)[0]["Subject"] == "Erstattung von Shop"
    # An error there is no refusal: it is asked again.
    assert service.status(broken).state == "in_progress"
    assert "LookupError" in str(service.work(broken).reason)


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
def test_a_server_that_says_not_now_is_asked_again_until_it_takes_the_email(
    service: Service, mail: MailServer, command: str
) -> None:
    email, gateway = ask_for_email(service), mailing(service, mail)
    mail.answers[command] = "451 4.7.1 greylisted"
    turn(service, gateway)
    assert (mail.received, service.status(email).state) == ([], "in_progress")
    mail.be_well()
    assert service.settle(email, gateway=gateway) == ["sent"]
    assert len(mail.of(email)) == 1


@pytest.mark.parametrize("command", ["RCPT", "DATA"])
def test_a_server_that_refuses_the_recipient_or_the_message_ends_it(
    service: Service, mail: MailServer, command: str
) -> None:
    email = ask_for_email(service)
    mail.answers[command] = "550 5.1.1 anna@example.org is unknown here"
    assert service.settle(email, gateway=mailing(service, mail)) == ["refused"]
    assert service.status(email).reason == "smtp_550"
    assert "unknown here" not in everything(service)


@pytest.mark.parametrize(("command", "answer"), [("AUTH", ""), ("MAIL", "550 5.7.1 not your domain")])
def test_what_is_wrong_with_us_is_no_end_of_an_email(
    service: Service, mail: MailServer, command: str, answer: str
) -> None:
    """A login or a sender that is refused would refuse every e-mail. Mended, they go through."""
    email, gateway = ask_for_email(service), mailing(service, mail)
    mail.answers[command] = answer
    turn(service, gateway)
    assert service.status(email).state == "in_progress"
    mail.be_well()
    assert service.settle(email, gateway=gateway) == ["sent"]


@pytest.mark.parametrize("command", ["MAIL", "RCPT"])
def test_a_connection_that_is_lost_before_the_message_was_complete_sends_nothing_and_is_repeated(
    service: Service, mail: MailServer, command: str
) -> None:
    email, gateway = ask_for_email(service), mailing(service, mail)
    mail.drop = command
    turn(service, gateway)
    assert mail.received == []
    mail.be_well()
    assert service.settle(email, gateway=gateway) == ["sent"]
    assert list(mail.mailbox.values()) == [1]


def test_a_server_that_is_away_or_has_no_tls_we_trust_gets_nothing_and_the_email_waits(
    service: Service, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    email, gateway = ask_for_email(service), mailing(service, mail)
    with monkeypatch.context() as distrusting:
        distrusting.delenv("SSL_CERT_FILE")
        turn(service, gateway)
    assert service.status(email).state == "in_progress"
    assert "tls_failed" in str(service.work(email).reason)
    mail.stop()
    time_passes(service, email, 1)
    turn(service, gateway)
    assert service.record(email).state == RecordState.PLANNED
    assert mail.received == []


def test_an_email_that_nobody_took_for_a_day_is_not_sent_any_more(service: Service, mail: MailServer) -> None:
    email, gateway = ask_for_email(service), mailing(service, mail)
    mail.answers["RCPT"] = "450 busy"
    turn(service, gateway)
    time_passes(service, email, DAY_S)
    assert service.settle(email, gateway=gateway) == ["refused"]
    assert service.status(email).reason == "not_accepted_for_a_day"
    mail.be_well()
    turn(service, gateway)
    assert mail.received == []


def unanswered(service: Service, mail: MailServer) -> str:
    """The server has the message, and its answer is lost."""
    email = ask_for_email(service)
    mail.drop = "DATA"
    turn(service, mailing(service, mail))
    mail.be_well()
    assert len(mail.of(email)) == 1
    return email


def test_an_email_whose_answer_is_lost_is_never_sent_again_by_a_machine(service: Service, mail: MailServer) -> None:
    email, gateway = unanswered(service, mail), mailing(service, mail)
    for seconds in (1, MINUTES_S, 3600, DAY_S, DAY_S):
        time_passes(service, email, seconds)
        turn(service, gateway)
        turn(service, gateway)
        assert service.status(email).state == "in_doubt"
    assert len(mail.of(email)) == 1
    assert undecided(service) == [email]
    assert "undecided" in service.topics(email)
    with database.transaction(service.engine) as session:
        told = explain_one(session, email)
    assert "a mail server cannot be asked" in told.advice.why
    assert told.advice.command == f"billing quarantine conclude {email} --reason WHY"
    assert f"billing quarantine conclude {email}" in told.status.next
    assert "Stripe" not in f"{told.advice}{told.status.next}"


def test_of_an_email_that_waits_it_is_said_what_it_waits_for(service: Service, mail: MailServer) -> None:
    email, gateway = ask_for_email(service), mailing(service, mail)
    mail.answers["RCPT"] = "451 greylisted"
    turn(service, gateway)
    with database.transaction(service.engine) as session:
        waiting = explain_one(session, email).advice
    assert (waiting.why, waiting.command) == ("it was not sent, and may be later: smtp_451", None)


def test_a_discarded_email_says_what_it_was(service: Service) -> None:
    email = ask_for_email(service)
    exhausted(service, email)
    service.discard(email)
    (told,) = [fact for fact in service.facts(email) if fact.topic == "email.refused"]
    assert (told.payload["template"], told.payload["account"], told.payload["why"]) == (
        "refund_made",
        "own",
        "discarded",
    )


@pytest.mark.parametrize(("it_happened", "state"), [(True, "sent"), (False, "refused")])
def test_an_operator_who_has_read_the_servers_log_concludes_it(
    service: Service, mail: MailServer, it_happened: bool, state: str
) -> None:
    email, gateway = unanswered(service, mail), mailing(service, mail)
    turn(service, gateway)
    with pytest.raises(billing.InvalidRequest, match=r"so lately|not looked at|undecided"):
        conclude(service, email, it_happened=it_happened)
    for _ in range(2):
        time_passes(service, email)
        turn(service, gateway)
    conclude(service, email, it_happened=it_happened)
    assert service.status(email).state == state
    turn(service, gateway)
    assert len(mail.of(email)) == 1
    (told,) = [fact for fact in service.facts(email) if fact.topic == f"email.{state}"]
    assert (told.actor, told.payload["reason"]) == ("anna", "the server's log")
    assert (told.payload["template"], told.payload["account"]) == ("refund_made", "own")


def test_only_an_email_can_be_concluded_to_have_happened(service: Service) -> None:
    refund = service.ask_for_refund(service.captured_one())
    service.plan()
    service.prepared("refunds")
    for _ in range(2):
        time_passes(service, refund, 2 * DAY_S)
        service.relay.round()
        service.work_off("refunds")
    with pytest.raises(billing.InvalidRequest, match="found by a look"):
        conclude(service, refund, it_happened=True)


def test_an_answer_that_comes_too_late_ends_the_doubt(service: Service, mail: MailServer) -> None:
    email, gateway = ask_for_email(service), mailing(service, mail)
    service.plan()
    (call,) = service.prepared("emails").values()
    time_passes(service, email)
    turn(service, gateway)
    assert (service.status(email).state, mail.received) == ("in_doubt", [])
    service.report(call, Response(200, b"{}", {"id": "4Late1", "livemode": False}, "4Late1", replayed=False))
    time_passes(service, email, 3600)
    assert service.settle(email, gateway=gateway) == ["sent"]
    assert service.row(Email, email).provider_message == "4Late1"
    assert mail.received == []


def test_a_switch_stops_emails_and_nothing_else(service: Service, mail: MailServer) -> None:
    email, capture = ask_for_email(service), service.ask_for_capture()
    service.pull("emails")
    service.relay.round()
    service.work_off("emails", mailing(service, mail))
    service.work_off("captures")
    assert (service.status(capture).state, mail.received) == ("captured", [])
    service.release("emails")
    assert service.settle(email, gateway=mailing(service, mail)) == ["sent"]


@pytest.mark.parametrize(
    "name",
    ["Anna\r\nBcc: eve@example.org", "<script>alert(1)</script>", '"; DROP', "{{ 7*7 }}%s", "Ü" * 300, "محمد"],
)
def test_a_name_is_text_in_headers_and_page_whatever_stands_in_it(
    service: Service, mail: MailServer, name: str
) -> None:
    gateway = mailing(service, mail, resolve=lambda _: {"address": "anna@example.org", "name": name})
    email = ask_for_email(service, "user-17")
    assert service.settle(email, gateway=gateway) == ["sent"]
    ((recipients, message),) = mail.received
    assert recipients == ["anna@example.org"]
    assert message["Bcc"] is None
    assert [each.addr_spec for each in message["To"].addresses] == ["anna@example.org"]
    html = message.get_body(("html",))
    assert html is not None
    assert "<script>" not in html.get_content()
    assert "49" not in html.get_content().partition("</style>")[2]


def test_templates_of_the_application_go_first_and_one_that_fails_is_tried_again(
    service: Service, mail: MailServer, tmp_path: Any
) -> None:
    (tmp_path / "words.en.toml").write_text('[refund_made]\nsubject = "Money is on its way"\n')
    (tmp_path / "welcome.txt").write_text("Subject: Hi\n\n{{ data.missing }}\n")
    (tmp_path / "welcome.html").write_text("<p>{{ recipient.name }}</p>")
    gateway = mailing(service, mail, templates=str(tmp_path))
    changed, broken = ask_for_email(service), ask_for_email(service, template="welcome", data={})
    assert service.settle(changed, gateway=gateway) == ["sent"]
    assert mail.of(changed)[0]["Subject"] == "Money is on its way"
    assert service.work(broken).reason == "template_failed"
    (tmp_path / "welcome.txt").write_text("Subject: Hi\n\nWelcome\n")
    assert service.settle(broken, gateway=mailing(service, mail, templates=str(tmp_path))) == ["sent"]


def test_a_line_that_begins_with_a_dot_arrives_as_it_was(service: Service, mail: MailServer, tmp_path: Any) -> None:
    (tmp_path / "dots.txt").write_text("Subject: Dots\n\n.\n..two\nend\n")
    (tmp_path / "dots.html").write_text(".\n<p>.</p>")
    email = ask_for_email(service, template="dots", data={})
    assert service.settle(email, gateway=mailing(service, mail, templates=str(tmp_path))) == ["sent"]
    plain = mail.of(email)[0].get_body(("plain",))
    assert plain is not None
    assert plain.get_content().split() == [".", "..two", "end"]


def test_a_gateway_of_emails_changes_nothing_at_stripe(service: Service, mail: MailServer) -> None:
    from billing.gateway import Budget, NotSent, Request, boot_clock

    gateway, budget = mailing(service, mail), Budget(boot_clock() + 5, boot_clock() + 6)
    post = Request("POST", "/v1/refunds", "payment_intent=pi_1", key="k")
    assert isinstance(gateway.send(post, budget), NotSent)
    late = replace(budget, not_after=boot_clock() - 1)
    mail_request = Request("MAIL", "/email/refund_made", "to=cus_1&data={}", key="a:b:eml_1:send_email:g1")
    assert gateway.send(mail_request, late) == NotSent("too late to start")
    assert isinstance(service.gateway().send(mail_request, budget), NotSent)
