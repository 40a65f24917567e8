"""`billing health --trend`: what waits now is compared with the same hour of earlier weeks, by the snapshots' facts."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree

import pytest
from cases import case
from command import Run
from service import Service

from billing import database
from jobs.checkup.trend import LEAST_WEEKS, NUMBERS, Usual

PAGE = (Path(__file__).parents[2] / "docs" / "operate" / "metrics.md").read_text()
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
WEEK = timedelta(weeks=1)


def found(ready: int = 40, **more: Any) -> dict[str, Any]:
    """The result of the schedule's function: captures that are ready, and what more there is."""
    return {"work": [{"queue": "captures", "state": "ready", "pieces": ready, "oldest_s": 5}], **more}


def fact(service: Service, at: datetime, payload: Mapping[str, Any], topic: str = "run.done") -> None:
    """As a worker of the queue `maintenance` writes it."""
    run = f"run_{int(at.timestamp() * 1000):012x}{uuid4().hex[:20]}"
    service.execute(
        "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)"
        " VALUES (:topic, 'run', :run, 2, 'billing', CAST(:payload AS jsonb))",
        topic=topic,
        run=run,
        payload=json.dumps(payload),
    )


def snapshot(service: Service, at: datetime, result: Any = None) -> None:
    payload = {"schedule": "snapshot_queues", "at": at.isoformat(), "result": found() if result is None else result}
    fact(service, at, payload)


def weeks_before(service: Service, *ready: int) -> None:
    """Of this hour, the last week's first."""
    for week, pieces in enumerate(ready, 1):
        snapshot(service, NOW - week * WEEK, found(pieces))


def test_what_is_as_usual_is_said_and_the_status_is_0(service: Service, run: Run) -> None:
    weeks_before(service, 30, 40, 50, 38, 44, 1_000)
    snapshot(service, NOW, found(58))
    ran = run("health", "--trend")
    assert (ran.status, ran.out.splitlines()[-1]) == (0, "nothing is unusual")
    assert re.search(r"captures: pieces of ready work +58 +42 +9 +6", ran.out)


def test_what_is_unusual_is_named_with_what_to_do_as_the_page_shows(service: Service, run: Run) -> None:
    weeks_before(service, 30, 40, 50, 38, 44, 1_000)
    snapshot(service, NOW, found(812, undecided=[{"queue": "invoices", "calls": 3}]))
    ran = run("health", "--trend")
    assert ran.status == 1
    warned = [line for line in ran.out.splitlines() if line.startswith(("UNUSUAL", "         next"))]
    assert warned == [
        "UNUSUAL  captures: pieces of ready work: 812; at this hour usually 42, give or take 9 (6 weeks)",
        "         next: billing retries",
        "UNUSUAL  invoices: undecided calls: 3; at this hour usually 0, give or take 0 (6 weeks)",
        "         next: billing quarantine list --undecided",
    ]
    assert "\n".join(warned) in PAGE
    told = run("health", "--trend", "--json").json
    assert [each["says"] for each in told["unusual"]] == [
        "captures: pieces of ready work",
        "invoices: undecided calls",
    ]
    assert told["unusual"][0]["now"] == 812
    assert told["unusual"][0]["usual"]["median"] == 42


def test_an_operation_is_named_by_its_kind(service: Service, run: Run) -> None:
    weeks_before(service, 40, 40, 40)
    doubt = {"operation": "inv", "currency": "EUR", "operations": 9, "minor": 500, "oldest_s": 61}
    snapshot(service, NOW, found(in_doubt=[doubt]))
    told = run("health", "--trend", "--json").json
    assert [(each["says"], each["now"]) for each in told["unusual"]] == [("invoices in doubt, EUR", 9)]


def test_only_the_same_hour_of_the_same_weekday_counts(service: Service, run: Run) -> None:
    """Each evening thousands wait, and each Monday: neither makes a quiet hour of another day unusual."""
    for week in range(1, 5):
        for away in (timedelta(hours=-3), timedelta(hours=1), timedelta(days=-1), timedelta(days=1)):
            snapshot(service, NOW - week * WEEK + away, found(10_000))
        snapshot(service, NOW - week * WEEK + timedelta(minutes=4), found(5))
    snapshot(service, NOW, found(300))
    (unusual,) = run("health", "--trend", "--json").json["unusual"]
    assert (unusual["usual"]["median"], unusual["usual"]["weeks"]) == (5, 4)


def test_from_too_few_weeks_nothing_is_called_unusual(service: Service, run: Run) -> None:
    weeks_before(service, *[40] * (LEAST_WEEKS - 1))
    snapshot(service, NOW, found(100_000))
    ran = run("health", "--trend")
    assert ran.status == 0
    assert ran.out.splitlines()[-1] == "from 2 earlier weeks nothing can be called unusual; 3 are needed"


def test_what_no_longer_comes_is_told(service: Service, run: Run) -> None:
    assert run("health", "--trend").status == 1
    assert "there is no snapshot yet" in run("health", "--trend").out
    snapshot(service, NOW - timedelta(hours=5))
    ran = run("health", "--trend")
    assert ran.status == 1
    assert f"TOO OLD  the newest snapshot is of {NOW - timedelta(hours=5):%Y-%m-%d %H:%M:%S}" in ran.out


