"""A charge that nobody can decide: `explain` names the command, and a person concludes with it."""

import pytest
from command import Run
from service import Service
from undecided_charge import undecided_charge, undecided_first_charge


def test_explain_names_the_command_and_it_is_refused_until_it_is_safe(run: Run, service: Service) -> None:
    """[69, 70]"""
    _, asked = undecided_charge(service)
    assert asked in run("quarantine", "list", "--undecided").out
    told = run("explain", asked).out
    assert f"billing quarantine conclude {asked} --reason WHY" in told
    assert "docs/moves/invoices.md says how to conclude that it was tried, and declined" in told
    done = run("quarantine", "conclude", asked, "--it-happened", "--reason", "Stripe's log of req_1", "--actor", "anna")
    assert (done.status, done.err) == (0, "")
    assert f"{asked} is declined: pay_invoice g1 is concluded to have been declined" in done.out
    assert "has no undecided call" in run("quarantine", "conclude", asked, "--reason", "again").err
    assert asked not in run("quarantine", "list", "--undecided").out
    assert "seen_by_an_operator" in run("explain", asked).out


@pytest.mark.parametrize(("verdict", "why"), [((), "ruled_out"), (("--it-happened",), "seen_by_an_operator")])
def test_an_invoice_whose_own_charge_is_concluded_is_unpaid_and_may_be_charged(
    run: Run, service: Service, verdict: tuple[str, ...], why: str
) -> None:
    """[69, 70]"""
    invoice = undecided_first_charge(service)
    assert invoice in run("quarantine", "list", "--undecided").out
    assert f"billing quarantine conclude {invoice} --reason WHY" in run("explain", invoice).out
    done = run("quarantine", "conclude", invoice, *verdict, "--reason", "Stripe's log of req_1", "--actor", "anna")
    assert (done.status, done.err) == (0, "")
    assert (
        f"{invoice} is unpaid: pay g4 is concluded to have {'been declined' if verdict else 'done nothing'}" in done.out
    )
    assert invoice not in run("quarantine", "list", "--undecided").out
    assert service.status(invoice).reason == why
    assert f"billing invoice pay {invoice}" in run("explain", invoice).out
