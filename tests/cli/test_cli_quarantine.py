"""What `billing quarantine` prints, what it changes, and what it leaves behind."""

import random
import re
import shlex
from datetime import timedelta
from pathlib import Path

from cases import case
from service import Service
from structlog.testing import capture_logs

from billing import database
from billing.states import WorkState
from jobs.road import quarantine_list
from jobs.road.cadence import ALARM_EVERY_S, Cadence
from jobs.road.runner import Runner

PAGE = (Path(__file__).parents[2] / "docs" / "operate" / "quarantine.md").read_text()


def conflicts(service: Service, count: int = 1) -> list[str]:
    """The ids of work in conflict, in the order of the list."""
    service.standin.add_fault("other_amount", path="/capture$", times=count)
    captures = [service.ask_for_capture(intent) for intent in service.intents(count)]
    service.plan()
    service.work_off()
    assert {service.work(each).state for each in captures} == {WorkState.QUARANTINED}
    return in_list(service)


def exhausted(service: Service) -> str:
    """The id of work with which five workers died before anything was sent."""
    capture = service.ask_for_capture()
    service.plan()
    service.execute("UPDATE billing.work SET attempts = 5 WHERE entity_id = :id", id=capture)
    service.work_off()
    assert service.work(capture).state == WorkState.QUARANTINED
    return service.work(capture).id


def unprepared(service: Service) -> str:
    """The id of work for which no call could be prepared."""
    capture = service.ask_for_capture()
    service.plan()
    runner = Runner(service.call_settings, random.Random(1))
    with database.transaction(service.engines["worker"]) as session:
        runner.set_aside(session, runner.claim(session, "captures", 1), ValueError("a bug"))
    return service.work(capture).id


def in_list(service: Service, filters: quarantine_list.Filters | None = None) -> list[str]:
    with database.transaction(service.engines["operator"]) as session:
        listed = [each.id for each in quarantine_list.listed(session, filters=filters)]
        assert quarantine_list.matching(session, filters or quarantine_list.Filters()) == listed
    return listed


def make_older(service: Service, work_id: str, hours: int) -> None:
    service.execute(
        "UPDATE billing.work SET state_since = state_since - make_interval(hours => :h) WHERE id = :id",
        h=hours,
        id=work_id,
    )


def test_show_prints_the_errors_the_calls_and_the_code_of_each_failure(run, service: Service) -> None:
    (work_id,) = conflicts(service)
    shown = run("quarantine", "show", work_id)
    failures = shown.out.partition("\nfailures\n")[2]
    assert "quarantined: conflict: " in failures
    (failed,) = run("quarantine", "show", work_id, "--json").json["failures"]
    (request_id,) = failed["calls"][0]["request_ids"]
    assert f"capture g1 was conflict, 1 send, 1 unanswered, Stripe request ids: {request_id}" in failures
    assert failed["code_version"] in failures


def test_each_filter_means_some_of_the_work_and_all_of_them_hold_together(service: Service) -> None:
    first, second, third = conflicts(service, 3)
    make_older(service, second, 3)
    service.execute("UPDATE billing.work SET reason = 'unfit: 100 % of it' WHERE id = :id", id=third)
    service.execute("UPDATE billing.work SET scopes = ARRAY['account:acct_9'] WHERE id = :id", id=first)
    service.execute("UPDATE billing.work SET contract = 'other' WHERE id = :id", id=second)
    with database.transaction(service.engines["operator"]) as session:
        quarantine_list.assign(session, third, assignee="grace", actor="ada")
    only = quarantine_list.Filters
    assert in_list(service) == [second, first, third]
    assert in_list(service, only(reason="CONFLICT")) == [second, first]
    assert in_list(service, only(reason="100 % of")) == [third]
    assert in_list(service, only(reason="1_0")) == []
    assert in_list(service, only(contract="other")) == [second]
    assert in_list(service, only(older_than=timedelta(hours=2))) == [second]
    assert in_list(service, only(account="acct_9")) == [first]
    assert in_list(service, only(account="own")) == [second, third]
    assert in_list(service, only(assignee="grace")) == [third]
    assert in_list(service, only(untouched=True)) == [second, first]
    assert in_list(service, only(untouched=True, reason="conflict", account="own")) == [second]


