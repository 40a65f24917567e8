"""Captures that took money, written as rows: what a test of periods needs of them, without a call for each."""

from collections import Counter
from datetime import datetime
from typing import Any

from service import Service
from sqlalchemy import text

import billing
from billing import database, ids
from billing.periods import Calendars
from billing.tables.invoiced_captures import InvoicedCapture
from jobs.schedules import invoicing

MONTHS = Calendars()

_CAPTURED = """
    INSERT INTO billing.captures
           (id, request_id, payment_intent, amount_minor, currency, account, refunds_minor, state, state_since, version)
    VALUES (:id, :request, :intent, :minor, :currency, :account, :back, :state, :at, 1)
"""


def captured(service: Service, at: datetime, minor: int = 1999, currency: str = "USD", **more: Any) -> str:
    """A capture that took so much at this time. `back`: what was given back of it; `account`; `state`."""
    capture = ids.new("cap")
    values = {"account": None, "back": 0, "state": "captured", **more}
    named = {"id": capture, "request": capture, "intent": f"pi_{capture.removeprefix('cap_')}"}
    service.execute(_CAPTURED, **named, at=at, minor=minor, currency=currency, **values)
    return capture


def ask(service: Service, capture: str, customer: str = "cus_anna", description: str = "an order", **more: Any) -> Any:
    with database.transaction(service.engines["application"]) as session:
        return billing.invoice_capture(session, capture=capture, customer=customer, description=description, **more)


def collected(service: Service, *at: datetime, customer: str = "cus_anna", **more: Any) -> list[str]:
    """Captures of these times, asked to be collected."""
    captures = [captured(service, each, **more) for each in at]
    for capture in captures:
        ask(service, capture, customer)
    return captures


def run(service: Service, calendars: Calendars = MONTHS, left_s: float = 60) -> dict[str, Any]:
    return invoicing.invoice_captures(service.engines["worker"], calendars, lambda: left_s).as_result()


def row(service: Service, capture: str) -> InvoicedCapture:
    with database.transaction(service.engine) as session:
        return session.get_one(InvoicedCapture, capture)


def count_invoices(service: Service) -> int:
    with service.engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM billing.invoices")).scalar_one())


def lines(service: Service, invoice: str | None) -> list[tuple[str, int]]:
    statement = "SELECT description, amount_minor FROM billing.invoice_lines WHERE invoice_id = :id ORDER BY position"
    with service.engine.connect() as connection:
        return [(each.description, each.amount_minor) for each in connection.execute(text(statement), {"id": invoice})]


_OF_THEM = """
    SELECT mine.*, capture.amount_minor - capture.refunds_minor AS left_minor, invoice.total_minor,
           invoice.customer AS invoiced_to, invoice.currency AS invoiced_in, invoice.account AS invoiced_by,
           line.amount_minor AS line_minor, line.details ->> 'capture' AS line_of
      FROM billing.invoiced_captures AS mine
      JOIN billing.captures AS capture ON capture.id = mine.capture_id
      LEFT JOIN billing.invoices AS invoice ON invoice.id = mine.invoice_id
      LEFT JOIN billing.invoice_lines AS line ON line.invoice_id = mine.invoice_id AND line.position = mine.position
     WHERE mine.capture_id = ANY (:ids)
"""


def check_all_invoiced(service: Service, captures: list[str]) -> None:
    """Each of these is on one invoice of its customer, currency and account, with what is left of it, or on none
    because nothing is; and no invoice holds anything else."""
    with service.engine.connect() as connection:
        rows = connection.execute(text(_OF_THEM), {"ids": captures}).all()
        in_lines = dict(
            connection.execute(
                text("SELECT invoice_id, sum(amount_minor)::bigint FROM billing.invoice_lines GROUP BY 1")
            ).all()
        )
    assert {each.capture_id for each in rows} == set(captures)
    sums = Counter[str]()
    for each in rows:
        if not each.left_minor:
            assert each.left_out == "given_back", each
            continue
        assert (each.billed_minor, each.line_minor, each.line_of) == (each.left_minor, each.left_minor, each.capture_id)
        assert (each.invoiced_to, each.invoiced_in) == (each.customer, each.currency)
        assert (each.invoiced_by or "own") == each.account
        assert each.at_once or each.period_start <= each.captured_at < each.period_end
        sums[each.invoice_id] += each.billed_minor
    totals = {each.invoice_id: each.total_minor for each in rows if each.invoice_id}
    assert dict(sums) == totals
    assert {invoice: in_lines[invoice] for invoice in totals} == totals
