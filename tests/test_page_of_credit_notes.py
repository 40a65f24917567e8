"""docs/moves/credit-notes.md is true: its code runs, from the first block to the last."""

from typing import Any

import pytest
from service import Service, eventually
from test_readme import ROOT, blocks

import billing
from billing.tables.credit_notes import SETTLEMENTS

PAGE = ROOT / "docs" / "moves" / "credit-notes.md"


def test_the_page_of_credit_notes_runs_from_its_first_block_to_its_last(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    seats = billing.Line("3 seats", unit_amount=billing.UnitAmount(1500, "EUR"), quantity=3)
    names: dict[str, Any] = {
        "engine": service.engine,
        "open_invoice_id": service.sent_invoice(lines=[seats, billing.Line("setup", billing.Money(1000, "EUR"))]),
        "paid_invoice_id": service.paid_invoice(),
    }
    note = service.credit(names["open_invoice_id"], 1)
    assert service.settle(note) == ["issued"]
    names["issued_note_id"] = note
    for number, block in enumerate(blocks(PAGE, "python")):
        exec(compile(block, f"credit-notes.md, block {number}", "exec"), names)  # noqa: S102 - our own page
    assert capsys.readouterr().out.splitlines() == ["18.00 EUR 5.00 EUR True", "4001 EUR", "True"]
    notes = [names[name].credit_note_id for name in ("less", "back")]

    def issued() -> bool:
        service.relay.round()
        for queue in ("refunds", "invoices"):
            service.work_off(queue)
        return {service.status(each).state for each in notes} == {"issued"}

    eventually(issued, "both are issued")


def test_the_page_names_every_way_and_every_error_of_credit_notes() -> None:
    text = PAGE.read_text()
    assert all(f"| `{name}` |" in text for name in (*SETTLEMENTS, "MoreThanInvoiced", "NotOpen", "NotPaid"))
