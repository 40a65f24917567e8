"""The kinds of invoices that are gone through death by death, and what must be true of each in the end.

`test_every_boundary.py` lets their workers die.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from service import Service
from sqlalchemy import select

import billing
from billing import database
from billing.begun_emails import request_id_of
from billing.invoice_emails import NAME
from billing.tables.documents import Document
from billing.tables.entities import MAX_LINES, Email, Invoice

CREATE, ADD_LINES, FINALIZE, SEND, PAY = "/v1/invoices", "/add_lines", "/finalize", "/send", "/pay"
EUR = "EUR"


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of invoice. `prepare` makes at Stripe what all of them need, and returns the arguments of each;
    `calls`: the ends of the paths that its worker posts to, and those that it `never` posts to; `end`: its state when
    it is done; `holds`: asserts what must be true then; `hands_on`: an e-mail and a document come after it."""

    name: str
    prepare: Callable[[Service], Mapping[str, Any]]
    end: str
    holds: Callable[[Service, str], None]
    calls: Sequence[str] = (CREATE, ADD_LINES, FINALIZE, SEND)
    never: Sequence[str] = ()
    takes_long: bool = False
    hands_on: bool = False
    ask: Callable[..., str] = Service.ask_for_invoice


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


def _plain(service: Service) -> Mapping[str, Any]:
    return {"customer": service.customer()}


def _mailed_and_kept_by_us(service: Service) -> Mapping[str, Any]:
    service.call_settings = replace(service.call_settings, mails_invoices=lambda _account: True, keeps_documents=True)
    return {"customer": service.customer()}


def _begins_one_of_each(service: Service, operation: str) -> None:
    """In the commit that learned that it is finalized, whoever died around it."""
    one_invoice(service, operation, ends={"invoice.sent": 0, "invoice.paid": 0}, total=4501)
    (email,), (document,) = handed_on(service, operation)
    assert (service.topics(email), service.topics(document)) == (["requested"], ["requested"])


def handed_on(service: Service, operation: str) -> tuple[list[str], list[str]]:
    """The e-mails and the documents of this invoice."""
    emails = select(Email.id).where(Email.request_id == request_id_of(operation, NAME))
    documents = select(Document.id).where(Document.invoice_id == operation)
    with database.transaction(service.engine) as session:
        return list(session.scalars(emails)), list(session.scalars(documents))


def _with_a_balance(service: Service) -> Mapping[str, Any]:
    customer = service.customer()
    service.by_hand(f"/v1/customers/{customer}/balance_transactions", "amount=-9000000&currency=eur")
    return {"customer": customer}


def _charged(service: Service) -> Mapping[str, Any]:
    return {"customer": service.payer()[0], "collect": billing.ChargeAutomatically()}


def _charged_in_vain(service: Service) -> Mapping[str, Any]:
    return {"customer": service.payer("pm_card_chargeCustomerFail")[0], "collect": billing.ChargeAutomatically()}


def _paid_once(service: Service, operation: str) -> None:
    one_invoice(service, operation, ends={"invoice.sent": 0, "invoice.paid": 1}, total=4501)
    invoice = service.row(Invoice, operation)
    payments = service.read_list("/v1/invoice_payments", invoice=invoice.stripe_invoice)
    assert [each["amount_paid"] for each in payments] == [4501]
    assert (invoice.paid_minor, invoice.attempts) == (4501, 1)


def _declined_once(service: Service, operation: str) -> None:
    one_invoice(service, operation, ends={"invoice.sent": 0, "invoice.paid": 0}, total=4501)
    failed = service.read_list("/v1/events", type="invoice.payment_failed")
    at_stripe = service.row(Invoice, operation).stripe_invoice
    assert len([each for each in failed if each["data"]["object"]["id"] == at_stripe]) == 1


def _captured(service: Service) -> Mapping[str, Any]:
    captures = [service.ask_for_capture(intent) for intent in service.intents(CAPTURES)]
    assert set(service.settle(*captures)) == {"captured"}
    return {"customer": service.customer(), "captures": iter(captures)}


CAPTURES = 100
"""More than any run has deaths."""


def _of_a_capture(service: Service, customer: str, captures: Iterator[str]) -> str:
    return service.ask_for_invoice_of_capture(next(captures), customer)


