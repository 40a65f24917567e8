"""A receipt starts by itself, once, when money was taken or given back; and not where nobody wants it."""

from dataclasses import replace

import pytest
from mail_server import MailServer
from mailing import certificate, mail, mailing
from service import IN_PARTS, Service, eventually
from sqlalchemy import select

import billing
from billing import database, receipts
from billing.explain import explain_one
from billing.tables.entities import Capture, Email
from jobs.config.settings import Settings

__all__ = ["certificate", "mail"]


@pytest.fixture
def own(service: Service) -> Service:
    """A service that sends receipts itself."""
    service.call_settings = replace(service.call_settings, mails_receipts=lambda _account: True)
    return service


def emails(service: Service) -> list[Email]:
    with database.transaction(service.engine) as session:
        return list(session.scalars(select(Email).order_by(Email.id)))


def captured(service: Service, **more: str) -> tuple[str, str]:
    """A capture that took the money of a customer, and the customer."""
    customer = service.customer()
    return service.captured_one(customer=customer, **more), customer


def test_a_capture_sends_its_customer_one_receipt(own: Service, mail: MailServer) -> None:
    customer = own.customer()
    capture = own.ask_for_capture(own.intents(customer=customer)[0], correlation_id="order-42")
    assert own.settle(capture) == ["captured"]
    row = own.row(Capture, capture)
    assert row.customer == customer
    (email,) = emails(own)
    assert (email.template, email.recipient) == ("capture_receipt", customer)
    assert email.data == {"amount": {"minor": 1999, "currency": "USD"}, "date": row.state_since.date().isoformat()}
    assert (email.request_id, email.correlation_id) == (f"{capture}:receipt", "order-42")
    assert own.topics(email.id) == ["requested"]
    assert own.settle(email.id, gateway=mailing(own, mail)) == ["sent"]
    ((recipients, message),) = mail.received
    assert recipients == ["test@example.com"]
    assert "Payment received" in message["Subject"]
    with database.transaction(own.engine) as session:
        assert explain_one(session, capture).request["receipt"] == f"{email.id} sent"


def test_by_default_nobody_gets_one(service: Service) -> None:
    capture, customer = captured(service)
    assert service.settle(service.ask_for_refund(capture)) == ["succeeded"]
    assert emails(service) == []
    assert "no_receipt" not in service.topics(capture)
    # Whose payment it was is kept all the same, for receipts of later refunds.
    assert service.row(Capture, capture).customer == customer


def test_a_payment_without_a_customer_gets_none_which_is_a_fact(own: Service) -> None:
    capture = own.captured_one()
    refund = own.ask_for_refund(capture)
    assert own.settle(refund) == ["succeeded"]
    assert emails(own) == []
    for each in (capture, refund):
        (told,) = [fact for fact in own.facts(each) if fact.topic.endswith(".no_receipt")]
        assert told.payload == {"account": "own", "why": "no_customer"}
    assert own.status(capture).state == "captured"


def test_a_declined_capture_gets_none(own: Service) -> None:
    own.standin.add_fault("402_declined", path="/capture$", times=1)
    capture = own.ask_for_capture(own.intents(customer=own.customer())[0])
    assert own.settle(capture) == ["declined"]
    assert emails(own) == []
    assert "no_receipt" not in own.topics(capture)


@pytest.mark.parametrize("fault", ["drop_after_commit", "500_with_effect", "truncate_body"])
def test_after_a_lost_answer_a_look_begins_it_once(own: Service, fault: str) -> None:
    own.standin.add_fault(fault, path="/capture$", method="POST", times=1)
    capture, customer = captured(own)
    assert [(email.request_id, email.recipient) for email in emails(own)] == [(f"{capture}:receipt", customer)]


def test_what_is_noticed_afterwards_begins_no_second(own: Service) -> None:
    capture, _ = captured(own)
    own.notice(capture)
    for _ in range(3):
        own.relay.round()
        own.work_off("captures")
    assert len(emails(own)) == 1


def test_each_part_of_a_payment_has_its_own(own: Service) -> None:
    intent = own.by_hand("/v1/payment_intents", f"{IN_PARTS}&amount=1999&customer={own.customer()}")
    first = own.ask_for_capture(intent, 500, remainder="keep")
    second = own.ask_for_capture(intent, 1499)
    assert own.settle(first, second) == ["captured", "captured"]
    told = {(email.request_id, email.data["amount"]["minor"]) for email in emails(own)}
    assert told == {(f"{first}:receipt", 500), (f"{second}:receipt", 1499)}


