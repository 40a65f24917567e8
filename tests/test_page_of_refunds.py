"""docs/moves/refunds.md is true: its code runs, from the first block to the last."""

from typing import Any

import pytest
from service import Service
from test_readme import ROOT, blocks

from billing.refund_steps import PAID_IN_PARTS, PAID_OUTSIDE
from billing.tables.entities import Capture

PAGE = ROOT / "docs" / "moves" / "refunds.md"


def test_the_page_of_refunds_runs_from_its_first_block_to_its_last(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    capture = service.captured_one()
    names: dict[str, Any] = {
        "engine": service.engine,
        "capture_id": capture,
        "payment_intent": service.row(Capture, capture).payment_intent,
        "paid_invoice_id": service.paid_invoice(),
        "unwanted_capture_id": service.ask_for_capture(),
    }
    printed = []
    for number, block in enumerate(blocks(PAGE, "python")):
        if number == 3:
            assert service.settle(names["discount"].refund_id, names["rest"].refund_id) == ["succeeded"] * 2
        exec(compile(block, f"refunds.md, block {number}", "exec"), names)  # noqa: S102 - our own page
        printed.append(capsys.readouterr().out.splitlines())
    assert printed == [
        ["5.00 USD 14.99 USD"],
        [f"0 left of {capture}", "1999"],
        ["5.00 EUR"],
        ["succeeded True"],
        ["True 19.99 USD"],
    ]
    assert service.settle(names["returned"].refund_id) == ["succeeded"]
    unwanted = names["unwanted_capture_id"], names["undone"].refund_id
    assert service.settle(*unwanted) == ["refused", "refused"]
    assert [service.status(each).reason for each in unwanted] == ["withdrawn", "nothing_was_taken"]
    assert all(f"`{service.status(each).reason}`" in PAGE.read_text() for each in unwanted)


def test_the_page_names_every_error_that_a_refund_has_of_its_own() -> None:
    text = PAGE.read_text()
    errors = ("MoreThanCaptured", "MoreThanInvoiced", "NotCaptured", "NotPaid", "NotOurPayment")
    assert all(f"| `{name}` |" in text for name in errors)
    assert all(f"| `{reason}` |" in text for reason in (PAID_OUTSIDE, PAID_IN_PARTS))
