"""`billing invoice capture` and `captures`: what a person invoices by hand, and what is refused with a name."""

from datetime import UTC, datetime
from typing import Any

import pytest
from command import Run
from long_ago import make_older
from service import Service
from sqlalchemy import text

import billing
from billing import database, erasure
from billing.errors import InvalidRequest

OCTOBER = datetime(2025, 10, 15, 12, tzinfo=UTC)


@pytest.fixture
def captures(service: Service) -> list[str]:
    """Two captures of October 2025, of one customer."""
    made = [service.captured_one() for _ in range(2)]
    service.execute("UPDATE billing.captures SET state_since = :at", at=OCTOBER)
    service.execute("UPDATE billing.idempotency_records SET first_sent_at = :at", at=OCTOBER)
    for each in made:
        with database.transaction(service.engines["application"]) as session:
            billing.invoice_capture(session, capture=each, customer="cus_anna", description="an order")
    return made


def count(service: Service, table: str) -> int:
    with service.engine.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM billing.{table}")).scalar_one())


def test_a_dry_run_shows_what_would_be_invoiced_and_writes_nothing(
    service: Service, run: Run, captures: list[str]
) -> None:
    facts = count(service, "facts")
    shown = run("invoice", "captures", "--period", "2025-10", "--dry-run", "--json")
    assert shown.json == {
        "account": "own",
        "period": "2025-10",
        "start": "2025-10-01T00:00:00+00:00",
        "end": "2025-11-01T00:00:00+00:00",
        "dry_run": True,
        "invoices": [
            {"invoice_id": None, "customer": "cus_anna", "currency": "USD", "part": 1, "captures": 2, "minor": 3998}
        ],
        "waiting": [],
    }
    assert (count(service, "facts"), count(service, "invoices"), count(service, "invoice_periods")) == (facts, 0, 0)
    assert "39.98 USD" in run("invoice", "captures", "--period", "2025-10", "--dry-run").out


def test_a_period_is_invoiced_by_hand_once(service: Service, run: Run, captures: list[str]) -> None:
    done = run("invoice", "captures", "--period", "2025-10", "--actor", "anna", "--json")
    (invoice,) = done.json["invoices"]
    assert (invoice["captures"], invoice["minor"]) == (2, 3998)
    requested = service.facts(invoice["invoice_id"])[0]
    assert requested.actor == "anna"
    again = run("invoice", "captures", "--period", "2025-10")
    assert again.status == 2
    assert "is not invoiced (invoiced): everything of it is on invoices" in again.err
    assert [row["command"] for row in run("audit", "--json").json] == ["invoice captures"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--period", "2030-01"), "(not_over): it ends at 2030-02-01T00:00:00Z"),
        (("--period", "2025-09"), "(unknown): it is no period of this account, or no capture was in it"),
        (("--period", "2025-10-15"), "(unknown): it is no period of this account; 2025-10 is"),
        (("--period", "october"), "a period is a month (2026-10)"),
        (("--period", "2025-10", "--account", "cus_1"), "account"),
        (("--period", "2025-10", "--account", "acct_1"), "(unknown)"),
    ],
)
def test_what_cannot_be_invoiced_is_refused_by_name(
    service: Service, run: Run, captures: list[str], arguments: tuple[str, ...], problem: str
) -> None:
    refused = run("invoice", "captures", *arguments)
    assert refused.status != 0
    if "2025-10-15" in arguments:
        # The period comes into use with its first capture.
        refused = run("invoice", "captures", *arguments)
    assert problem in refused.err.replace("\n", " ")
    assert count(service, "invoices") == 0


def test_the_archive_knows_which_captures_are_on_no_invoice(
    service: Service, run: Run, made: str, captures: list[str]
) -> None:
    """One is on an invoice that has its number, two on one that Stripe refuses, and of one nobody asked."""
    customer, alone = service.customer(), service.captured_one()
    with database.transaction(service.engines["application"]) as session:
        issued = billing.invoice_capture(
            session, capture=alone, customer=customer, description="an order", when="at_once", correlation_id="other"
        ).invoice_id
    forgotten = service.captured_one()
    run("invoice", "captures", "--period", "2025-10")
    assert service.settle(str(issued)) == ["paid"]
    service.plan()
    assert run("archive", "run", "--once").status == 0
    rows = run("archive", "query", "captured_not_invoiced", "--json").json["rows"]
    assert {row["id"]: row["invoice"] for row in rows} == {
        captures[0]: "refused",
        captures[1]: "refused",
        forgotten: "none",
    }


def test_an_erasure_removes_the_descriptions_and_waits_for_what_is_not_invoiced(
    service: Service, run: Run, captures: list[str]
) -> None:
    def ask(step: Any) -> Any:
        with database.transaction(service.engines["operator"]) as session:
            return step(session)

    make_older(service)
    ids = erasure.operations_of(ask, "cus_anna")
    with pytest.raises(InvalidRequest, match=captures[0]):
        erasure.erase(ask, ids, "cus_anna")
    run("invoice", "captures", "--period", "2025-10")
    assert erasure.count(ask, ids, "cus_anna").descriptions == 2
    assert erasure.erase(ask, ids, "cus_anna").descriptions == 2
    assert erasure.count(ask, ids, "cus_anna").descriptions == 0
    with service.engine.connect() as connection:
        found = connection.execute(text("SELECT DISTINCT description FROM billing.invoiced_captures")).scalars().all()
    assert found == ["(erased)"]


def test_one_capture_is_invoiced_by_hand_at_once_or_with_its_period(service: Service, run: Run) -> None:
    capture, other, customer = service.captured_one(), service.captured_one(), service.customer()
    words = ("--customer", customer, "--description", "Order 42", "--actor", "ada")
    at_once = ("invoice", "capture", capture, *words, "--at-once", "--json")
    asked = run(*at_once).json
    assert asked["id"].startswith("inv_")
    assert service.settle(asked["id"]) == ["paid"]
    assert run(*at_once, "--wait").json["state"] == "paid"
    later = ("invoice", "capture", other, *words)
    assert run(*later, "--json").json == {"capture_id": other, "invoice_id": None, "new": True}
    assert run(*later).out == f"{other}: on the invoice of its period, once that is over; asked for before\n"
    assert "--wait goes with --at-once" in run(*later, "--wait").err.replace("\n", " ")
    assert "Order 41" not in run("invoice", "capture", capture, *words[:3], "Order 41", "--at-once", "--actor", "a").err
    audited = [row["command"] for row in run("audit", "--json").json]
    assert audited == ["invoice capture"] * len(audited) != []