def test_a_bulk_form_changes_nothing_until_the_number_that_it_printed_is_repeated(run, service: Service) -> None:
    works = conflicts(service, 3)
    replay = ("quarantine", "replay", "--reason-has", "conflict", "--reason", "INC-12")
    for asked in ((), ("--count", "2")):
        told = run(*replay, *asked)
        assert (told.status, told.out) == (1, "")
        assert all(each in told.err for each in works)
        assert "repeat the command with --count 3" in told.err
    assert in_list(service) == works
    assert run("audit", "--json").json == []
    done = run(*replay, "--count", "3", "--json")
    assert (done.status, done.json) == (0, {"meant": 3, "done": works, "failed": {}})
    assert in_list(service) == []
    assert sorted(row["about"] for row in run("audit", "--json").json) == sorted(works)
    assert run(*replay, "--yes").out == "nothing in quarantine is meant by this\n"


def test_one_piece_that_cannot_be_changed_harms_no_other_and_the_exit_status_says_so(run, service: Service) -> None:
    first, second = conflicts(service, 2)
    service.execute(
        "UPDATE billing.idempotency_records SET lease_s = 3600, lease_until = now() + interval '1 hour'"
        " WHERE work_id = :id",
        id=first,
    )
    ran = run("quarantine", "replay", "--all", "--yes", "--reason", "INC-12")
    assert ran.status == 1
    assert ran.out.startswith("1 of 2 pieces of work ready again\n")
    assert f"{first} not: " in ran.out
    assert "call in flight" in ran.out
    assert in_list(service) == [first]
    assert [row["about"] for row in run("audit", "--json").json] == [second]


NOT_MEANT = [
    (),
    ("wrk_1", "--untouched"),
    ("wrk_1", "--all"),
    ("--all", "--contract", "x"),
    ("--older-than", "2 weeks"),
]


def test_what_is_meant_must_be_said_and_in_one_way(run) -> None:
    for arguments in NOT_MEANT:
        with case(*arguments):
            ran = run("quarantine", "assign", *arguments, "--to", "grace")
            assert ran.status == 2
            assert len(ran.err.splitlines()) == 1


def test_the_first_touch_of_each_stay_is_kept_with_its_time(run, service: Service) -> None:
    first, second = conflicts(service, 2)
    for each, hours in ((first, 2), (second, 3)):
        make_older(service, each, hours)
    waiting = run("quarantine", "stats", "--json").json
    assert (waiting["touched"], waiting["mean_s"], waiting["untouched"], waiting["overdue"]) == (0, None, 2, 2)
    assert run("quarantine", "list").out.count("OVERDUE") == 2
    assert "2 untouched for more than 1:00:00" in run("doctor").out
    for assignee in ("grace", "ada"):
        assert run("quarantine", "assign", first, "--to", assignee, "--actor", assignee).status == 0
    assert run("quarantine", "replay", second, "--reason", "INC-12", "--actor", "anna").status == 0
    times = run("quarantine", "stats", "--json").json
    assert (times["touched"], times["untouched"], times["overdue"]) == (2, 0, 0)
    assert 2.5 * 3600 <= times["mean_s"] <= times["p90_s"]
    (row,) = run("quarantine", "list", "--json").json
    assert (row["id"], row["assignee"], row["overdue"]) == (first, "ada", False)
    with database.transaction(service.engine) as session:
        touches = session.connection().exec_driver_sql(
            "SELECT work_id, touched_by, assignee FROM billing.quarantine_touches ORDER BY touched_at"
        )
        assert [tuple(each) for each in touches] == [(first, "grace", "ada"), (second, "anna", None)]


def test_work_that_comes_back_to_quarantine_is_untouched_again(run, service: Service) -> None:
    (work_id,) = conflicts(service)
    run("quarantine", "assign", work_id, "--to", "grace")
    service.execute("UPDATE billing.work SET state_since = clock_timestamp() WHERE id = :id", id=work_id)
    assert in_list(service, quarantine_list.Filters(untouched=True)) == [work_id]


def test_only_work_in_quarantine_is_assigned(run, service: Service) -> None:
    capture = service.ask_for_capture()
    service.plan()
    refused = run("quarantine", "assign", service.work(capture).id, "--to", "grace")
    assert refused.status != 0
    assert "is ready, not quarantined" in refused.err


