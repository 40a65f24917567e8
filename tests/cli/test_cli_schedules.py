"""`billing schedule` and `billing catalog`: what an operator sees of what is scheduled, and the page about it."""

import re
import shlex
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from command import Run
from service import Service

from billing import database
from billing.schedules import BY_NAME, SCHEDULES, AfterDowntime
from jobs.road import ticks
from jobs.schedules import listing
from jobs.schedules.functions import Functions

PAGE = (Path(__file__).parents[2] / "docs" / "operate" / "schedules.md").read_text()
SNAPSHOT = BY_NAME["snapshot_queues"]


def tick(service: Service) -> None:
    """The time of the snapshot has come."""
    with database.transaction(service.engines["relay"]) as session:
        ticks.make(session, [replace(SNAPSHOT, when="* * * * *")])


def work_off(service: Service) -> None:
    service.plan()
    service.work_off("maintenance", Functions(service.engines["worker"], livemode=False))


def outcome(run: Run) -> str:
    ran = run("schedule", "list", "--json")
    assert ran.status == 0
    return str(next(each["last"]["outcome"] for each in ran.json if each["name"] == SNAPSHOT.name))


def test_the_list_says_what_became_of_the_last_run_and_what_helps(run: Run, service: Service) -> None:
    assert "it has not run yet" in run("schedule", "list").out
    tick(service)
    assert outcome(run) == "waits for a relay to plan it"
    service.plan()
    assert outcome(run) == "waits for a worker: billing worker maintenance"
    service.execute("UPDATE billing.work SET state = 'waiting', due_at = '2026-03-02T09:15:00Z'")
    assert outcome(run) == "failed, and is tried again at 09:15:00 UTC"
    service.execute("UPDATE billing.work SET state = 'quarantined'")
    (work_id,) = [each["id"] for each in run("quarantine", "list", "--json").json]
    assert outcome(run) == f"failed: billing quarantine show {work_id}"
    assert run("quarantine", "show", work_id).status == 0
    service.execute("UPDATE billing.work SET state = 'ready'")
    work_off(service)
    assert outcome(run) == "done"
    assert "1 run" not in run("schedule", "list").out


def test_a_tick_that_has_no_run_is_named_with_what_becomes_of_it(run: Run, service: Service) -> None:
    for name, at in (("snapshot_queues", "2 hours"), ("report_catalog", "40 days")):
        service.execute(
            "INSERT INTO billing.scheduled_runs (id, schedule, at, state)"
            " VALUES (:id, :name, clock_timestamp() - CAST(:at AS interval), 'done')",
            id=f"run_{name.replace('_', '')}",
            name=name,
            at=at,
        )
    with database.transaction(service.engines["operator"]) as session:
        late = {each.name for each in listing.listed(session) if each.not_made}
    told = run("schedule", "list").out
    assert ("report_catalog" in late) == ("makes it within a minute" in told)
    # Of the hourly one only outside of the minutes in which a relay still makes it.
    assert ("snapshot_queues" in late) == ("the next tick is made" in told)


def test_a_paused_schedule_is_shown_as_such_and_cannot_be_run(run: Run, service: Service) -> None:
    assert run("schedule", "pause", "snapshot_queues", "--reason", "INC-14").status == 0
    assert "paused (contract:snapshot_queues: INC-14)" in run("schedule", "list").out
    (pulled,) = run("switch", "list", "--json").json
    assert pulled["scope"] == "contract:snapshot_queues"
    refused = run("schedule", "run", "snapshot_queues")
    assert refused.status == 2
    assert "stopped by the switch contract:snapshot_queues: INC-14" in refused.err
    again = run("schedule", "pause", "snapshot_queues", "--reason", "another")
    assert "INC-14" in again.out
    assert run("schedule", "resume", "snapshot_queues", "--reason", "mended").status == 0
    assert run("schedule", "run", "snapshot_queues").status == 0
    not_paused = run("schedule", "resume", "snapshot_queues", "--reason", "mended")
    assert (not_paused.status, "is not paused" in not_paused.err) == (2, True)


@pytest.mark.parametrize("command", ["run", "pause", "resume"])
def test_an_unknown_schedule_is_refused_with_those_that_there_are(run: Run, command: str) -> None:
    reason = () if command == "run" else ("--reason", "INC-14")
    refused = run("schedule", command, "nightly", *reason)
    assert refused.status == 2
    for schedule in SCHEDULES:
        assert schedule.name in refused.err


# The page.


def test_the_page_names_every_schedule_as_it_is() -> None:
    for each in SCHEDULES:
        row = f"| `{each.name}` | `{each.when}` {each.zone} | {each.purpose} | {each.after_downtime} |"
        assert row in PAGE
    for after in AfterDowntime:
        assert f"\n| {after} | " in PAGE
    assert timedelta(minutes=5) == ticks.LATE
    assert "within 5 minutes" in PAGE
    assert f"more than {ticks.MADE_MOST} " in PAGE


def test_the_page_shows_what_the_commands_say(run: Run, service: Service) -> None:
    for _ in range(2):
        service.settle(service.ask_for_capture())
    tick(service)
    work_off(service)
    for block in re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
        for shown in block.split("$ ")[1:]:
            command, _, answer = shown.partition("\n")
            ran = run(*shlex.split(command)[1:])
            assert ran.status == 0, command
            if command == "billing catalog":  # shortened there, and one more run was asked for meanwhile
                told = [re.sub(r" [12] TIME", " N TIME", line) for line in plain(ran.out)]
                assert {re.sub(r" [12] TIME", " N TIME", line) for line in plain(answer)} <= set(told)
            else:
                assert plain(ran.out) == plain(answer), command


def plain(text: str) -> list[str]:
    for pattern, word in {
        r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d(\.\d{3})?)?": "TIME",
        r"\d+\.\d s\b": "TOOK",
        r"run_[0-9a-f]{32}": "RUN",
    }.items():
        text = re.sub(pattern, word, text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]
