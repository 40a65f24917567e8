"""Invoices with many lines, odd currencies and connected accounts end like any other, and so do those put back."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from service import Service, Through, eventually
from sqlalchemy import text

import billing
from billing import database
from billing.gateway import Answer, Request, Response
from billing.tables.entities import Invoice


def _ask(service: Service, count: int, currency: str = "EUR", minor: int = 100, **more: object) -> str:
    service._asked += 1
    with database.transaction(service.engine) as session:
        return billing.issue_invoice(
            session,
            customer=service.customer() if "customer" not in more else str(more.pop("customer")),
            lines=[billing.Line(f"seat {n}", billing.Money(minor * (n + 1), currency)) for n in range(count)],
            collect=billing.SendInvoice(days_until_due=14),
            request_id=f"lines-{service._asked}",
            **more,  # type: ignore[arg-type]
        ).invoice_id


@pytest.mark.parametrize("count", [10, 11, 99, 100])
def test_many_lines(service: Service, count: int) -> None:
    invoice = _ask(service, count)
    assert service.settle(invoice) == ["sent"]
    assert len(service.effects("invoice.lines_added")) == 1
    assert len(service.posts("/add_lines")) == 1


@pytest.mark.parametrize("currency", ["JPY", "ISK", "UGX", "KRW"])
def test_odd_currencies(service: Service, currency: str) -> None:
    invoice = _ask(service, 3, currency)
    assert service.settle(invoice) == ["sent"]


@pytest.mark.parametrize("fault", ["drop_after_commit", "500_with_effect", "500_saved"])
def test_many_lines_and_a_lost_answer(service: Service, fault: str) -> None:
    invoice = _ask(service, 25)
    service.standin.add_fault(fault, method="POST", path="/add_lines$", times=1)
    assert service.settle(invoice) == ["sent"]
    assert len(service.effects("invoice.lines_added")) == 1


def test_a_wrong_total_with_many_lines_is_deleted_as_one_with_few_is(service: Service) -> None:
    """Of more than ten lines an answer shows ten: the others are read before the total is compared."""
    few, many = _outcome(service, 3), _outcome(service, 12)
    assert few == "refused"
    assert many == "refused"


def _outcome(service: Service, count: int) -> str:
    from worker import KILLED, fork_worker, reap

    invoice = _ask(service, count)
    service.plan()
    assert reap(fork_worker(service, "invoices", at="commit.after:2")) == KILLED
    service.age(invoice, service.timing.lease_s)
    draft = service.row(Invoice, invoice).stripe_invoice
    service.by_hand(f"/v1/invoices/{draft}/add_lines", "lines[0][amount]=77&lines[0][description]=by hand")

    def decided() -> bool:
        service.relay.round()
        service.work_off("invoices")
        return service.status(invoice).final or service.status(invoice).state == "conflict"

    eventually(decided, "decided")
    return service.status(invoice).state


def uncollectible(request: Request, answer: Answer) -> Answer:
    """A finalized invoice reads as uncollectible, which can still be paid."""
    if isinstance(answer, Response) and request.method == "GET" and answer.data and answer.data.get("number"):
        data = {**answer.data, "status": "uncollectible"}
        return replace(answer, data=data, kept=json.dumps(data).encode())
    return answer


def test_an_invoice_that_was_finalized_at_stripe_is_never_made_a_second_time(service: Service) -> None:
    """The answer is lost and a person marks it uncollectible, which can still be paid: no reopening makes another."""
    invoice = service.ask_for_invoice()
    service.standin.add_fault("500_with_effect", method="POST", path="/finalize$", times=1)
    assert service.settle(invoice, gateway=Through(service, uncollectible)) == ["refused"]
    assert len(service.effects("invoice.finalized")) == 1
    service.reopen(invoice)
    service.settle(invoice)
    assert len(service.effects("invoice.finalized")) == 1, "two payable invoices for one request"


def test_a_connected_account_and_a_lost_answer(service: Service) -> None:
    """Captures and invoices of a connected account are found again under their account."""
    service.standin.add_fault("drop_after_commit", method="POST", path="(add_lines|finalize|send)$", times=3)
    customer = service.by_hand("/v1/customers", "name=T&email=t%40example.com", account="acct_shop1")
    invoice = _ask(service, 12, customer=customer, account="acct_shop1")
    assert service.settle(invoice) == ["sent"]
    assert len(service.effects("invoice.finalized")) == 1


# What an attacker passes, who may fill in names and texts, or calls the function.

EUR_5 = billing.Money(500, "EUR")
LINE = billing.Line("a seat", EUR_5)


def endless() -> Any:
    while True:
        yield LINE


REFUSED: dict[str, Callable[[], dict[str, Any]]] = {
    "no lines": lambda: {"lines": []},
    "251 lines": lambda: {"lines": [LINE] * 251},
    "lines without an end": lambda: {"lines": endless()},
    "lines by a name": lambda: {"lines": {"0": LINE}},
    "a total below zero": lambda: {"lines": [LINE, billing.Line("back", billing.Money(501, "EUR"), credit=True)]},
    "two currencies": lambda: {"lines": [LINE, billing.Line("a seat", billing.Money(500, "USD"))]},
    "another currency than was named": lambda: {"lines": [LINE], "currency": "JPY"},
    "more than Stripe takes in all": lambda: {"lines": [billing.Line("a", billing.Money(999_999_999_999, "EUR"))] * 2},
    "a customer that is a path": lambda: {"customer": "cus_1/../../charges"},
    "a customer with a line end": lambda: {"customer": "cus_1\r\nStripe-Account: acct_2"},
    "an account with a line end": lambda: {"account": "acct_1\r\nAuthorization: Bearer x"},
    "another kind of customer": lambda: {"customer": "pi_1"},
    "a request id with a person": lambda: {"request_id": "anna@example.org"},
    "a total of another sum": lambda: {"terms": billing.InvoiceTerms(total_minor=1)},
    "terms of another kind": lambda: {"terms": {"memo": "x", "auto_advance": True}},
    "a coupon that is a parameter": lambda: {"terms": billing.InvoiceTerms(discounts=["A&auto_advance=true"])},
    "a tax rate that is a path": lambda: {"terms": billing.InvoiceTerms(tax_rates=["txr_1/../x"])},
    "a price with a parameter": lambda: {"lines": [billing.Line("a", price="price_1&quantity=0")]},
    "NUL in a description": lambda: {"lines": [billing.Line("a\x00b", EUR_5)]},
    "half a surrogate": lambda: {"lines": [billing.Line("a\ud800", EUR_5)]},
    "an override of direction": lambda: {"lines": [billing.Line("\u202e001 RUE", EUR_5)]},
    "an escape for a terminal": lambda: {"terms": billing.InvoiceTerms(memo="\x1b]0;owned\x07")},
    "a megabyte": lambda: {"lines": [billing.Line("x" * 1_000_000, EUR_5)]},
    "a megabyte of memo": lambda: {"terms": billing.InvoiceTerms(memo="x" * 1_000_000)},
    "a megabyte of a number": lambda: {
        "lines": [billing.Line("a", unit_amount=billing.UnitAmount("9" * 10**6, "EUR"))]
    },
    "a number that takes for ever": lambda: {
        "lines": [billing.Line("a", unit_amount=billing.UnitAmount("1e999999999", "EUR"))]
    },
    "a card number in a field": lambda: {"terms": billing.InvoiceTerms(custom_fields={"card": "4242 4242 4242 4242"})},
    "a field with two lines in its name": lambda: {"terms": billing.InvoiceTerms(custom_fields={"a\x0bb": "c"})},
    "nothing that can be seen": lambda: {"lines": [billing.Line("\u200b \ufeff", EUR_5)]},
}


@pytest.mark.parametrize("bad", REFUSED)
def test_what_is_no_invoice_is_refused_by_name_and_nothing_is_written_or_sent(service: Service, bad: str) -> None:
    """[34, 37, 38]"""
    given = {
        "customer": "cus_1",
        "lines": [LINE],
        "collect": billing.SendInvoice(days_until_due=14),
        "request_id": "order-1",
    }
    with database.transaction(service.engines["application"]) as session:
        with pytest.raises(billing.InvalidRequest) as refused:
            billing.issue_invoice(session, **{**given, **REFUSED[bad]()})
        assert len(str(refused.value)) < 500, "it repeats no megabyte"
        assert "4242" not in str(refused.value)
        rows = "SELECT (SELECT count(*) FROM billing.invoices) + (SELECT count(*) FROM billing.invoice_lines)"
        assert session.execute(text(rows)).scalar_one() == 0, "and the caller's transaction is usable"
    service.plan()
    service.work_off("invoices")
    assert [kind for kind in ("invoice.created", "invoiceitem.created") if service.effects(kind)] == []


TEXTS = {
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "a template": "{{7*7}} ${7*7} #{7*7} {% for a in b %} %s %(a)s {0.__class__}",
    "further parameters": "a seat&lines[1][amount]=-499&auto_advance=true#?;=+%26%00",
    "a quotation": "'; DROP TABLE billing.invoices; -- \" \\ `id` $(id) |id",
    "a path": "../../etc/passwd file:///etc/passwd http://169.254.169.254/",
    "a formula": "=cmd|' /C calc'!A0",
    "a header": "a seat\nBcc: everybody@example.org\n\n.\nQUIT",
    "several languages": "مقاعد שלוש 席 \u200b👨‍👩‍👧 Ünï\u0301",
}
"""Texts that are harmless as text: they are kept as they are, and are nothing else anywhere."""


@pytest.mark.parametrize("what", TEXTS)
def test_a_text_stays_a_text_on_its_whole_way_to_stripe(service: Service, what: str) -> None:
    told = TEXTS[what]
    one_line = told.replace("\n", " ")
    invoice = service.ask_for_invoice(
        lines=[billing.Line(told, EUR_5), billing.Line(told, unit_amount=billing.UnitAmount("0.5", "EUR"), quantity=3)],
        terms=billing.InvoiceTerms(memo=told, footer=told, custom_fields={one_line[:40]: one_line[:140]}),
    )
    assert service.settle(invoice) == ["sent"]
    seen = service.standin_object(f"/v1/invoices/{service.row(Invoice, invoice).stripe_invoice}")
    assert (seen["total"], seen["auto_advance"], len(seen["lines"]["data"])) == (502, False, 2)
    assert [line["description"] for line in seen["lines"]["data"]] == [told, told]
    assert (seen["description"], seen["footer"]) == (told, told)
    assert seen["custom_fields"] == [{"name": one_line[:40].strip(), "value": one_line[:140].strip()}]
    assert all(told not in str(fact.payload) for fact in service.facts(invoice))


def test_a_customer_whom_stripe_does_not_know_gets_no_invoice_and_leaves_nothing_there(service: Service) -> None:
    for customer in ("cus_nobody", "cus_" + "0" * 200):
        invoice = service.ask_for_invoice(customer)
        assert service.settle(invoice) == ["refused"]
        assert "resource_missing: customer" in (service.status(invoice).reason or "")
    assert service.effects("invoice.created") == []


def test_a_customer_of_another_account_gets_no_invoice_of_ours(service: Service) -> None:
    theirs = service.by_hand("/v1/customers", "name=T&email=t%40example.com", account="acct_shop1")
    invoice = service.ask_for_invoice(theirs)
    assert service.settle(invoice) == ["refused"]
    assert service.effects("invoice.created") == []
