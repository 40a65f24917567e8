"""Invoices with all that a real one has: sent as asked, compared before they are finalized, recorded as Stripe
reckons."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from service import Service, Through
from sqlalchemy import text

import billing
from billing import database
from billing.gateway import Answer, Request, Response
from billing.tables.entities import Invoice

EUR = "EUR"


@pytest.fixture
def vat(service: Service) -> str:
    return service.by_hand("/v1/tax_rates", "display_name=VAT&percentage=19&inclusive=false")


@pytest.fixture
def coupon(service: Service) -> str:
    return service.by_hand("/v1/coupons", "id=co_1&percent_off=12.5")


@pytest.fixture
def price(service: Service) -> str:
    return service.by_hand("/v1/prices", "currency=eur&unit_amount_decimal=12.3456&product_data[name]=support")


def amount(minor: int, **more: Any) -> billing.Line:
    return billing.Line("an item", billing.Money(minor, EUR), **more)


def unit(of: str, quantity: int, **more: Any) -> billing.Line:
    return billing.Line("units", unit_amount=billing.UnitAmount(of, EUR), quantity=quantity, **more)


def reckoned(service: Service, invoice: str) -> tuple[int | None, ...]:
    row = service.row(Invoice, invoice)
    return row.subtotal_minor, row.discount_minor, row.tax_minor, row.reckoned_minor


def test_an_invoice_with_everything_is_sent_as_asked_and_recorded_as_stripe_reckons_it(
    service: Service, vat: str, coupon: str, price: str
) -> None:
    """[33, 48]"""
    inside = service.by_hand("/v1/tax_rates", "display_name=VAT&percentage=7&inclusive=true")
    month = (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC))
    due = datetime(2027, 1, 31, 12, tzinfo=UTC)
    invoice = service.ask_for_invoice(
        lines=[
            unit("1500", 3, period=month),
            unit("0.0125", 48_000),
            billing.Line("support", price=price, quantity=7, tax_rates=[inside]),
            amount(1000),
            amount(500, credit=True),
        ],
        collect=billing.SendInvoice(due_date=due),
        terms=billing.InvoiceTerms(
            memo="Thank you",
            footer="VAT 1",
            custom_fields={"team": "red"},
            purchase_order="4711",
            tax_rates=[vat],
            discounts=[coupon],
        ),
    )
    assert service.settle(invoice) == ["sent"]
    # 4500 + 600 + round(7 x 12.3456) + 1000 - 500; 12.5 % of all but the credit; 19 % of what is left, line by line.
    assert reckoned(service, invoice) == (5686, 773, 919, 5832)
    (told,) = [fact.payload for fact in service.facts(invoice) if fact.topic == "invoice.lines_added"]
    assert {name: told[name] for name in ("minor", "subtotal_minor", "discount_minor", "tax_minor")} == {
        "minor": 5832,
        "subtotal_minor": 5686,
        "discount_minor": 773,
        "tax_minor": 919,
    }
    assert [fact.payload["minor"] for fact in service.facts(invoice) if fact.topic == "invoice.sent"] == [5832]
    assert [effect["amount"] for effect in service.effects("invoice.finalized")] == [5832]


def test_the_lines_of_one_that_stripe_does_not_reckon_are_compared_to_the_last_minor_unit(service: Service) -> None:
    invoice = service.ask_for_invoice(lines=[unit("0.5", 1), unit("0.5", 3), amount(100), amount(3, credit=True)])
    assert service.settle(invoice) == ["sent"]
    row = service.row(Invoice, invoice)
    assert (row.total_minor, row.subtotal_minor) == (1 + 2 + 100 - 3, None)


FALSE: dict[str, Callable[[dict[str, Any]], None]] = {
    "lines.0.quantity: expected 3, found 4": lambda invoice: invoice["lines"]["data"][0].update(quantity=4),
    "lines.0.amount: expected 4500, found 4499": lambda invoice: invoice["lines"]["data"][0].update(amount=4499),
    "lines.1.price_details.price: expected": lambda invoice: invoice["lines"]["data"][1]["pricing"][
        "price_details"
    ].update(price="price_other"),
    "discounts: expected 1, found 0": lambda invoice: invoice.update(total_discount_amounts=[]),
    "total: expected 4775, found 4732": lambda invoice: invoice.update(total=4732),
    "subtotal: expected 4586, found 4585": lambda invoice: invoice.update(subtotal=4585),
    "currency: expected eur, found usd": lambda invoice: invoice.update(currency="usd"),
}


@pytest.mark.parametrize("reason", FALSE)
def test_what_stripe_shows_otherwise_than_asked_is_never_finalized(
    service: Service, vat: str, coupon: str, price: str, reason: str
) -> None:
    """[33, 62]"""

    def lie(request: Request, answer: Answer) -> Answer:
        shows = request.path.endswith("/add_lines") or (request.method == "GET" and request.path.count("/") == 3)
        if not shows or not isinstance(answer, Response) or "lines" not in (answer.data or {}):
            return answer
        data = _copied(dict(answer.data or {}))
        FALSE[reason](data)
        return replace(answer, data=data)

    invoice = service.ask_for_invoice(
        lines=[unit("1500", 3), billing.Line("support", price=price, quantity=7)],
        terms=billing.InvoiceTerms(tax_rates=[vat], discounts=[coupon]),
    )
    assert service.settle(invoice, gateway=Through(service, lie)) == ["refused"]
    assert reason in (service.status(invoice).reason or "")
    assert service.effects("invoice.finalized") == []
    assert len(service.effects("invoice.deleted")) == 1


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(each) for name, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


def test_a_tax_that_nobody_asked_for_is_not_accepted_of_an_invoice_with_prices(service: Service, price: str) -> None:
    def taxed(request: Request, answer: Answer) -> Answer:
        if not isinstance(answer, Response) or "lines" not in (answer.data or {}) or request.path == "/v1/invoices":
            return answer
        data = dict(answer.data or {})
        data |= {"total": data["total"] + 5, "total_taxes": [{"amount": 5, "tax_behavior": "exclusive"}]}
        return replace(answer, data=data)

    invoice = service.ask_for_invoice(lines=[billing.Line("support", price=price), amount(5)])
    assert service.settle(invoice, gateway=Through(service, taxed)) == ["refused"]
    assert "tax: expected none, found 5" in (service.status(invoice).reason or "")


@pytest.mark.parametrize(("expected", "ends"), [(1190, "sent"), (1191, "refused")])
def test_the_total_that_is_expected_must_be_what_stripe_reckons(
    service: Service, vat: str, expected: int, ends: str
) -> None:
    terms = billing.InvoiceTerms(tax_rates=[vat], total_minor=expected)
    invoice = service.ask_for_invoice(lines=[amount(1000)], terms=terms)
    assert service.settle(invoice) == [ends]
    if ends == "refused":
        assert "total: expected 1191 (total_minor), found 1190" in (service.status(invoice).reason or "")
        assert service.effects("invoice.finalized") == []


FREE: dict[str, dict[str, Any]] = {
    "credits take all of it": {"lines": [amount(500), amount(500, credit=True)]},
    "units cost nothing": {"lines": [unit("0", 7)]},
    "a coupon takes all of it": {"lines": [amount(500)], "terms": "coupon"},
}


@pytest.mark.parametrize("asked", FREE)
def test_a_total_of_nothing_is_paid_once_finalized_and_never_sent(service: Service, asked: str) -> None:
    given = dict(FREE[asked])
    if given.get("terms") == "coupon":
        given["terms"] = billing.InvoiceTerms(discounts=[service.by_hand("/v1/coupons", "id=co_1&percent_off=100")])
    invoice = service.ask_for_invoice(**given)
    assert service.settle(invoice) == ["paid"]
    assert service.row(Invoice, invoice).final_minor == 0
    assert service.topics(invoice)[-2:] == ["finalized", "paid"]
    assert service.posts("/send") == []


def test_stripe_tax_reckons_for_a_customer_whose_place_is_known_and_refuses_another(service: Service) -> None:
    at_home = service.by_hand("/v1/customers", "email=a%40example.com&address[country]=DE")
    terms = billing.InvoiceTerms(automatic_tax=True)
    lines = [amount(1000), unit("119", 1, tax_behavior="inclusive")]
    known = service.ask_for_invoice(at_home, lines, terms=terms)
    unknown = service.ask_for_invoice(lines=lines, terms=terms)
    assert service.settle(known, unknown) == ["sent", "refused"]
    assert reckoned(service, known) == (1119, 0, 190, 1309)
    assert service.status(unknown).reason == "customer_tax_location_invalid"
    assert len(service.effects("invoice.deleted")) == 1


NOT_THERE: dict[str, tuple[dict[str, Any], str]] = {
    "a coupon": ({"terms": billing.InvoiceTerms(discounts=["NOPE"])}, "resource_missing: discounts[0][coupon]"),
    "a tax rate": ({"terms": billing.InvoiceTerms(tax_rates=["txr_9"])}, "resource_missing: default_tax_rates[0]"),
    "a price": (
        {"lines": [billing.Line("a", price="price_9"), billing.Line("b", billing.Money(1, EUR))]},
        "resource_missing: lines[0][pricing][price]",
    ),
}


@pytest.mark.parametrize("what", NOT_THERE)
def test_what_stripe_does_not_know_refuses_the_invoice_by_its_name(service: Service, what: str) -> None:
    given, reason = NOT_THERE[what]
    invoice = service.ask_for_invoice(**given)
    assert service.settle(invoice) == ["refused"]
    assert service.status(invoice).reason == reason
    assert service.effects("invoice.finalized") == []


def test_a_customer_whose_address_is_gone_by_the_send_is_a_refusal_and_no_doubt(service: Service) -> None:
    """The invoice has its number by then, so it is reopened, and not made again."""
    customer = service.customer()

    def forget(request: Request, answer: Answer) -> Answer:
        if request.path.endswith("/add_lines"):
            service.by_hand(f"/v1/customers/{customer}", "email=")
        return answer

    invoice = service.ask_for_invoice(customer)
    assert service.settle(invoice, gateway=Through(service, forget)) == ["refused"]
    assert (service.status(invoice).reason or "").startswith("no_email: ")
    assert service.row(Invoice, invoice).number
    assert service.effects("invoice.sent") == []


HOSTILE = {
    "quantity": """{"unit_amount": "1", "quantity": "1&amount=9"}""",
    "float": """{"unit_amount": 1.5, "quantity": 1}""",
    "nested": """{"period": [{"a": 1}, 2]}""",
    "unknown": """{"currency": "usd"}""",
}


@pytest.mark.parametrize("details", HOSTILE.values(), ids=HOSTILE)
def test_details_that_an_application_wrote_otherwise_than_we_do_refuse_their_invoice(
    service: Service, details: str
) -> None:
    invoice = service.ask_for_invoice(lines=[amount(100)])
    service.execute(
        "UPDATE billing.invoice_lines SET details = CAST(:details AS jsonb) WHERE invoice_id = :id",
        id=invoice,
        details=details,
    )
    assert service.settle(invoice) == ["refused"]
    assert "details are not as billing.issue_invoice writes them" in (service.status(invoice).reason or "")
    assert service.posts("/v1/invoices") == []


def test_terms_that_an_application_wrote_otherwise_than_we_do_are_quarantined(service: Service) -> None:
    invoice = service.ask_for_invoice(lines=[amount(100)])
    service.execute("UPDATE billing.invoices SET terms = '{\"discounts\": [7]}' WHERE id = :id", id=invoice)
    service.plan()
    service.work_off("invoices")
    work = service.work(invoice)
    assert (work.state, "terms are not as billing" in (work.reason or "")) == ("quarantined", True)
    assert service.posts("/v1/invoices") == []


def test_a_total_that_does_not_agree_with_its_parts_cannot_even_be_stored(service: Service) -> None:
    invoice = service.ask_for_invoice(lines=[amount(100)])
    changed = "UPDATE billing.invoices SET reckoned_minor = 1, subtotal_minor = 100, discount_minor = 0, tax_minor = 0"
    with pytest.raises(Exception, match="reckoned_agrees"), database.transaction(service.engines["worker"]) as session:
        session.execute(text(f"{changed} WHERE id = :id"), {"id": invoice})
