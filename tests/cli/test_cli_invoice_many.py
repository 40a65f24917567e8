"""Invoices from a file, one JSON object a line: all are checked first, and each is asked for once."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from billing import database
from billing.tables.entities import Invoice, InvoiceLine
from jobs.bulk import checking

WHY = ("--reason", "OPS-7", "--actor", "grace")


def invoice(number: int, **changed: Any) -> dict[str, Any]:
    lines = [{"description": "a seat", "unit_amount": "0.0125", "quantity": 48_000}, {**SETUP, "amount_minor": number}]
    given = {
        "customer": "cus_1",
        "currency": "EUR",
        "days_until_due": 14,
        "lines": lines,
        "request_id": f"nov-{number}",
    }
    return {name: value for name, value in {**given, **changed}.items() if value is not None}


SETUP = {"description": "Setup"}
TAXED: dict[str, Any] = {"tax_rates": ["txr_1"]}


@pytest.fixture
def november(tmp_path: Path):
    def write(*rows: object) -> str:
        path = tmp_path / "november.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return str(path)

    return write


def asked(service) -> list[tuple[str, int, int]]:
    """Request id, total and number of lines of each invoice."""
    with database.transaction(service.engine) as session:
        rows = session.scalars(select(Invoice).order_by(Invoice.request_id)).all()
        lines = session.scalars(select(InvoiceLine.invoice_id)).all()
        return [(row.request_id, row.total_minor, lines.count(row.id)) for row in rows]


def test_every_line_of_a_file_becomes_one_invoice_and_workers_carry_it_out(run, service, november):
    sent, charged = service.customer(), service.payer()[0]
    path = november(invoice(1, customer=sent), invoice(2, customer=charged, days_until_due=None, charge=True))
    ran = run("invoice", "issue-many", "--from-file", path, *WHY)
    assert ran.status == 0, ran.err
    assert "november.jsonl: 2 invoices to ask for, 12.03 EUR" in ran.out
    assert asked(service) == [("nov-1", 601, 2), ("nov-2", 602, 2)]
    with database.transaction(service.engine) as session:
        ids = session.scalars(select(Invoice.id).order_by(Invoice.request_id)).all()
    assert service.settle(*ids) == ["sent", "paid"]
    again = run("invoice", "issue-many", "--from-file", path, *WHY)
    assert again.status == 0
    assert "was done" in again.out
    assert len(asked(service)) == 2
    told = run("invoice", "issue-many", "--from-file", path, *WHY, "--json").json
    assert (told["kind"], told["new"], told["progress"]["asked"]) == ("invoice", 0, 2)
    (bulk,) = run("bulks", "--json").json
    assert (bulk["kind"], bulk["asked"], bulk["refused"]) == ("invoice", 2, 0)


def test_a_dry_run_shows_what_they_come_to_and_where_only_stripe_knows(run, service, november):
    path = november(invoice(1), invoice(2, **TAXED))
    ran = run("invoice", "issue-many", "--from-file", path, "--dry-run", "--actor", "grace")
    assert ran.status == 0, ran.err
    assert "2 invoices to ask for, 6.01 EUR" in ran.out
    assert "1 row of them without an amount: they come to 0, or to what Stripe reckons" in ran.out
    assert asked(service) == []


BAD: dict[str, tuple[object, str]] = {
    "no JSON": ("{", "line 1: is no JSON object"),
    "a field of a line": (
        invoice(1, lines=[{**SETUP, "amount_minor": 10.5}]),
        "line 1, lines[0].amount_minor: must be a whole number",
    ),
    "a number as a text": (invoice(1, memo=1.5), "line 1, memo: must be"),
    "an unknown field of a line": (invoice(1, lines=[{**SETUP, "tax": 1}]), "line 1, lines[0].tax: is not known"),
    "an unknown field": (invoice(1, colour="red"), "line 1: has the unknown column colour"),
    "no lines": (invoice(1, lines=None), "line 1: has no lines"),
    "no way to collect": (invoice(1, days_until_due=None), "line 1, days_until_due: or due_date is missing, or charge"),
    "both ways": (invoice(1, charge=True), "line 1, charge: and days_until_due exclude each other"),
    "no request id": (invoice(1, request_id=None), "line 1: has no request_id"),
    "below zero": (
        invoice(1, lines=[{**SETUP, "amount_minor": 5, "credit": True}]),
        "line 1, lines: come to -0.05 EUR; an invoice's total is not negative",
    ),
    "two of one name": (f"{json.dumps(invoice(1))}\n{json.dumps(invoice(1))}", "line 2, request_id: is that of line 1"),
    "an account that is none": (invoice(1, account="us"), "line 1, account: must be the id of an account"),
}


@pytest.mark.parametrize(("row", "complaint"), BAD.values(), ids=BAD)
def test_a_bad_line_is_named_by_its_path_and_nothing_is_asked_for(run, service, november, row, complaint):
    ran = run("invoice", "issue-many", "--from-file", november(row), *WHY)
    assert ran.status == 1
    assert complaint in ran.err
    assert "nothing was asked for" in ran.err
    assert asked(service) == []


def test_a_bad_line_is_left_out_and_the_others_are_asked_for(run, service, november):
    path = november(invoice(1), invoice(2, lines=[]), invoice(3))
    ran = run("invoice", "issue-many", "--from-file", path, "--skip-bad", *WHY)
    assert ran.status == 1
    assert "line 2, lines: must be 1 to 250, not none" in ran.err
    assert [name for name, _, _ in asked(service)] == ["nov-1", "nov-3"]


def test_a_table_is_refused_with_what_to_write_instead(run, service, tmp_path):
    path = tmp_path / "november.csv"
    path.write_text("customer,lines,request_id\ncus_1,a seat,nov-1\n")
    ran = run("invoice", "issue-many", "--from-file", str(path), *WHY)
    assert ran.status == 2
    assert "fits into no table; write one JSON object a line" in ran.err
    assert asked(service) == []


def test_an_invoice_of_250_long_lines_fits_into_one_line(run, service, november):
    lines = [{"description": "x" * 500, "amount_minor": 1, "tax_rates": ["txr_" + "1" * 60]} for _ in range(250)]
    path = november(invoice(1, lines=lines))
    assert Path(path).stat().st_size > 2 * 65_536
    ran = run("invoice", "issue-many", "--from-file", path, *WHY)
    assert ran.status == 0, ran.err
    assert asked(service) == [("nov-1", 250, 250)]


def test_more_invoices_than_one_transaction_takes_are_asked_for_and_many_need_their_number(run, service, november):
    path = november(*(invoice(number) for number in range(1, 2 * checking.NESTED_BATCH + 2)))
    ran = run("invoice", "issue-many", "--from-file", path, *WHY)
    assert ran.status == 1
    assert "repeat the command with --confirm 101" in ran.err
    assert asked(service) == []
    assert run("invoice", "issue-many", "--from-file", path, "--confirm", "101", *WHY).status == 0
    assert len(asked(service)) == 101


def test_without_a_file_the_command_says_which_one_asks_for_one(run):
    ran = run("invoice", "issue-many")
    assert ran.status == 2
    assert "--from-file is missing; `billing invoice issue` asks for one invoice by options" in ran.err
