"""A charge on request that nobody can decide: `explain` names the command, and a person concludes with it."""

from command import Run
from service import Service
from undecided_charge import undecided_charge


def test_explain_names_the_command_and_it_is_refused_until_it_is_safe(run: Run, service: Service) -> None:
    """[69, 70]"""
    _, asked = undecided_charge(service)
    assert asked in run("quarantine", "list", "--undecided").out
    told = run("explain", asked).out
    assert f"billing quarantine conclude {asked} --reason WHY" in told
    assert "docs/moves/invoices.md says how to conclude that it was tried, and declined" in told
    done = run("quarantine", "conclude", asked, "--it-happened", "--reason", "Stripe's log of req_1", "--actor", "anna")
    assert (done.status, done.err) == (0, "")
    assert f"{asked} is over: pay_invoice g1 is concluded to have been declined" in done.out
    assert "has no undecided call" in run("quarantine", "conclude", asked, "--reason", "again").err
    assert asked not in run("quarantine", "list", "--undecided").out
    assert "seen_by_an_operator" in run("explain", asked).out
