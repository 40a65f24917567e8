"""What an invoice may have beside amounts: checked before anything is written, and shared by a repeated request."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from test_issue_invoice import ask, rows
from test_request_capture import still_usable

import billing
from billing.tables.entities import Invoice, InvoiceLine
from billing.tables.facts import Fact

EUR_5 = billing.Money(500, "EUR")
UNIT = billing.UnitAmount("0.5", "EUR")
CARD = "4242424242424242"
NOW = datetime(2026, 11, 1, tzinfo=UTC)

LINES: list[tuple[dict[str, Any], str]] = [
    ({}, "must be billing.Money, not NoneType; or pass unit_amount or price"),
    ({"amount": EUR_5, "price": "price_1"}, "has one of amount, unit_amount and price, not amount and price"),
    ({"unit_amount": EUR_5}, "must be billing.UnitAmount, not Money"),
    ({"amount": EUR_5, "quantity": 2}, "quantity belongs to unit_amount or price"),
    ({"unit_amount": UNIT, "quantity": 0}, "must be a whole number from 1 to"),
    ({"unit_amount": UNIT, "quantity": True}, "must be a whole number from 1 to"),
    ({"unit_amount": UNIT, "quantity": 2.0}, "must be a whole number from 1 to"),
    ({"unit_amount": UNIT, "credit": True}, "belongs to an amount"),
    ({"amount": EUR_5, "credit": 1}, "must be True or False"),
    ({"amount": EUR_5, "tax_behavior": "inclusive"}, "belongs to unit_amount"),
    ({"unit_amount": UNIT, "tax_behavior": "both"}, "must be 'exclusive' or 'inclusive'"),
    ({"price": "prod_1"}, "must be the id of a price, price_..."),
    ({"price": "price_1/../x"}, "must be the id of a price, price_..."),
    ({"amount": EUR_5, "tax_rates": "txr_1"}, "must be a list of ids, not str"),
    ({"amount": EUR_5, "tax_rates": ["txr_1", "txr_1"]}, "at most 10 ids, each once"),
    ({"amount": EUR_5, "tax_rates": [f"txr_{n}" for n in range(11)]}, "at most 10 ids, each once"),
    ({"amount": EUR_5, "tax_rates": ["19 %"]}, "must be the id of tax rates, txr_..."),
    ({"amount": EUR_5, "period": NOW}, "two times with a time zone"),
    ({"amount": EUR_5, "period": (NOW, NOW - timedelta(days=1))}, "must end at its start or later"),
    ({"amount": EUR_5, "period": (NOW, datetime(2026, 12, 1))}, "two times with a time zone"),  # noqa: DTZ001
    ({"unit_amount": billing.UnitAmount(10**12 - 1, "EUR"), "quantity": 2}, "must be at most"),
    ({"unit_amount": billing.UnitAmount("12.5", "ISK"), "quantity": 3}, "must be divisible by 100"),
]
TERMS: list[tuple[dict[str, Any], str]] = [
    ({"memo": ""}, "must be 1 to 1500 characters"),
    ({"memo": "x" * 1501}, "must be 1 to 1500 characters"),
    ({"memo": f"pay with {CARD}"}, "a card number"),
    ({"footer": "a\x00b"}, "must not hold the control character"),
    ({"purchase_order": "x" * 141}, "must be 1 to 140 characters"),
    ({"custom_fields": ["a"]}, "must map texts to texts, not be list"),
    ({"custom_fields": {"n" * 41: "v"}}, "must be 1 to 40 characters"),
    ({"custom_fields": {"n": "v" * 141}}, "must be 1 to 140 characters"),
    ({"custom_fields": {str(n): "v" for n in range(5)}}, "must be at most 4"),
    ({"custom_fields": {str(n): "v" for n in range(4)}, "purchase_order": "1"}, "must be at most 4"),
    ({"automatic_tax": "yes"}, "must be True or False, not str"),
    ({"automatic_tax": True, "tax_rates": ["txr_1"]}, "exclude each other"),
    ({"discounts": ["10 %"]}, "must be the id of coupons"),
    ({"discounts": [CARD]}, "a card number"),
    ({"total_minor": -1}, "must not be negative"),
    ({"total_minor": 5.0}, "must be a whole number of minor units, not float"),
]


@pytest.mark.parametrize(("given", "rule"), LINES, ids=str)
def test_a_line_that_stripe_would_refuse_or_round_away_is_refused_with_its_rule(given: dict[str, Any], rule: str):
    with pytest.raises(billing.InvalidRequest, match=rule.replace("(", r"\(")):
        billing.Line("a seat", **given)


@pytest.mark.parametrize(("given", "rule"), TERMS, ids=str)
def test_terms_that_cannot_be_sent_are_refused_with_their_rule(given: dict[str, Any], rule: str):
    with pytest.raises(billing.InvalidRequest, match=rule) as refused:
        billing.InvoiceTerms(**given)
    assert CARD not in str(refused.value)


@pytest.mark.parametrize(
    "given", [1.5, True, "1e3", "-1", " 1", "1,5", "0.1234567890123", 10**12, Decimal("nan"), None]
)
def test_what_one_unit_costs_is_an_exact_decimal(given: Any):
    with pytest.raises(billing.InvalidAmount, match="must be a Decimal, text or whole number"):
        billing.UnitAmount(given, "EUR")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"lines": [billing.Line("back", EUR_5, credit=True)]}, "come to -5.00 EUR"),
    ({"lines": [billing.Line("seat", price="price_1")]}, "currency must be named"),
    ({"lines": [billing.Line("a", EUR_5)], "currency": "usd"}, "must all be in one currency, not in EUR, USD"),
    ({"terms": billing.InvoiceTerms(total_minor=1)}, "total_minor is 1, and the lines come to 4500"),
    ({"terms": {"memo": "hi"}}, "must be billing.InvoiceTerms, not dict"),
    *(
        ({"lines": [line, billing.Line("a", EUR_5)], "terms": billing.InvoiceTerms(automatic_tax=True)}, rule)
        for line, rule in (
            (billing.Line("x", billing.Money(1, "EUR"), credit=True), "lines.0 is a credit, which Stripe Tax"),
            (billing.Line("x", EUR_5, tax_rates=["txr_1"]), "lines.0 has tax rates of its own"),
            (billing.Line("x", unit_amount=UNIT), "lines.0 has a unit_amount without a tax_behavior"),
        )
    ),
]


@pytest.mark.parametrize(("changes", "rule"), WRONG, ids=str)
def test_what_does_not_fit_together_is_refused_before_anything_is_written(
    session: Session, changes: dict[str, Any], rule: str
):
    with pytest.raises(billing.InvalidRequest, match=rule):
        ask(session, **changes)
    still_usable(session)
    assert rows(session, Invoice) == 0


@pytest.mark.parametrize(
    "collect",
    [{}, {"days_until_due": 3, "due_date": NOW}, {"due_date": "2026-12-01"}, {"due_date": datetime(2026, 12, 1)}],  # noqa: DTZ001
)
def test_an_invoice_is_due_after_days_or_at_a_date(collect: dict[str, Any]):
    with pytest.raises(billing.InvalidRequest, match=r"days_until_due|due_date"):
        billing.SendInvoice(**collect)


FULL: dict[str, Any] = {
    "lines": [
        billing.Line("3 seats", unit_amount=billing.UnitAmount("12.50", "EUR"), quantity=3, period=(NOW, NOW)),
        billing.Line("support", price="price_1", quantity=2),
        billing.Line("outage", billing.Money(7, "EUR"), credit=True),
    ],
    "collect": billing.SendInvoice(due_date=NOW),
    "terms": billing.InvoiceTerms(memo="For Ada Lovelace", purchase_order="4711", discounts=["WELCOME"]),
}


def test_what_was_asked_for_is_kept_and_no_text_of_it_is_in_a_fact(session: Session):
    ask(session, **FULL)
    session.commit()
    row = session.scalars(select(Invoice)).one()
    assert (row.total_minor, row.days_until_due, row.subtotal_minor) == (38 - 7, None, None)
    assert row.terms == {
        "memo": "For Ada Lovelace",
        "custom_fields": [["PO number", "4711"]],
        "discounts": ["WELCOME"],
        "due_date": int(NOW.timestamp()),
        "computed": True,
    }
    lines = session.scalars(select(InvoiceLine).order_by(InvoiceLine.position)).all()
    seconds = int(NOW.timestamp())
    assert [(line.amount_minor, line.details) for line in lines] == [
        (38, {"unit_amount": "12.5", "quantity": 3, "period": [seconds, seconds]}),
        (None, {"price": "price_1", "quantity": 2}),
        (-7, {"credit": True}),
    ]
    fact = session.scalars(select(Fact)).one()
    assert (fact.version, fact.payload["minor"], fact.payload["lines"], fact.payload["computed"]) == (2, 31, 3, True)
    told = session.scalar(text("SELECT string_agg(payload::text, '') FROM billing.facts")) or ""
    assert all(word not in told for word in ("Lovelace", "4711", "seats"))


def test_a_plain_invoice_stays_of_version_1_for_older_workers(session: Session):
    ask(session)
    session.commit()
    row, fact = session.scalars(select(Invoice)).one(), session.scalars(select(Fact)).one()
    assert (row.terms, fact.version, "computed" in fact.payload) == (None, 1, False)
    assert session.scalars(select(InvoiceLine)).one().details is None


OTHERWISE: list[tuple[dict[str, Any], str]] = [
    (
        {"lines": [*FULL["lines"][:2], billing.Line("outage", billing.Money(8, "EUR"), credit=True)]},
        "lines.2.amount_minor",
    ),
    (
        {"lines": [*FULL["lines"][:1], billing.Line("support", price="price_2", quantity=2), FULL["lines"][2]]},
        "lines.1.price",
    ),
    ({"lines": [*FULL["lines"][:1], billing.Line("support", price="price_1"), FULL["lines"][2]]}, "lines.1.quantity"),
    ({"lines": FULL["lines"][:2]}, "lines: first 3, now 2"),
    ({"collect": billing.SendInvoice(14)}, "days_until_due"),
    ({"collect": billing.SendInvoice(due_date=NOW + timedelta(days=1))}, "due_date"),
    ({"terms": billing.InvoiceTerms(memo="For Grace", purchase_order="4711", discounts=["WELCOME"])}, "memo"),
    (
        {"terms": billing.InvoiceTerms(memo="For Ada Lovelace", purchase_order="4712", discounts=["WELCOME"])},
        "custom_fields",
    ),
    ({"terms": billing.InvoiceTerms(memo="For Ada Lovelace", purchase_order="4711")}, "discounts"),
]


@pytest.mark.parametrize(("changes", "field"), OTHERWISE, ids=[field for _, field in OTHERWISE])
def test_another_request_under_the_same_id_is_told_which_field_differs(
    session: Session, changes: dict[str, Any], field: str
):
    first = ask(session, **FULL)
    session.commit()
    assert ask(session, **FULL) == billing.InvoiceReceipt(first.invoice_id, "order-1", new=False)
    with pytest.raises(billing.RequestReused) as reused:
        ask(session, **{**FULL, **changes})
    assert field in str(reused.value)
    assert all(text not in str(reused.value) for text in ("Lovelace", "Grace", "4711", "4712", "outage"))
    still_usable(session)
