"""What mail servers tell of an e-mail moves it on, once, whatever comes in which order; and no address is kept."""

import json

import pytest
from mail_server import MailServer
from mailing import ask_for_email, certificate, everything, go_on, mail, mailing, sent, time_passes, turn, undecided
from reports import READER, delivery_report, feedback_report, ses_bounce
from service import Service, eventually
from sqlalchemy import select

import billing
from billing import database, ids, inbox
from billing.email_notices import event_of
from billing.gateway import Response
from billing.states import EventState
from billing.tables.entities import Email
from billing.tables.received_events import ReceivedEvent
from jobs.email import ses_notices
from jobs.email.reports import read
from jobs.metrics.reading import SQL

__all__ = ["certificate", "mail"]


def tell(service: Service, *messages: bytes) -> int:
    """As `billing email bounces` does, with an operator's login."""
    notices = [notice for raw in messages if (notice := read(raw)) is not None]
    with database.transaction(service.engines["operator"]) as session:
        return inbox.put(session, [event_of(each, livemode=False) for each in notices])


def events(service: Service) -> list[ReceivedEvent]:
    with database.transaction(service.engine) as session:
        return list(session.scalars(select(ReceivedEvent).order_by(ReceivedEvent.received_at)))


@pytest.mark.parametrize(
    ("report", "state", "reason"),
    [
        (delivery_report, "bounced", "hard 5.1.1"),
        (lambda email: delivery_report(email, status="4.2.2", whole=False), "bounced", "soft 4.2.2"),
        (feedback_report, "complained", "complaint"),
    ],
    ids=["hard", "soft", "complaint"],
)
def test_a_report_moves_an_email_that_was_sent_and_an_application_is_told(
    service: Service, mail: MailServer, report: object, state: str, reason: str
) -> None:
    email = sent(service, mail)
    assert callable(report)
    assert tell(service, report(email), report(email)) == 1
    assert tell(service, report(email)) == 0
    go_on(service, mail)
    status = service.status(email)
    assert (status.state, status.final, status.reason) == (state, True, reason)
    assert service.topics(email) == ["requested", "attempted", "sent", "noticed", "looked", state]
    with database.transaction(service.engines["application"]) as session:
        change = billing.changes(session).changes[-1]
    assert (change.id, change.state, change.reason) == (email, state, reason)
    assert (change.kind, len(mail.of(email))) == ("email", 1)
    (fact,) = [each for each in service.facts(email) if each.topic == f"email.{state}"]
    assert fact.payload == {"template": "refund_made", "account": "own", "why": reason}
    for secret in (READER, "anna", "Muster", "example.org"):
        assert secret not in everything(service)


def test_a_complaint_after_a_bounce_counts_and_a_bounce_after_a_complaint_does_not(
    service: Service, mail: MailServer
) -> None:
    first, second = sent(service, mail), sent(service, mail)
    tell(service, delivery_report(first))
    tell(service, feedback_report(second))
    go_on(service, mail)
    tell(service, feedback_report(first))
    tell(service, delivery_report(second))
    go_on(service, mail)
    assert [service.status(each).state for each in (first, second)] == ["complained", "complained"]
    assert service.topics(first)[-1] == "complained"
    assert service.topics(second).count("complained") == 1


def test_a_report_proves_that_an_undecided_email_was_sent(service: Service, mail: MailServer) -> None:
    email, gateway = ask_for_email(service), mailing(service, mail)
    mail.drop = "DATA"
    turn(service, gateway)
    mail.be_well()
    for _ in range(2):
        time_passes(service, email)
        turn(service, gateway)
    assert undecided(service) == [email]
    tell(service, delivery_report(email))
    go_on(service, mail)
    assert service.settle(email, gateway=gateway) == ["bounced"]
    assert [topic for topic in service.topics(email) if topic in ("sent", "bounced")] == ["sent", "bounced"]
    assert len(mail.of(email)) == 1


def test_a_report_that_comes_before_the_answer_is_settled_waits_for_it(service: Service, mail: MailServer) -> None:
    email = ask_for_email(service)
    service.plan()
    (call,) = service.prepared("emails").values()
    tell(service, delivery_report(email))
    service.relay.round()
    service.report(call, Response(200, b"{}", {"id": "4XyZ1", "livemode": False}, "4XyZ1", replayed=False))

    def bounced() -> bool:
        time_passes(service, email, service.timing.lease_s)
        go_on(service, mail)
        return service.status(email).state == "bounced"

    eventually(bounced, "it bounced")
    assert mail.received == []


def test_reports_about_emails_that_there_are_not_move_nothing_and_raise_no_alarm(
    service: Service, mail: MailServer
) -> None:
    email = sent(service, mail)
    tell(service, delivery_report(ids.new("eml")), delivery_report(email.replace("eml_0", "eml_1")))
    service.execute("UPDATE billing.received_events SET received_at = received_at - interval '2 hours'")
    go_on(service, mail)
    assert [each.state for each in events(service)] == [EventState.UNKNOWN] * 2
    assert service.status(email).state == "sent"
    with database.transaction(service.engines["relay"]) as session:
        assert session.connection().exec_driver_sql(SQL["strange_events"], {"most": 10}).scalar_one() == 0


def test_an_email_of_a_connected_account_is_found_though_no_report_names_the_account(
    service: Service, mail: MailServer
) -> None:
    email = ask_for_email(service, "user-17", account="acct_1")
    gateway = mailing(service, mail, resolve=lambda _: {"address": READER})
    assert service.settle(email, gateway=gateway) == ["sent"]
    tell(service, delivery_report(email))
    go_on(service, mail)
    assert service.status(email).state == "bounced"


def test_amazon_ses_names_an_email_by_its_own_id(service: Service, mail: MailServer) -> None:
    email, message = sent(service, mail), "0102018f0c21a2b7-1a2b3c4d-5e6f-7081-92a3-b4c5d6e7f809-000000"
    service.execute("UPDATE billing.emails SET provider_message = :named", named=f"ses_{message}")
    notice = ses_notices.read(json.dumps(ses_bounce(message)), "sns-1")
    assert notice is not None
    with database.transaction(service.engines["web"]) as session:
        assert inbox.put(session, [event_of(notice, livemode=False)]) == 1
    go_on(service, mail)
    assert (service.status(email).state, service.row(Email, email).reason) == ("bounced", "hard 5.1.1")