def test_a_refund_sends_the_customer_of_its_capture_one(own: Service, mail: MailServer) -> None:
    capture, customer = captured(own)
    refund = own.ask_for_refund(capture)
    assert own.settle(refund) == ["succeeded"]
    (email,) = [each for each in emails(own) if each.template == "refund_made"]
    assert (email.request_id, email.recipient) == (f"{refund}:receipt", customer)
    assert email.data["amount"] == {"minor": 500, "currency": "USD"}
    assert own.settle(email.id, gateway=mailing(own, mail)) == ["sent"]
    with database.transaction(own.engine) as session:
        assert explain_one(session, refund).request["receipt"] == f"{email.id} sent"


def test_a_refund_that_a_bank_ends_later_sends_it_then(own: Service) -> None:
    capture, _ = captured(own, card="pm_card_pendingRefund")
    refund = own.ask_for_refund(capture)

    def pending() -> bool:
        own.relay.round()
        own.work_off("refunds")
        return own.status(refund).state == "pending"

    eventually(pending, "Stripe has accepted it")
    assert [email.request_id for email in emails(own)] == [f"{capture}:receipt"]
    own.standin.advance(60)
    own.notice(refund)
    assert own.settle(refund) == ["succeeded"]
    assert [email.request_id for email in emails(own)] == [f"{capture}:receipt", f"{refund}:receipt"]


def test_a_refund_that_compensates_a_capture_waits_for_it_and_sends_it_then(own: Service) -> None:
    customer = own.customer()
    capture = own.ask_for_capture(own.intents(customer=customer)[0])
    own.standin.add_fault("drop_after_commit", path="/capture$", method="POST", times=1)
    own.plan()
    own.work_off("captures")
    refund = own.compensate(capture)
    assert own.settle(capture, refund) == ["captured", "succeeded"]
    assert {(email.request_id, email.recipient) for email in emails(own)} == {
        (f"{capture}:receipt", customer),
        (f"{refund}:receipt", customer),
    }


def test_a_refund_of_an_invoice_sends_it_to_the_customer_of_the_invoice(own: Service) -> None:
    customer = own.customer()
    refund = own.refund_invoice(own.paid_invoice(customer=customer))
    assert own.settle(refund) == ["succeeded"]
    assert [(email.request_id, email.recipient) for email in emails(own)] == [(f"{refund}:receipt", customer)]


def test_a_refund_of_a_capture_from_before_has_no_customer_to_write_to(own: Service) -> None:
    capture, _ = captured(own)
    own.execute("UPDATE billing.captures SET customer = NULL WHERE id = :id", id=capture)
    refund = own.ask_for_refund(capture)
    assert own.settle(refund) == ["succeeded"]
    assert "no_receipt" in own.topics(refund)
    assert [email.template for email in emails(own)] == ["capture_receipt"]


@pytest.mark.parametrize("named", [None, "", "cus_", 7, {"id": "cus_1"}, "cus_1 x", "acct_1", "cus_1_secret_2"])
def test_a_customer_of_a_strange_shape_is_none_and_stops_no_capture(named: object) -> None:
    assert receipts.customer_of({"customer": named}) is None
    assert receipts.customer_of({"customer": "cus_1"}) == "cus_1"


@pytest.mark.parametrize(
    ("written", "ours", "connected", "other"),
    [
        ("none", False, False, False),
        ("own", True, True, True),
        ("none,acct_1=own", False, True, False),
        ("own, acct_1=none", True, False, True),
    ],
)
def test_the_setting_names_each_account(written: str, ours: bool, connected: bool, other: bool) -> None:
    settings = Settings.model_validate(
        {"environment": "test", "database_url": "postgresql://u:p@127.0.0.1/x", "receipt_emails": written}
    )
    assert [settings.mails_receipts(each) for each in (None, "acct_1", "acct_2")] == [ours, connected, other]


@pytest.mark.parametrize("written", ["", "stripe", "acct_1=own", "own,acct_1", "own,acct_1=stripe"])
def test_a_setting_that_says_something_else_stops_the_process(written: str) -> None:
    with pytest.raises(ValueError, match="receipt_emails"):
        Settings.model_validate(
            {"environment": "test", "database_url": "postgresql://u:p@127.0.0.1/x", "receipt_emails": written}
        )


def test_an_application_follows_its_receipts(own: Service, mail: MailServer) -> None:
    """Its own row says how it went, as that of every e-mail."""
    captured(own)
    (email,) = emails(own)
    with database.transaction(own.engines["application"]) as session:
        assert billing.status(session, email.id).state == "requested"
    own.settle(email.id, gateway=mailing(own, mail))
    with database.transaction(own.engines["application"]) as session:
        assert billing.status(session, email.id).state == "sent"