NO_SNAPSHOTS = [
    {},
    {"schedule": "report_catalog", "at": NOW.isoformat(), "result": found(9)},
    {"schedule": "snapshot_queues", "at": "yesterday", "result": found(9)},
    {"schedule": "snapshot_queues", "at": 7, "result": found(9)},
    {"schedule": "snapshot_queues", "at": NOW.replace(tzinfo=None).isoformat(), "result": found(9)},
    {"schedule": "snapshot_queues", "at": NOW.isoformat(), "result": None},
    {"schedule": "snapshot_queues", "at": NOW.isoformat(), "result": {"work": 7}},
    {"schedule": "snapshot_queues", "at": NOW.isoformat(), "result": {"work": [7]}},
    {"schedule": "snapshot_queues", "at": NOW.isoformat(), "result": {"work": [{"pieces": 9}]}},
    {"schedule": "snapshot_queues", "at": NOW.isoformat(), "result": {"work": [{"queue": "q", "pieces": 9}]}},
]


def test_a_fact_that_is_no_snapshot_is_passed_over(service: Service, run: Run) -> None:
    """An application's login may write any fact."""
    snapshot(service, NOW)
    for hours, payload in enumerate(NO_SNAPSHOTS, 1):
        fact(service, NOW - timedelta(hours=hours), payload)
        with case(payload):
            told = run("health", "--trend", "--json").json
            assert datetime.fromisoformat(told["at"]) == NOW
            assert [each["now"] for each in told["compared"]] == [40, 5]


@pytest.mark.parametrize("value", [-1, 10**15, "40", True, None, 4.5])
def test_what_is_no_count_is_left_out(service: Service, run: Run, value: Any) -> None:
    snapshot(service, NOW, {"work": [{"queue": "captures", "state": "ready", "pieces": value, "oldest_s": 5}]})
    assert [each["says"] for each in run("health", "--trend", "--json").json["compared"]] == [
        "captures: seconds since the oldest ready work came to wait"
    ]


def test_a_name_of_another_program_moves_no_cursor_and_draws_no_script(
    service: Service, run: Run, tmp_path: Path
) -> None:
    hostile = [{"queue": "\x1b[2J</text><script>", "state": "{queue.__class__}", "pieces": 50, "oldest_s": 0}]
    snapshot(service, NOW, found() | {"work": [*found()["work"], *hostile]})
    ran = run("health", "--trend", "--plot", str(tmp_path / "week.svg"))
    assert ran.status == 0
    assert "\x1b" not in ran.out
    assert "script" not in ran.out
    drawn = ElementTree.parse(tmp_path / "week.svg").getroot()  # noqa: S314 - our own
    assert {element.tag.rpartition("}")[2] for element in drawn.iter()} <= {"svg", "rect", "text", "polyline"}


def test_the_last_week_is_drawn_with_what_is_usual(service: Service, run: Run, tmp_path: Path) -> None:
    for hour in range(48):
        for week in range(5):
            snapshot(service, NOW - timedelta(hours=hour) - week * WEEK, found(100 + hour + week))
    plot = tmp_path / "week.svg"
    ran = run("health", "--trend", "--plot", str(plot))
    assert f"the last week is drawn in {plot}" in ran.out
    drawn = ElementTree.parse(plot).getroot()  # noqa: S314 - our own
    shapes = [element.tag.rpartition("}")[2] for element in drawn.iter()]
    # Two numbers: pieces and age.
    assert (shapes.count("polyline"), shapes.count("polygon")) == (2, 2)
    (line, _) = drawn.iter("{http://www.w3.org/2000/svg}polyline")
    assert len(line.attrib["points"].split()) == 48


APART = [
    (("health",), "name a role"),
    (("health", "cook"), "'cook' is not a role"),
    (("health", "relay", "--trend"), "leave out ROLE"),
    (("health", "--trend", "--alive"), "leave out ROLE"),
    (("health", "--plot", "x.svg"), "add --trend"),
]


def test_what_does_not_go_together_is_refused(run: Run) -> None:
    for arguments, why in APART:
        with case(*arguments):
            ran = run(*arguments)
            assert ran.status == 2
            assert why in ran.err


def test_what_hardly_varied_may_vary_a_little() -> None:
    assert Usual(6, 100.0, 0.0).limit(10) == 125
    assert Usual(6, 0.0, 0.0).limit(10) == 10
    assert Usual(6, 100.0, 20.0).limit(10) == 180
    assert Usual(LEAST_WEEKS - 1, 0.0, 0.0).limit(10) is None


def test_each_number_says_another_thing() -> None:
    assert len({number.says for number in NUMBERS}) == len(NUMBERS)


def test_ten_weeks_of_every_hour_are_read_by_their_index(service: Service) -> None:
    with database.transaction(service.engine) as session:
        connection = session.connection()
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        plan = connection.exec_driver_sql(
            "EXPLAIN SELECT payload FROM billing.facts"
            " WHERE entity_type = 'run' AND entity_id >= 'run_0' AND topic = 'run.done' ORDER BY entity_id"
        )
        assert "facts_entity_type_entity_id_entity_version_key" in "\n".join(row[0] for row in plan)
