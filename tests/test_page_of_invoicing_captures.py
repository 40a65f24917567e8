"""docs/moves/invoicing-captures.md is true: its code runs, from the first block to the last."""

from typing import Any

import pytest
from service import Service
from test_readme import ROOT, blocks

from billing import period_invoices
from jobs.config.checks import calendars

PAGE = ROOT / "docs" / "moves" / "invoicing-captures.md"


def test_the_page_of_invoices_of_captures_runs_from_its_first_block_to_its_last(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = service.intents(2)
    names: dict[str, Any] = {
        "engine": service.engine,
        "customer": service.customer(),
        "payment_intent": first,
        "another_capture": service.ask_for_capture(second),
    }
    for number, block in enumerate(blocks(PAGE, "python")):
        exec(compile(block, f"invoicing-captures.md, block {number}", "exec"), names)  # noqa: S102 - our own page
    assert capsys.readouterr().out == "True\n"
    assert service.settle(names["another_capture"], names["alone"].invoice_id) == ["captured", "paid"]


def test_the_page_has_the_values_of_the_code() -> None:
    text = PAGE.read_text()
    (setting,) = [line for line in text.splitlines() if line.startswith("export BILLING_INVOICE_PERIODS=")]
    found = calendars(setting.partition("'")[2].rstrip("'"))
    assert [str(found.of(name)) for name in ("acct_1", "acct_123", "own")] == [
        "month Europe/Berlin",
        "week America/New_York",
        "day UTC",
    ]
    assert period_invoices.WAITS_AT_MOST.days == 3
    for reason in period_invoices.GIVEN_BACK, period_invoices.NOTHING_TAKEN, period_invoices.UNFIT:
        assert f"`{reason}`" in text
