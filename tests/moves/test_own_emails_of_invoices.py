"""Who e-mails an invoice is a setting for each account: Stripe, or this service, and never both."""

from dataclasses import replace

import pytest
from mail_server import MailServer
from mailing import certificate, mail, mailing
from service import Service, eventually
from sqlalchemy import select

import billing
from billing import database
from billing.explain import explain_one
from billing.tables.entities import Email, Invoice
from jobs.config.settings import Settings

__all__ = ["certificate", "mail"]


@pytest.fixture
def own(service: Service) -> Service:
    """A service that e-mails invoices itself."""
    service.call_settings = replace(service.call_settings, mails_invoices=lambda _account: True)
    return service


def emails(service: Service) -> list[Email]:
    with database.transaction(service.engine) as session:
        return list(session.scalars(select(Email).order_by(Email.id)))


def test_a_finalized_invoice_is_handed_to_our_own_email_once_and_stripe_sends_nothing(
    own: Service, mail: MailServer
) -> None:
    customer = own.customer()
    invoice = own.ask_for_invoice(customer, correlation_id="order-42")
    assert own.settle(invoice) == ["sent"]
    at_stripe = own.row(Invoice, invoice).stripe_invoice
    assert own.topics(invoice)[-2:] == ["finalized", "sent"]
    assert own.effects("invoice.sent") == []
    assert own.posts("/send") == []
    (email,) = emails(own)
    assert (email.template, email.recipient, email.data) == ("invoice", customer, {"invoice": at_stripe})
    assert (email.request_id, email.correlation_id) == (f"{invoice}:invoice_email", "order-42")
    assert own.settle(email.id, gateway=mailing(own, mail)) == ["sent"]
    ((recipients, message),) = mail.received
    assert recipients == ["test@example.com"]
    assert message["Subject"].startswith("Invoice ")
    with database.transaction(own.engine) as session:
        assert explain_one(session, invoice).request["email"] == f"{email.id} sent"


def test_by_default_stripe_sends_it_and_this_service_does_not(service: Service) -> None:
    assert service.settle(service.ask_for_invoice()) == ["sent"]
    assert len(service.effects("invoice.sent")) == 1
    assert emails(service) == []


def test_an_invoice_that_is_paid_by_its_finalizing_or_is_charged_gets_no_email(own: Service) -> None:
    nothing = [
        billing.Line("fee", billing.Money(500, "EUR")),
        billing.Line("gift", billing.Money(500, "EUR"), credit=True),
    ]
    paid = own.ask_for_invoice(lines=nothing)
    charged = own.ask_for_invoice(collect=billing.ChargeAutomatically())
    own.settle(paid, charged)
    assert own.status(paid).state == "paid"
    assert emails(own) == []


def test_one_that_a_worker_of_an_older_version_has_finalized_is_sent_by_stripe(service: Service) -> None:
    invoice = service.ask_for_invoice()

    def finalized() -> bool:
        service.relay.round()
        call = next(iter(service.prepared("invoices").values()), None)
        if call is not None:
            service.report(call)
        return service.status(invoice).state == "finalized"

    eventually(finalized, "it is finalized")
    service.call_settings = replace(service.call_settings, mails_invoices=lambda _account: True)
    service.age(invoice, 60)

    def sent() -> bool:
        service.age(invoice, 60)
        service.execute("UPDATE billing.work SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")
        service.relay.round()
        service.work_off("invoices")
        return service.status(invoice).state == "sent"

    eventually(sent, "it is sent")
    assert (len(service.effects("invoice.sent")), emails(service)) == (1, [])


def test_after_a_lost_answer_to_finalizing_a_look_begins_the_email(own: Service) -> None:
    own.standin.add_fault("drop_after_commit", path=r"/finalize$", method="POST", times=1)
    invoice = own.ask_for_invoice()
    assert own.settle(invoice) == ["sent"]
    assert len(emails(own)) == 1
    assert own.posts("/send") == []


@pytest.mark.parametrize(
    ("written", "ours", "connected", "other"),
    [
        ("stripe", False, False, False),
        ("own", True, True, True),
        ("stripe,acct_1=own", False, True, False),
        ("own, acct_1=stripe", True, False, True),
    ],
)
def test_the_setting_names_each_account(written: str, ours: bool, connected: bool, other: bool) -> None:
    settings = Settings.model_validate(
        {"environment": "test", "database_url": "postgresql://u:p@127.0.0.1/x", "invoice_emails": written}
    )
    assert [settings.mails_invoices(each) for each in (None, "acct_1", "acct_2")] == [ours, connected, other]


@pytest.mark.parametrize("written", ["", "both", "acct_1=own", "own,acct_1", "own,acct_1=both", "stripe;acct_1=own"])
def test_a_setting_that_says_something_else_stops_the_process(written: str) -> None:
    with pytest.raises(ValueError, match="invoice_emails"):
        Settings.model_validate(
            {"environment": "test", "database_url": "postgresql://u:p@127.0.0.1/x", "invoice_emails": written}
        )
