"""An e-mail that shows an invoice: it is read when the e-mail is sent, from Stripe, and kept nowhere."""

from typing import Any

from mail_server import MailServer
from mailing import ask_for_email, certificate, everything, mail, mailing, turn
from service import Service

import billing
from billing.tables.entities import Invoice

__all__ = ["certificate", "mail"]


def issued(service: Service, customer: str, lines: int = 2) -> str:
    """Stripe's id of an invoice that was issued."""
    asked = [
        billing.Line(f"Line {n} for Anna Muster", unit_amount=billing.UnitAmount("1250.5", "EUR"), quantity=2)
        for n in range(1, lines + 1)
    ]
    invoice = service.ask_for_invoice(customer, asked)
    assert service.settle(invoice) == ["sent"]
    return str(service.row(Invoice, invoice).stripe_invoice)


def page_of(mail: MailServer, email: str) -> str:
    (message,) = mail.of(email)
    page = message.get_body(("html",))
    assert page is not None
    return str(page.get_content())


def ask(service: Service, customer: str, invoice: str, **more: Any) -> str:
    return ask_for_email(service, customer, template="invoice", data={"invoice": invoice}, **more)


def test_an_invoice_of_250_lines_is_read_from_stripe_and_shown_in_order(service: Service, mail: MailServer) -> None:
    customer = service.customer()
    email = ask(service, customer, issued(service, customer, 250))
    assert service.settle(email, gateway=mailing(service, mail)) == ["sent"]
    page = page_of(mail, email)
    places = [page.index(f"Line {n} for Anna Muster<") for n in range(1, 251)]
    assert places == sorted(places)
    assert "2 × €12.505" in page
    assert "€6,252.50" in page
    # The lines are the customer's; here they stand in the invoice's own rows, and nowhere else.
    service.execute("DELETE FROM billing.invoice_lines")
    assert "Anna Muster" not in everything(service)
    # The stand-in's pages are not at Stripe's address.
    assert "<a " not in page


def test_an_invoice_of_somebody_else_is_never_sent(service: Service, mail: MailServer) -> None:
    mine, other = service.customer(), service.customer()
    email = ask(service, mine, issued(service, other))
    assert service.settle(email, gateway=mailing(service, mail)) == ["refused"]
    assert (service.status(email).reason, mail.received) == ("invoice_of_another_customer", [])


def test_an_invoice_that_is_not_there_or_not_open_is_refused(service: Service, mail: MailServer) -> None:
    customer = service.customer()
    voided = issued(service, customer)
    service.by_hand(f"/v1/invoices/{voided}/void")
    draft = service.by_hand("/v1/invoices", f"customer={customer}")
    emails = [ask(service, customer, each) for each in (voided, draft, "in_unknown1", "order-42")]
    assert service.settle(*emails, gateway=mailing(service, mail)) == ["refused"] * 4
    reasons = [service.status(each).reason for each in emails]
    assert reasons == ["invoice_not_open", "invoice_not_open", "no_such_invoice", "no_such_invoice"]
    assert mail.received == []


def test_while_stripe_does_not_show_the_invoice_the_email_waits(service: Service, mail: MailServer) -> None:
    customer = service.customer()
    email = ask(service, customer, issued(service, customer))
    service.standin.add_fault("502_html", path=r"/v1/invoices/", method="GET", times=1)
    turn(service, mailing(service, mail))
    assert (service.status(email).state, mail.received) == ("in_progress", [])
    assert service.settle(email, gateway=mailing(service, mail)) == ["sent"]
    assert len(mail.of(email)) == 1


def test_a_template_of_the_application_may_show_an_invoice_too(
    service: Service, mail: MailServer, tmp_path: Any
) -> None:
    (tmp_path / "mine.txt").write_text("Subject: {{ invoice.number }}\n\n{{ invoice.left|money }}\n")
    (tmp_path / "mine.html").write_text("<p>{{ invoice.lines[0].description }}</p>")
    customer = service.customer()
    email = ask_for_email(service, customer, template="mine", data={"invoice": issued(service, customer)})
    assert service.settle(email, gateway=mailing(service, mail, templates=str(tmp_path))) == ["sent"]
    assert "Line 1 for Anna Muster" in page_of(mail, email)
