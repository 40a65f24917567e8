"""An invoice from a file: every field is checked and named by its path; a preview creates nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from command import Run
from service import Service

from billing.tables.entities import Invoice

LINE = {"description": "a seat", "amount_minor": 1000}
GOOD: dict[str, Any] = {"customer": "cus_1", "currency": "EUR", "days_until_due": 14, "lines": [LINE]}


def written(tmp_path: Path, content: object, name: str = "invoice.json") -> str:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


BAD: dict[str, tuple[object, str]] = {
    "no JSON": ("{", "invoice.json is no JSON in UTF-8 (line 1, column 2)"),
    "a list": ([GOOD], "invoice.json: must be an object with fields, not a list"),
    "an unknown field": ({**GOOD, "colour": "red"}, "invoice.json: colour is not known; known are customer, "),
    "no customer": ({**GOOD, "customer": None}, "invoice.json: customer is missing"),
    "no lines": ({**GOOD, "lines": None}, "invoice.json: lines must be a list, not nothing"),
    "empty lines": ({**GOOD, "lines": []}, "invoice.json: lines must be 1 to 250, not none"),
    "no due date": ({**GOOD, "days_until_due": None, "due_date": 5}, "invoice.json: due_date must be a time"),
    "a text as a line": ({**GOOD, "lines": [LINE, "x"]}, "invoice.json: lines[1] must be an object with fields"),
    "a float": (
        {**GOOD, "lines": [{**LINE, "amount_minor": 10.5}]},
        "invoice.json: lines[0].amount_minor must be a whole",
    ),
    "no money": (
        {**GOOD, "lines": [{"description": "x"}]},
        "invoice.json: lines[0].amount_minor must be billing.Money",
    ),
    "no text": ({**GOOD, "lines": [{"amount_minor": 5}]}, "invoice.json: lines[0].description must be text"),
    "a wrong quantity": (
        {**GOOD, "lines": [LINE, {"description": "x", "unit_amount": "1", "quantity": 0}]},
        "invoice.json: lines[1].quantity must be a whole number from 1 to",
    ),
    "half a period": (
        {**GOOD, "lines": [{**LINE, "period": {"start": "2026-11-01T00:00:00Z"}}]},
        "invoice.json: lines[0].period.end must be a time with its zone",
    ),
    "an unknown field of a line": ({**GOOD, "lines": [{**LINE, "tax": 5}]}, "invoice.json: lines[0].tax is not known"),
    "a long memo": ({**GOOD, "memo": "x" * 1501}, "invoice.json: memo must be 1 to 1500 characters"),
    "another total": ({**GOOD, "total_minor": 7}, "invoice.json: total_minor is 7, and the lines come to 1000"),
    "no currency": ({**GOOD, "currency": None}, "invoice.json: currency is missing"),
}


@pytest.mark.parametrize(("content", "complaint"), BAD.values(), ids=BAD)
def test_a_wrong_field_is_named_by_its_path_and_nothing_is_asked_for(
    run: Run, service: Service, tmp_path: Path, content: object, complaint: str
) -> None:
    told = run("invoice", "issue", "--from-file", written(tmp_path, content), "--request-id", "a")
    assert told.status == 2, told.out
    assert complaint in " ".join(told.err.split())


def test_a_file_and_options_do_not_stand_for_the_same(run: Run, service: Service, tmp_path: Path) -> None:
    file = written(tmp_path, {**GOOD, "request_id": "order-1"})
    for option in (("--customer", "cus_2"), ("--line", "a=1"), ("--request-id", "order-2")):
        told = run("invoice", "issue", "--from-file", file, *option)
        assert told.status == 2
        assert option[0] in told.err
    assert "--request-id is missing" in run("invoice", "issue", "--from-file", written(tmp_path, GOOD)).err


def everything(service: Service) -> dict[str, Any]:
    vat = service.by_hand("/v1/tax_rates", "display_name=VAT&percentage=19&inclusive=false")
    price = service.by_hand("/v1/prices", "currency=eur&unit_amount=700&product_data[name]=support")
    return {
        "customer": service.customer(),
        "currency": "EUR",
        "due_date": "2027-01-31T12:00:00+01:00",
        "memo": "Thank you",
        "purchase_order": "4711",
        "tax_rates": [vat],
        "discounts": [service.by_hand("/v1/coupons", "id=co_1&amount_off=100&currency=eur")],
        "lines": [
            {"description": "seats", "unit_amount": 1500, "quantity": 3},
            {"description": "calls", "unit_amount": "0.0125", "quantity": 48_000},
            {"description": "support", "price": price, "quantity": 2},
            {"description": "outage", "amount_minor": 500, "credit": True},
        ],
    }


def test_an_invoice_with_everything_is_previewed_and_issued_from_its_file_to_the_same_total(
    run: Run, service: Service, tmp_path: Path
) -> None:
    file = written(tmp_path, everything(service))
    before = len(service.posts("/v1/invoices"))
    preview = run("invoice", "preview", "--from-file", file, "--json")
    assert preview.status == 0, preview.err
    sums = [preview.json[name] for name in ("subtotal_minor", "discount_minor", "tax_minor", "total_minor")]
    assert sums == [4500 + 600 + 1400 - 500, 100, 1121, 7021]
    assert [line["minor"] for line in preview.json["lines"]] == [4500, 600, 1400, -500]
    assert len(service.posts("/v1/invoices")) == before
    issued = run("invoice", "issue", "--from-file", file, "--request-id", "sub-7", "--json")
    assert issued.status == 0, issued.err
    assert service.settle(issued.json["id"]) == ["sent"]
    assert service.row(Invoice, issued.json["id"]).reckoned_minor == 7021
    again = run("invoice", "issue", "--from-file", file, "--request-id", "sub-7")
    assert "46.00 EUR before what Stripe reckons" in again.out
    assert "asked for before" in again.out


def test_a_preview_is_a_table_for_a_person_and_says_what_would_be_refused(
    run: Run, service: Service, tmp_path: Path
) -> None:
    asked = everything(service)
    told = run("invoice", "preview", "--from-file", written(tmp_path, asked))
    assert told.status == 0, told.err
    assert "48000" in told.out
    assert told.out.splitlines()[-5:] == [
        "subtotal: 60.00 EUR",
        "discount: -1.00 EUR",
        "tax: 11.21 EUR",
        "total: 70.21 EUR",
        "Nothing was created.",
    ]
    wrong = run("invoice", "preview", "--from-file", written(tmp_path, {**asked, "total_minor": 1}))
    assert (wrong.status, "it would be refused: total: expected 1 (total_minor), found 7021" in wrong.err) == (1, True)


def test_a_preview_of_250_lines_shows_them_all(run: Run, service: Service, tmp_path: Path) -> None:
    lines = [{"description": f"item {n}", "amount_minor": n + 1} for n in range(250)]
    asked = {"customer": service.customer(), "currency": "EUR", "lines": lines}
    told = run("invoice", "preview", "--from-file", written(tmp_path, asked), "--json")
    assert [line["minor"] for line in told.json["lines"]] == list(range(1, 251))


def test_a_preview_of_what_stripe_does_not_know_names_it(run: Run, service: Service, tmp_path: Path) -> None:
    told = run("invoice", "preview", "--from-file", written(tmp_path, {**GOOD, "discounts": ["NOPE"]}))
    assert told.status == 2
    assert "Stripe refuses it: resource_missing" in told.err


def test_a_file_may_be_toml(run: Run, service: Service, tmp_path: Path) -> None:
    text = f"""
customer = "{service.customer()}"
currency = "EUR"
due_date = 2027-01-31T12:00:00+01:00
request_id = "sub-8"

[[lines]]
description = "calls"
unit_amount = 0.0125
quantity = 48000
period = {{start = 2026-11-01T00:00:00Z, end = 2026-11-30T23:59:59Z}}
"""
    told = run("invoice", "issue", "--from-file", written(tmp_path, text, "invoice.toml"), "--json")
    assert told.status == 0, told.err
    assert service.settle(told.json["id"]) == ["sent"]
    assert service.row(Invoice, told.json["id"]).total_minor == 600