def _asks_for_nothing(service: Service, operation: str) -> None:
    one_invoice(service, operation, ends={"invoice.sent": 0, "invoice.paid_out_of_band": 1}, total=1999)
    at_stripe = service.row(Invoice, operation).stripe_invoice
    assert service.read_list("/v1/invoice_payments", invoice=at_stripe, status="paid") == []


def _without_an_address(service: Service) -> Mapping[str, Any]:
    return {"customer": service.by_hand("/v1/customers", "name=Test")}


def _refused(service: Service, operation: str) -> None:
    """A refusal that nobody saw is replayed, looked into, and had anew under a new key."""
    assert service.topics(operation).count("refused") == 1
    assert service.effects("invoice.created") == []


# An invoice of 250 lines in three calls, with everything that changes an amount.


def _with_everything(service: Service) -> Mapping[str, Any]:
    vat = service.by_hand("/v1/tax_rates", "display_name=VAT&percentage=19&inclusive=false")
    own = service.by_hand("/v1/tax_rates", "display_name=VAT&percentage=7&inclusive=true")
    service.by_hand("/v1/coupons", "id=co_half&percent_off=50")
    lines = [
        billing.Line("a credit", billing.Money(7, EUR), credit=True),
        billing.Line("units", unit_amount=billing.UnitAmount("12.5", EUR), quantity=3, tax_rates=[own]),
        *(billing.Line(f"item {number}", billing.Money(2 * number, EUR)) for number in range(1, MAX_LINES - 1)),
    ]
    terms = billing.InvoiceTerms(memo="Thank you.", tax_rates=[vat], discounts=["co_half"], total_minor=WITH_EVERYTHING)
    return {"customer": service.customer(), "lines": lines, "terms": terms}


WITH_EVERYTHING = 36_755
"""Half of 38 and of each amount, and 19 % of each half amount, rounded by itself; less the credit and its tax."""


def _nothing_to_pay(service: Service) -> Mapping[str, Any]:
    lines = [
        billing.Line("a seat", billing.Money(500, EUR)),
        billing.Line("back", billing.Money(500, EUR), credit=True),
    ]
    return {"customer": service.customer(), "lines": lines}


SENT = {"invoice.sent": 1, "invoice.paid": 0}
CASES = (
    Case("invoice", _plain, "sent", lambda service, each: one_invoice(service, each, ends=SENT, total=4501)),
    Case(
        "invoice that we e-mail and keep",
        _mailed_and_kept_by_us,
        "sent",
        _begins_one_of_each,
        calls=(CREATE, ADD_LINES, FINALIZE),
        never=(SEND,),
        hands_on=True,
    ),
    Case(
        "invoice of 250 lines with terms",
        _with_everything,
        "sent",
        lambda service, each: one_invoice(service, each, ends=SENT, total=WITH_EVERYTHING, calls=3),
        takes_long=True,
    ),
    Case(
        "invoice that comes to nothing",
        _nothing_to_pay,
        "paid",
        lambda service, each: one_invoice(service, each, ends={"invoice.sent": 0}, total=0),
        calls=(CREATE, ADD_LINES, FINALIZE),
        never=(SEND,),
    ),
    Case(
        "invoice that a credit balance pays",
        _with_a_balance,
        "paid",
        lambda service, each: one_invoice(service, each, ends={"invoice.sent": 0}, total=4501),
        calls=(CREATE, ADD_LINES, FINALIZE),
        never=(SEND,),
    ),
    Case(
        "invoice that is charged", _charged, "paid", _paid_once, calls=(CREATE, ADD_LINES, FINALIZE, PAY), never=(SEND,)
    ),
    Case(
        "invoice whose charge is declined",
        _charged_in_vain,
        "unpaid",
        _declined_once,
        calls=(CREATE, ADD_LINES, FINALIZE, PAY),
        never=(SEND,),
    ),
    Case(
        "invoice of what was captured",
        _captured,
        "paid",
        _asks_for_nothing,
        calls=(CREATE, ADD_LINES, FINALIZE, PAY),
        never=(SEND,),
        ask=_of_a_capture,
    ),
    Case("invoice that Stripe refuses", _without_an_address, "refused", _refused, calls=(CREATE,), never=(FINALIZE,)),
)
