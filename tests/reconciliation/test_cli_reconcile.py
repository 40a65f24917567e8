"""`billing reconcile` and `billing differences`: what an operator sees, and the page about it."""

import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command import Run
from compared import differences, reconcile, settled
from service import Service
from sqlalchemy import text

from billing.tables.entities import Capture

PAGE = (Path(__file__).parents[2] / "docs" / "moves" / "reconciliation.md").read_text()


@pytest.fixture
def refunded(service: Service) -> str:
    """A capture that somebody has refunded at Stripe, and a pass has seen it. The difference."""
    (capture,) = settled(service)
    service.by_hand("/v1/refunds", f"payment_intent={service.row(Capture, capture).payment_intent}")
    reconcile(service)
    (found,) = differences(service)
    return found.id


def test_a_pass_reads_on_and_says_what_is_open_by_its_exit_status(run: Run, service: Service) -> None:
    settled(service)
    ran = run("reconcile", "--actor", "grace")
    assert (ran.status, ran.out.splitlines()[-1]) == (0, "no difference is open")
    assert "own: ledger is read until" in ran.err
    assert run("audit", "--command", "reconcile").out.count("done") == 1
    reconcile(service)
    service.execute("UPDATE billing.captures SET state = 'refused'")
    reconcile(service)
    ran = run("reconcile", "--json")
    assert (ran.status, ran.json["open"], ran.json["complete"]) == (1, {"missing_here": 1}, True)


def test_nothing_is_changed_at_stripe(run: Run, service: Service) -> None:
    settled(service)
    before = [each for each in service.standin.requests() if each["method"] != "GET"]
    assert run("reconcile").status == 0
    assert [each for each in service.standin.requests() if each["method"] != "GET"] == before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--since", "2999-01-01"], "--since lies in the future"),
        (["--until", "2999-01-01"], "--until lies in the future"),
        (["--since", "2026-02-01", "--until", "2026-01-01"], "--until is not after --since"),
        (["--since", "yesterday"], "'yesterday' is not a time"),
    ],
)
def test_a_time_that_cannot_be_meant_is_refused(run: Run, arguments: list[str], complaint: str) -> None:
    ran = run("reconcile", *arguments)
    assert ran.status == 2
    assert complaint in ran.err


def test_what_is_older_than_the_first_pass_is_read_on_demand(run: Run, service: Service) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    reconcile(service)
    service.execute("UPDATE billing.stripe_cursors SET covered_from = now(), covered_until = now()")
    assert run("reconcile", "--since", f"{today:%Y-%m-%d}").status == 0
    with service.engine.connect() as connection:
        begun = connection.execute(text("SELECT DISTINCT covered_from FROM billing.stripe_cursors")).scalars().all()
    assert begun == [today]


def test_the_list_names_owner_and_both_sides_and_takes_a_class(run: Run, refunded: str) -> None:
    ran = run("differences", "list")
    assert ran.status == 0
    assert refunded in ran.out
    assert "finance" in ran.out
    assert "1999 USD refunded at Stripe" in ran.out
    assert run("differences", "list", "--class", "late").out == "no difference is open\n"
    assert run("differences", "list", "--class", "nonsense").status == 2
    (found,) = run("differences", "list", "--json").json
    assert (found["class"], found["owner"], found["state"], found["amount_minor"]) == (
        "refund",
        "finance",
        "open",
        1999,
    )


def test_a_person_closes_one_with_a_reason_and_it_is_a_fact(run: Run, refunded: str) -> None:
    assert run("differences", "close", refunded).status == 2
    ran = run("differences", "close", refunded, "--reason", "by hand, ticket 4711", "--actor", "grace")
    assert (ran.status, ran.out) == (0, f"{refunded} is closed; it opens again if either side changes\n")
    assert run("differences", "close", refunded, "--reason", "twice", "--json").json["closed"] is False
    assert "closed by grace: by hand, ticket 4711" in run("differences", "show", refunded).out
    assert len(run("audit", "--command", "differences close", "--json").json) == 1
    assert run("differences", "list").out == "no difference is open\n"
    assert refunded in run("differences", "list", "--all").out


def test_one_that_does_not_exist_is_named(run: Run) -> None:
    for ran in (run("differences", "show", "dif_1"), run("differences", "close", "dif_1", "--reason", "x")):
        assert ran.status == 2
        assert "dif_1" in ran.err


def plain(text: str) -> list[str]:
    """Without what differs from run to run: ids and times."""
    return re.sub(r"\d{4}-\d\d-\d\d [\d:.]+", "TIME", re.sub(r"\b(dif|cap|re)_\w+", r"\1", text)).splitlines()


def test_the_page_shows_what_is_printed(run: Run, refunded: str) -> None:
    (block,) = re.findall(r"^```console\n(.*?)^```", PAGE.partition("## Close one")[2], re.DOTALL | re.MULTILINE)
    _, *shown = re.split(r"^\$ billing ", block, flags=re.MULTILINE)
    assert len(shown) == 2
    for each in shown:
        words, _, answer = each.partition("\n")
        ran = run(*shlex.split(re.sub(r"dif_\w+", refunded, words)))
        assert plain(ran.out) == plain(answer)


def test_the_statements_of_the_page_answer_with_a_reader_s_rights(service: Service) -> None:
    captures = settled(service, 2)
    service.standin.advance(3 * 24 * 3600)
    reconcile(service, ahead=timedelta(days=4))
    _, fees, payouts = re.findall(r"^```sql\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    with service.engine.connect() as connection:
        connection.execute(text("SET ROLE billing_reader"))
        (day,) = connection.execute(text(fees.replace(":", r"\:"))).all()
        paid = connection.execute(text(payouts)).all()
        connection.execute(text("RESET ROLE"))
    assert (day.currency, int(day.gross), int(day.fees)) == ("USD", 2 * 1999, int(day.gross) - int(day.net))
    assert [each.capture for each in paid] == sorted(captures)
    assert sum(each.net_minor for each in paid) == paid[0].paid_out