def test_a_relay_logs_what_nobody_touched_at_its_start_and_again_later(service: Service) -> None:
    (work_id,) = conflicts(service)
    with capture_logs() as told:
        service.relay.alarm()
    assert told == []
    make_older(service, work_id, 2)
    with capture_logs() as told:
        service.relay.alarm()
    (line,) = told
    assert (line["event"], line["log_level"], line["count"]) == ("quarantine.untouched", "error", 1)
    cadence = Cadence()
    assert cadence.should_alarm(5.0)
    cadence.alarmed(5.0)
    assert not cadence.should_alarm(4.0 + ALARM_EVERY_S)
    assert cadence.should_alarm(5.0 + ALARM_EVERY_S)


def test_a_plan_is_shown_and_carried_out_with_a_worker_s_login_and_with_no_other(run, service, monkeypatch) -> None:
    work_id = exhausted(service)
    replay = ("quarantine", "replay", work_id, "--reason", "INC-12", "--actor", "ada")

    def acting_as(kind: str) -> None:
        monkeypatch.setenv("DATABASE_URL", f"{service.url}?options=-c%20role%3Dbilling_{kind}")

    acting_as("operator")
    refused = run(*replay, "--dry-run")
    assert refused.status != 0
    assert "worker's DATABASE_URL and BILLING_STRIPE_KEY" in refused.err
    acting_as("worker")
    plan = run(*replay, "--dry-run", "--json").json
    assert (plan["work_id"], plan["call"]["method"]) == (work_id, "POST")
    assert plan["call"]["parameters"]["amount_to_capture"] == "1999"
    shown = run(*replay, "--dry-run")
    assert (shown.status, shown.out.count(plan["id"])) == (0, 2)
    other = run(*replay, "--approve", "plan_0000000000000000")
    assert other.status != 0
    assert f"plan_0000000000000000 was approved, and {plan['id']} is what would be done now" in other.err
    assert run(*replay, "--approve", plan["id"], "--count", "1").status == 2
    assert in_list(service) == [work_id]
    assert service.posts("/capture") == []
    done = run(*replay, "--approve", plan["id"])
    assert (done.status, done.err) == (0, "")
    assert (
        done.out
        == f"{work_id} was carried out as planned: {plan['entity_id']} is captured; next: nothing, this is final\n"
    )
    assert [each["key"] for each in service.posts("/capture")] == [plan["call"]["key"]]
    monkeypatch.setenv("DATABASE_URL", service.url)
    (row,) = run("audit", "--json").json
    assert (row["command"], row["about"], row["actor"]) == ("quarantine replay", work_id, "ada")


def test_in_bulk_an_approved_plan_is_all_that_was_shown_or_nothing(run, service: Service) -> None:
    works = conflicts(service, 3)
    replay = ("quarantine", "replay", "--reason-has", "conflict", "--reason", "INC-12")
    together = run(*replay, "--dry-run", "--json").json
    assert [plan["work_id"] for plan in together["plans"]] == works
    (fourth,) = set(conflicts(service)) - set(works)
    refused = run(*replay, "--approve", together["id"])
    assert (refused.status != 0, in_list(service)) == (True, [*works, fourth])
    together = run(*replay, "--dry-run", "--json").json
    done = run(*replay, "--approve", together["id"], "--json")
    assert done.json == {"meant": 4, "done": [*works, fourth], "failed": {}}
    assert in_list(service) == []


def examples() -> list[tuple[str, str]]:
    """(command, what it prints) of every example of the page."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    parts = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


def plain(words: str) -> str:
    """Without what differs from run to run: times, ids, and how wide a column is."""
    words = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+", "TIME", words)
    words = re.sub(r"sha256 [0-9a-f]+", "sha256", words)
    words = re.sub(r"\b(wrk|cap|plan|pi)_[0-9A-Za-z]+", r"\1", re.sub(r"\b\d+ s\b", "SECONDS", words))
    return re.sub(r" +", " ", words).replace(" \n", "\n")


def test_the_examples_of_the_page_print_what_it_shows(run, service: Service) -> None:
    conflicts(service, 2)
    exhausted(service)
    unprepared(service)
    plan_id = ""
    assert len(examples()) == 8
    for command, shown in examples():
        ran = run(*shlex.split(re.sub(r"plan_[0-9a-f]{16}", plan_id, command))[1:])
        plan_id = "".join(re.findall(r"write --approve (plan_\w+) ", ran.out)) or plan_id
        assert plain(ran.out + ran.err) == plain(shown), command
    assert in_list(service) == []
