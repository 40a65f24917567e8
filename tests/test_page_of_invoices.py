"""docs/moves/invoices.md is true: its code runs, from the first block to the last, and so does its file."""

import json
from typing import Any

import pytest
from service import Service
from test_readme import ROOT, blocks

from billing import invoice_lines, invoice_terms
from billing.tables.entities import MAX_LINES
from jobs.cli import invoice_file

PAGE = ROOT / "docs" / "moves" / "invoices.md"


def test_the_page_of_invoices_runs_from_its_first_block_to_its_last(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {
        "engine": service.engine,
        "customer": service.customer(),
        "vat": service.by_hand("/v1/tax_rates", "display_name=VAT&percentage=19&inclusive=false"),
        "coupon": service.by_hand("/v1/coupons", "id=co_1&percent_off=10"),
    }
    printed = []
    for number, block in enumerate(blocks(PAGE, "python")):
        if number == 1:
            assert service.settle(names["receipt"].invoice_id) == ["sent"]
        exec(compile(block, f"invoices.md, block {number}", "exec"), names)  # noqa: S102 - our own page
        printed.append(capsys.readouterr().out)
    assert printed[:2] == ["", "sent\n"]
    assert service.settle(names["asked"].action_id) == ["done"]
    assert service.status(names["receipt"].invoice_id).state == "voided"
    assert "lines: first 4, now 1" in printed[3]


def test_the_file_of_the_page_is_one(tmp_path: Any) -> None:
    (content,) = blocks(PAGE, "json")
    path = tmp_path / "invoice.json"
    path.write_text(content)
    assert len(invoice_file.read(path).lines) == len(json.loads(content)["lines"]) == 5


def test_the_page_has_the_limits_of_the_code() -> None:
    text = PAGE.read_text()
    for part in (
        f"1 to {MAX_LINES}, all in one currency",
        f"up to {invoice_lines.PLACES} decimal places",
        f"up to {invoice_terms.MAX_TEXT:,} characters",
        f"up to {invoice_terms.MAX_FIELDS}, names of up to {invoice_terms.MAX_FIELD_NAME} characters, values of up to "
        f"{invoice_terms.MAX_FIELD_VALUE}",
        f"up to {invoice_lines.MAX_RATES} ids",
        f"up to {invoice_terms.MAX_DISCOUNTS} coupons",
    ):
        assert part in text, part
