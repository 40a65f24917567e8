"""The invoices among the moves of `deaths.py`: the kinds that differ in their calls, and what must be true of each."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

from deaths import Move
from keeping import keeping, objects, row_of
from mail_server import MailServer
from service import Service
from sqlalchemy import select
from test_killed_emails import one_or_a_recorded_unknown

import billing
from archive.s3.store import Store
from billing import database
from billing.begun_emails import request_id_of
from billing.invoice_emails import NAME
from billing.tables.documents import Document
from billing.tables.entities import MAX_LINES, Email, Invoice

CREATE, ADD_LINES, FINALIZE, SEND, PAY = "/v1/invoices", "/add_lines", "/finalize", "/send", "/pay"
MADE = (CREATE, ADD_LINES, FINALIZE)
EUR = "EUR"


def one_invoice(service: Service, operation: str, *, ends: Mapping[str, int], total: int, calls: int = 1) -> None:
    """Exactly one draft survived, got its lines by as many calls, and has been finalized once with this total. `ends`:
    how often each other effect has happened."""
    invoice = service.row(Invoice, operation)
    made = {each["id"] for each in service.effects("invoice.created") if is_of(each, operation)}
    assert made - {each["id"] for each in service.effects("invoice.deleted")} == {invoice.stripe_invoice}
    assert len(service.effects("invoice.lines_added", invoice.stripe_invoice)) == calls
    assert [each["amount"] for each in service.effects("invoice.finalized", invoice.stripe_invoice)] == [total]
    assert invoice.final_minor == total
    assert invoice.number
    for kind, times in ends.items():
        assert len(service.effects(kind, invoice.stripe_invoice)) == times, kind
    shown = service.read_list(f"/v1/invoices/{invoice.stripe_invoice}/lines")
    lines = [line["metadata"]["billing_line"] for line in shown]
    assert lines == [str(number) for number in range(len(lines))]
    told = Counter(service.topics(operation))
    assert (told["drafted"], told["lines_added"], told["finalized"]) == (1, 1, 1)
    assert told[invoice.state] == 1


def is_of(effect: Mapping[str, Any], operation: str) -> bool:
    return bool(effect["metadata"].get("billing_operation") == operation)


# An invoice of two amounts, and how it may end.


def _with_a_balance(service: Service) -> str:
    customer = service.customer()
    service.by_hand(f"/v1/customers/{customer}/balance_transactions", "amount=-9000000&currency=eur")
    return service.ask_for_invoice(customer)


def _charged(card: str = "pm_card_visa") -> Callable[[Service], str]:
    return lambda service: service.ask_for_invoice(service.payer(card)[0], collect=billing.ChargeAutomatically())


def _paid_once(service: Service, operation: str) -> None:
    one_invoice(service, operation, ends={"invoice.sent": 0, "invoice.paid": 1}, total=4501)
    invoice = service.row(Invoice, operation)
    payments = service.read_list("/v1/invoice_payments", invoice=invoice.stripe_invoice)
    assert [each["amount_paid"] for each in payments] == [4501]
    assert (invoice.paid_minor, invoice.attempts) == (4501, 1)
    assert service.posts(SEND) == []


def _declined_once(service: Service, operation: str) -> None:
    one_invoice(service, operation, ends={"invoice.sent": 0, "invoice.paid": 0}, total=4501)
    failed = service.read_list("/v1/events", type="invoice.payment_failed")
    at_stripe = service.row(Invoice, operation).stripe_invoice
    assert len([each for each in failed if each["data"]["object"]["id"] == at_stripe]) == 1


def _of_a_capture(service: Service) -> str:
    return service.ask_for_invoice_of_capture(service.captured_one(), service.customer())


def _asks_for_nothing(service: Service, operation: str) -> None:
    one_invoice(service, operation, ends={"invoice.sent": 0, "invoice.paid_out_of_band": 1}, total=1999)
    at_stripe = service.row(Invoice, operation).stripe_invoice
    assert service.read_list("/v1/invoice_payments", invoice=at_stripe, status="paid") == []


def _without_an_address(service: Service) -> str:
    return service.ask_for_invoice(service.by_hand("/v1/customers", "name=Test"))


def _refused(service: Service, operation: str) -> None:
    """A refusal that nobody saw is replayed, looked into, and had anew under a new key."""
    assert service.topics(operation).count("refused") == 1
    assert service.effects("invoice.created") == []


# An invoice of 250 lines in three calls, with everything that changes an amount.


def _with_everything(service: Service) -> str:
    vat = service.by_hand("/v1/tax_rates", "display_name=VAT&percentage=19&inclusive=false")
    own = service.by_hand("/v1/tax_rates", "display_name=VAT&percentage=7&inclusive=true")
    half = service.by_hand("/v1/coupons", f"id=co_{uuid4().hex}&percent_off=50")
    lines = [
        billing.Line("a credit", billing.Money(7, EUR), credit=True),
        billing.Line("units", unit_amount=billing.UnitAmount("12.5", EUR), quantity=3, tax_rates=[own]),
        *(billing.Line(f"item {number}", billing.Money(2 * number, EUR)) for number in range(1, MAX_LINES - 1)),
    ]
    terms = billing.InvoiceTerms(memo="Thank you.", tax_rates=[vat], discounts=[half], total_minor=WITH_EVERYTHING)
    return service.ask_for_invoice(lines=lines, terms=terms)


WITH_EVERYTHING = 36_755
"""Half of 38 and of each amount, and 19 % of each half amount, rounded by itself; less the credit and its tax."""


def _nothing_to_pay(service: Service) -> str:
    lines = [
        billing.Line("a seat", billing.Money(500, EUR)),
        billing.Line("back", billing.Money(500, EUR), credit=True),
    ]
    return service.ask_for_invoice(lines=lines)


def _ends(total: int, *, calls: int = 1, **ends: int) -> Callable[[Service, str], None]:
    """One invoice with this total. `ends`: how often it was `sent`, `paid` and so on."""
    effects = {f"invoice.{kind}": times for kind, times in ends.items()}
    return lambda service, operation: one_invoice(service, operation, ends=effects, total=total, calls=calls)


SENT = {"invoice.sent": 1, "invoice.paid": 0}
INVOICES = (
    Move("invoice", "invoices", Service.ask_for_invoice, "sent", _ends(4501, sent=1, paid=0), (*MADE, SEND)),
    Move(
        "invoice of 250 lines with terms",
        *("invoices", _with_everything, "sent", _ends(WITH_EVERYTHING, calls=3, sent=1, paid=0)),
        (CREATE, *[ADD_LINES] * 3, FINALIZE, SEND),
        takes_long=True,
    ),
    Move("invoice that comes to nothing", "invoices", _nothing_to_pay, "paid", _ends(0, sent=0), MADE),
    Move("invoice that a credit balance pays", "invoices", _with_a_balance, "paid", _ends(4501, sent=0), MADE),
    Move("invoice that is charged", "invoices", _charged(), "paid", _paid_once, (*MADE, PAY)),
    Move(
        "invoice whose charge is declined",
        *("invoices", _charged("pm_card_chargeCustomerFail"), "unpaid", _declined_once, (*MADE, PAY)),
    ),
    Move("invoice of what was captured", "invoices", _of_a_capture, "paid", _asks_for_nothing, (*MADE, PAY)),
    Move("invoice that Stripe refuses", "invoices", _without_an_address, "refused", _refused, (CREATE,)),
)


def invoice_that_we_e_mail_and_keep(mail: MailServer, store: Store) -> Move:
    """Handed to our own e-mail in the commit that learns that it is finalized, whoever died around that: each comes
    once. How workers die at those, `test_killed_emails.py` and `document_deaths.py` go through. Where the machine is so
    busy that the mail server answers too late, it is recorded that nobody knows whether the e-mail was sent."""

    def ask(service: Service) -> str:
        ours = replace(service.call_settings, mails_invoices=lambda _account: True, keeps_documents=True)
        service.call_settings = ours
        return service.ask_for_invoice()

    def each_came_once(service: Service, operation: str) -> None:
        one_invoice(service, operation, ends={"invoice.sent": 0, "invoice.paid": 0}, total=4501)
        with database.transaction(service.engine) as session:
            (email,) = session.scalars(select(Email.id).where(Email.request_id == request_id_of(operation, NAME)))
            (document,) = session.scalars(select(Document.id).where(Document.invoice_id == operation))
        one_or_a_recorded_unknown(service, mail, email)
        assert service.settle(document, gateway=keeping(service, store)) == ["stored"]
        assert objects(store).count(str(row_of(service, document).object_key)) == 1
        assert service.posts(SEND) == []

    return Move("invoice that we e-mail and keep", "invoices", ask, "sent", each_came_once, MADE)
