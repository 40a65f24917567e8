"""Asking for an invoice inside the caller's own transaction."""

from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from test_request_capture import still_usable

import billing
from billing.states import InvoiceState
from billing.tables.entities import Invoice, InvoiceLine
from billing.tables.facts import Fact

LINES = (billing.Line("Repair of one bicycle", billing.Money(4500, "EUR")),)
DUE = billing.SendInvoice(days_until_due=30)


def ask(session: Session, **changes: Any) -> billing.InvoiceReceipt:
    asked = {"customer": "cus_1", "lines": LINES, "collect": DUE, "request_id": "order-1", **changes}
    return billing.issue_invoice(session, **asked)


def rows(session: Session, table: type) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_wish_is_one_row_its_lines_and_one_fact(session: Session):
    lines = [*LINES, billing.Line("A bell", billing.Money(900, "EUR"))]
    receipt = ask(session, lines=lines)
    session.commit()
    row = session.scalars(select(Invoice)).one()
    assert (row.id, row.total_minor, row.currency, row.days_until_due) == (receipt.invoice_id, 5400, "EUR", 30)
    assert row.state == InvoiceState.REQUESTED
    stored = session.execute(select(InvoiceLine.position, InvoiceLine.amount_minor).order_by("position")).all()
    assert [tuple(each) for each in stored] == [(0, 4500), (1, 900)]
    fact = session.scalars(select(Fact)).one()
    assert (fact.topic, fact.entity_version, row.version) == ("invoice.requested", 1, 1)
    assert (fact.payload["minor"], fact.payload["currency"], fact.payload["lines"]) == (5400, "EUR", 2)


def test_what_a_line_says_about_a_person_stays_out_of_the_facts(session: Session):
    ask(session, lines=[billing.Line("Massage for Ada Lovelace", billing.Money(100, "EUR"))])
    session.commit()
    told = session.scalar(text("SELECT string_agg(payload::text, '') FROM billing.facts")) or ""
    assert "Lovelace" not in told


def test_the_same_request_again_gives_the_same_receipt(session: Session):
    first = ask(session)
    session.commit()
    assert ask(session) == billing.InvoiceReceipt(first.invoice_id, "order-1", new=False)
    session.commit()
    assert rows(session, Invoice) == rows(session, InvoiceLine) == rows(session, Fact) == 1


DIFFERENCES: dict[str, tuple[str, dict[str, Any]]] = {
    "another customer": ("customer", {"customer": "cus_2"}),
    "another due date": ("days_until_due", {"collect": billing.SendInvoice(14)}),
    "another currency": ("currency", {"lines": [billing.Line("Repair of one bicycle", billing.Money(4500, "USD"))]}),
    "another text": ("lines.0.description", {"lines": [billing.Line("Repair", billing.Money(4500, "EUR"))]}),
    "another split": ("lines", {"lines": [billing.Line("Repair", billing.Money(2250, "EUR"))] * 2}),
}


@pytest.mark.parametrize(("name", "changes"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_the_same_request_with_other_parameters_is_refused_and_says_which(
    session: Session, name: str, changes: dict[str, Any]
):
    ask(session)
    session.commit()
    with pytest.raises(billing.RequestReused, match=name) as refused:
        ask(session, **changes)
    assert name in refused.value.differences
    still_usable(session)
    assert rows(session, Invoice) == 1


def test_another_amount_shows_in_the_total_and_in_the_lines(session: Session):
    ask(session)
    with pytest.raises(billing.RequestReused) as refused:
        ask(session, lines=[billing.Line("Repair of one bicycle", billing.Money(4501, "EUR"))])
    assert refused.value.differences["total_minor"] == (4500, 4501)


BAD: dict[str, dict[str, Any]] = {
    "no lines": {"lines": []},
    "too many lines": {"lines": LINES * 251},
    "not a line": {"lines": ["Repair"]},
    "two currencies": {"lines": [*LINES, billing.Line("A bell", billing.Money(900, "USD"))]},
    "a total above the maximum": {"lines": [billing.Line("A castle", billing.Money(999_999_999_999, "EUR"))] * 2},
    "no customer": {"customer": ""},
    "a customer with a space": {"customer": "cus 1"},
    "no collection": {"collect": None},
    "a number of days": {"collect": 30},
    "no request id": {"request_id": ""},
    "a bad correlation id": {"correlation_id": "a b"},
    "a bad account": {"account": "\n"},
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD)
def test_what_cannot_be_invoiced_is_refused_before_anything_is_written(session: Session, changes: dict[str, Any]):
    with pytest.raises(billing.InvalidRequest):
        ask(session, **changes)
    still_usable(session)
    assert rows(session, Invoice) == rows(session, InvoiceLine) == rows(session, Fact) == 0


@pytest.mark.parametrize("days", [0, -1, 366, 1.5, True, "30", None])
def test_days_until_due_are_a_whole_number_of_days_within_a_year(days: Any):
    with pytest.raises(billing.InvalidRequest):
        billing.SendInvoice(days)


@pytest.mark.parametrize("amount", [100, 1.5, None, "1 EUR"])
def test_the_amount_of_a_line_is_money(amount: Any):
    with pytest.raises(billing.InvalidAmount):
        billing.Line("Repair", amount)


def test_a_wish_that_is_rolled_back_was_never_made(session: Session):
    ask(session)
    session.rollback()
    assert rows(session, Invoice) == rows(session, InvoiceLine) == rows(session, Fact) == 0


RAW = {
    "a free invoice": ("UPDATE billing.invoices SET total_minor = -1", "total_not_negative"),
    "a free line": ("UPDATE billing.invoice_lines SET amount_minor = 0", "amount_positive"),
    "a state of nobody": ("UPDATE billing.invoices SET state = 'lost'", "state_known"),
    "a line of no invoice": ("INSERT INTO billing.invoice_lines VALUES ('inv_none', 0, 'x', 1)", "fkey"),
}


@pytest.mark.parametrize(("statement", "constraint"), RAW.values(), ids=RAW)
def test_the_database_refuses_what_is_no_invoice(session: Session, statement: str, constraint: str):
    ask(session)
    session.commit()
    with pytest.raises(IntegrityError, match=constraint):
        session.execute(text(statement))
