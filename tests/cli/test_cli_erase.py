"""`billing erase customer`: counted first, refused while something is not over, and said what is left to do."""

import re
from pathlib import Path

import pytest
from command import Run
from long_ago import happened_long_ago
from service import Service

PAGE = (Path(__file__).parents[2] / "docs" / "finance" / "privacy.md").read_text()
BECAUSE = ("--reason", "DSR-12")


@pytest.fixture
def over(service: Service) -> tuple[str, str]:
    """A customer and the invoice that was sent to him long ago."""
    customer = service.customer()
    invoice = service.ask_for_invoice(customer)
    assert service.settle(invoice) == ["sent"]
    happened_long_ago(service)
    return customer, invoice


def described(service: Service) -> list[str]:
    with service.engine.connect() as connection:
        query = "SELECT description FROM billing.invoice_lines ORDER BY invoice_id, position"
        return list(connection.exec_driver_sql(query).scalars())


def test_it_is_counted_then_erased_then_nothing_is_left(run: Run, service: Service, over: tuple[str, str]) -> None:
    customer, _ = over
    before = described(service)
    count = run("erase", "customer", customer, *BECAUSE, "--dry-run", "--json")
    wanted = {"operations": 1, "descriptions": 2, "bodies": 1, "facts": 0, "notes": 0, "not_over": []}
    assert (count.status, count.json["dry_run"], count.json["erased"]) == (0, True, wanted)
    assert described(service) == before
    assert run("audit", "--json").json == []
    ran = run("erase", "customer", customer, *BECAUSE, "--actor", "grace")
    assert ran.status == 0
    assert ran.out.startswith(
        f"{customer}: 1 operation; erased: 2 descriptions, the text of 1 call, words in 0 facts and 0 notes\n"
    )
    assert "docs.stripe.com/privacy/redaction" in ran.out
    assert described(service) == ["(erased)"] * 2
    told = run("audit", "--json").json
    assert [(each["actor"], each["about"], each["count"], each["outcome"]) for each in told] == [
        ("grace", customer, 1, "done")
    ]
    again = run("erase", "customer", customer, *BECAUSE)
    assert (again.status, "nothing is left to erase" in again.out) == (0, True)
    assert run("audit", "--json").json == told


def test_what_is_not_over_is_named_and_nothing_is_erased(run: Run, service: Service, over: tuple[str, str]) -> None:
    customer, _ = over
    young = service.ask_for_invoice(customer)
    before = described(service)
    count = run("erase", "customer", customer, *BECAUSE, "--dry-run")
    assert (count.status, f"billing explain {young}" in count.out) == (1, True)
    ran = run("erase", "customer", customer, *BECAUSE)
    assert (ran.status, young in ran.err, len(ran.err.splitlines())) == (2, True, 1)
    assert described(service) == before
    assert run("audit", "--json").json == []


def test_an_erased_invoice_is_still_explained(run: Run, over: tuple[str, str]) -> None:
    customer, invoice = over
    before = run("explain", invoice, "--json").json
    assert run("erase", "customer", customer, *BECAUSE).status == 0
    assert run("explain", invoice, "--json").json == before


def test_the_page_shows_what_the_command_prints(run: Run, over: tuple[str, str]) -> None:
    customer, _ = over
    blocks = re.findall(r"```console\n\$ billing (erase customer .*?)\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    for command, shown in blocks:
        ran = run(*command.replace("cus_123", customer).replace('"', "").split())
        assert ran.status == 0, ran.err
        assert ran.out == shown.replace("cus_123", customer)
