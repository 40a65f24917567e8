"""More is asked than can be started: it is seen, what may wait makes way, and a bulk is told when to come back."""

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from command import Run, run, settings
from service import Service
from sqlalchemy.orm import Session
from structlog.testing import LogCapture

import billing
from billing import database
from billing.admission import BULK_WITHIN_S
from billing.tables.queue_loads import QueueLoad
from jobs.config.queues import QUEUES, Queue
from jobs.road import backlog, load, work_queue
from jobs.road.cadence import CostlyChecks
from jobs.road.contracts import contracts, known, may_wait
from jobs.road.load import Load, Seen, judge

__all__ = ["run", "settings"]

PAGE = (Path(__file__).parents[2] / "docs" / "operate" / "backpressure.md").read_text()
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
QUEUE = Queue("captures", crew=4, start_within_s=10, starts_per_s=30)
BEFORE = Load("captures", NOON, waiting=50, lag_s=1, started=100, starts_per_s=10, behind_since=None)


# What a measurement means. No clock runs here: each time is given.


def test_a_queue_is_behind_from_its_slo_on_until_its_lag_is_under_half_of_it() -> None:
    behind = judge(QUEUE, Seen(50, 10.1, 1), BEFORE, NOON)
    assert behind.behind_since == NOON
    later = NOON + timedelta(minutes=1)
    assert judge(QUEUE, Seen(50, 5.1, 1), behind, later).behind_since == NOON
    assert judge(QUEUE, Seen(50, 5.0, 1), behind, later).behind_since is None
    assert judge(QUEUE, Seen(50, 10.0, 1), BEFORE, later).behind_since is None


def test_a_queue_of_which_nothing_is_started_is_not_behind_because_nothing_else_could_help_it() -> None:
    assert judge(QUEUE, Seen(50, 600, 0), BEFORE, NOON).behind_since is None
    assert judge(QUEUE, Seen(50, 600, 0), replace(BEFORE, behind_since=NOON), NOON).behind_since is None


def test_the_rate_is_learned_only_while_more_waits_than_a_worker_takes() -> None:
    assert judge(QUEUE, Seen(4, 1, 300), BEFORE, NOON).starts_per_s == 30
    assert judge(QUEUE, Seen(3, 1, 300), BEFORE, NOON).starts_per_s == 10
    assert judge(QUEUE, Seen(4, 1, 300), replace(BEFORE, waiting=3), NOON).starts_per_s == 10
    assert judge(QUEUE, Seen(4, 1, 3000), None, NOON).starts_per_s == QUEUE.starts_per_s, "nothing was known before"


def test_the_first_seconds_of_a_backlog_do_not_make_a_queue_look_slow_and_a_slow_minute_does() -> None:
    slow = judge(QUEUE, Seen(50, 1, 10), BEFORE, NOON)
    assert slow.starts_per_s == 9
    for _ in range(60):
        slow = judge(QUEUE, Seen(50, 1, 10), slow, NOON)
    assert slow.starts_per_s == 1


def test_all_contracts_of_a_queue_agree_whether_they_may_wait() -> None:
    assert may_wait() == ["refunds", "invoices", "emails", "documents", "maintenance"]
    for queue in QUEUES:
        assert len({contract.sheddable for _, contract in contracts() if contract.queue == queue.name}) == 1


# What is measured.


def measure(service: Service) -> dict[str, Load]:
    with database.transaction(service.engines["relay"]) as session:
        return {each.queue: each for each in load.measure(session)}


def waited(service: Service, seconds: float) -> None:
    service.execute(f"UPDATE billing.work SET created_at = created_at - interval '{seconds} seconds'")


def test_what_was_asked_and_not_started_waits_whether_it_is_planned_yet_or_not(service: Service) -> None:
    first, *_ = [service.ask_for_capture() for _ in range(3)]
    service.plan()
    service.ask_for_capture()
    service.ask_for_invoice()
    waited(service, 60)
    assert [service.prepared().keys(), measure(service)["captures"].waiting] == [{first}, 3]
    found = measure(service)
    assert (found["captures"].started, found["invoices"].started, found["invoices"].waiting) == (1, 0, 1)
    assert 60 <= found["captures"].lag_s < 60 + 600
    service.execute("UPDATE billing.facts SET happened_at = happened_at - interval '1 hour'")
    assert measure(service)["invoices"].lag_s >= 3600


def test_what_is_tried_again_was_started_and_is_not_counted_as_waiting(service: Service) -> None:
    service.ask_for_capture()
    service.plan()
    service.prepared()
    service.execute("UPDATE billing.work SET state = 'ready', created_at = created_at - interval '1 hour'")
    found = measure(service)["captures"]
    assert (found.waiting, found.lag_s) == (0, 0)


def test_a_start_is_counted_for_some_seconds(service: Service) -> None:
    service.ask_for_capture()
    service.plan()
    service.prepared()
    assert measure(service)["captures"].started == 1
    service.execute("UPDATE billing.idempotency_records SET id = 'rec_0198f0c2' || repeat('0', 24)")
    assert measure(service)["captures"].started == 0


def test_hostile_rows_are_measured_too(service: Service) -> None:
    for _ in range(3):
        service.ask_for_capture()
    service.plan()
    service.ask_for_capture()
    oldest = "WHERE id = (SELECT min(id) FROM billing.work)"
    service.execute(f"UPDATE billing.work SET created_at = 'infinity', urgency = '-infinity' {oldest}")
    service.execute("UPDATE billing.work SET created_at = '-infinity' WHERE id = (SELECT max(id) FROM billing.work)")
    service.execute("UPDATE billing.facts SET happened_at = '0044-03-15 BC' WHERE planned_version IS NULL")
    assert measure(service)["captures"].waiting == 4


def test_a_running_relay_measures_and_logs_once_that_a_queue_is_behind_and_that_it_has_recovered(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    captures_behind(service)
    lines = LogCapture()
    every_level = structlog.make_filtering_bound_logger(0)
    monkeypatch.setattr(load, "log", structlog.wrap_logger(None, processors=[lines], wrapper_class=every_level))
    service.relay.run(lambda: bool(loads(service)))
    measure(service)
    service.work_off()
    measure(service)
    told = [(line["event"], line["queue"]) for line in lines.entries]
    assert told == [("queue.behind", "captures"), ("queue.recovered", "captures")]


def loads(service: Service) -> list[QueueLoad]:
    with database.transaction(service.engine) as session:
        return list(session.query(QueueLoad))


# What is held back.


def captures_behind(service: Service) -> None:
    """Captures wait for longer than their SLO, and one of them is started just now."""
    for _ in range(3):
        service.ask_for_capture()
    service.plan()
    waited(service, 60)
    service.prepared()


def claimable(service: Service) -> dict[str, int]:
    with database.transaction(service.engines["relay"]) as session:
        return work_queue.claimable(session, known(), {"captures": 9, "invoices": 9})


def test_invoices_are_held_back_while_captures_are_behind_and_go_on_by_themselves_in_their_order(
    service: Service,
) -> None:
    invoices = [service.ask_for_invoice() for _ in range(3)]
    captures_behind(service)
    measure(service)
    assert claimable(service) == {"captures": 2, "invoices": 0}
    assert service.work_off("invoices") == 0
    assert {service.work(each).state for each in invoices} == {"ready"}
    service.work_off("captures")
    measure(service)
    assert claimable(service)["invoices"] == 3
    with database.transaction(service.engines["worker"]) as session:
        taken = work_queue.claim_ready(session, "invoices", known(), 9)
        assert [work.entity_id for work in taken] == invoices
    assert service.settle(*invoices) == ["sent"] * 3


def test_captures_are_never_held_back(service: Service) -> None:
    captures_behind(service)
    measure(service)
    service.execute("UPDATE billing.queue_loads SET behind_since = now()")
    assert claimable(service)["captures"] == 2
    assert service.work_off("captures") == 2


def test_what_is_urgent_is_started_although_its_queue_is_held_back(service: Service) -> None:
    patient, urgent = service.ask_for_invoice(), service.ask_for_invoice()
    captures_behind(service)
    measure(service)
    service.execute(
        "UPDATE billing.work SET urgency = clock_timestamp() - interval '1 second' WHERE entity_id = :id", id=urgent
    )
    assert claimable(service)["invoices"] == 1
    service.work_off("invoices")
    assert [service.status(each).state for each in (urgent, patient)] == ["sent", "requested"]


def test_a_look_at_a_call_in_doubt_is_not_held_back(service: Service) -> None:
    service.ask_for_invoice()
    service.plan()
    service.prepared("invoices")
    service.execute(
        "UPDATE billing.idempotency_records SET state = 'in_doubt', lease_until = NULL, look_at = clock_timestamp()"
    )
    captures_behind(service)
    measure(service)
    assert claimable(service)["invoices"] == 1


def test_nothing_is_held_back_for_captures_of_which_none_is_started(service: Service) -> None:
    service.ask_for_invoice()
    service.ask_for_capture()
    service.plan()
    waited(service, 60)
    measure(service)
    assert claimable(service) == {"captures": 1, "invoices": 1}


def test_nothing_is_held_back_by_a_measurement_that_no_relay_renews(service: Service) -> None:
    service.ask_for_invoice()
    captures_behind(service)
    measure(service)
    service.execute("UPDATE billing.queue_loads SET measured_at = measured_at - interval '3 minutes'")
    assert claimable(service)["invoices"] == 1


def test_what_a_relay_rings_for_is_what_a_worker_then_finds(service: Service) -> None:
    invoices = [service.ask_for_invoice() for _ in range(4)]
    captures_behind(service)
    rng = random.Random(7)
    for _ in range(30):
        for invoice in invoices:
            urgency = rng.choice(["-1 min", "1 min", "1 hour"])
            service.execute(
                f"UPDATE billing.work SET urgency = clock_timestamp() + interval '{urgency}' WHERE entity_id = :id",
                id=invoice,
            )
        measure(service)
        behind = rng.choice(["NULL", "now()"])
        service.execute(f"UPDATE billing.queue_loads SET behind_since = {behind} WHERE queue = 'captures'")
        with Session(service.engines["worker"]) as session:
            found = len(work_queue.claim_ready(session, "invoices", known(), 9))
        with database.transaction(service.engines["relay"]) as session:
            seen = backlog.read(session, {"invoices": 9}, CostlyChecks(stopped=True, unknown=True)).claimable
            assert seen == work_queue.claimable(session, known(), {"invoices": 9}) == {"invoices": found}


# Room for a bulk.


@pytest.fixture
def application(service: Service) -> Iterator[Session]:
    with Session(service.engines["application"]) as session:
        yield session


def write_load(service: Service, waiting: int, starts_per_s: float, age_s: float = 0) -> None:
    service.execute("DELETE FROM billing.queue_loads")
    service.execute(
        "INSERT INTO billing.queue_loads (queue, measured_at, waiting, lag_s, started, starts_per_s)"
        " VALUES ('captures', clock_timestamp() - make_interval(secs => :age_s), :waiting, 0, 0, :starts_per_s)",
        waiting=waiting,
        starts_per_s=starts_per_s,
        age_s=age_s,
    )


def refused(session: Session, count: int) -> billing.TooBusy:
    with pytest.raises(billing.TooBusy) as told:
        billing.admit(session, "captures", count)
    return told.value


def test_a_bulk_has_room_if_all_of_it_is_started_in_five_minutes(service: Service, application: Session) -> None:
    assert BULK_WITHIN_S == 300
    write_load(service, waiting=2000, starts_per_s=10)
    billing.admit(application, "captures", 1000)
    busy = refused(application, 1001)
    assert (busy.room, busy.at_most, busy.waiting, busy.retry_after_s) == (1000, 3000, 2000, 1)
    assert str(busy) == (
        "captures has no room for 1,001 more requests: 2,000 of at most 3,000 wait there, and there is room for 1,000 "
        "now; come back in 1 s"
    )


def test_whoever_comes_back_when_told_finds_room_if_the_queue_keeps_its_rate(
    service: Service, application: Session
) -> None:
    write_load(service, waiting=5000, starts_per_s=10)
    busy = refused(application, 2000)
    assert (busy.room, busy.retry_after_s) == (0, 400)
    write_load(service, waiting=5000 - 10 * busy.retry_after_s, starts_per_s=10)
    billing.admit(application, "captures", 2000)


def test_a_bulk_that_never_has_room_is_told_how_many_do(service: Service, application: Session) -> None:
    write_load(service, waiting=0, starts_per_s=10)
    busy = refused(application, 5000)
    assert (busy.room, busy.at_most, busy.retry_after_s) == (3000, 3000, 1)
    assert "ask for at most 3,000 at once" in str(busy)


@pytest.mark.parametrize(("starts_per_s", "age_s", "retry_after_s"), [(0.0, 0, 3600), (10.0, 180, 120)])
def test_a_queue_that_stands_or_is_not_measured_takes_no_bulk(
    service: Service, application: Session, starts_per_s: float, age_s: float, retry_after_s: int
) -> None:
    write_load(service, waiting=1, starts_per_s=starts_per_s, age_s=age_s)
    busy = refused(application, 1)
    assert (busy.room, busy.at_most, busy.retry_after_s) == (0, 0, retry_after_s)


def test_a_queue_that_was_never_measured_takes_every_bulk(service: Service, application: Session) -> None:
    billing.admit(application, "captures", 1_000_000)


def test_single_requests_are_never_refused(service: Service) -> None:
    write_load(service, waiting=1_000_000, starts_per_s=0)
    assert service.ask_for_capture()


@pytest.mark.parametrize(
    ("queue", "count"),
    [
        ("letters", 1),
        (None, 1),
        (["captures"], 1),
        ("captures", 0),
        ("captures", True),
        ("captures", 1.5),
        ("captures", -1),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(application: Session, queue: Any, count: Any) -> None:
    with pytest.raises(billing.InvalidRequest):
        billing.admit(application, queue, count)


# What an operator sees, and the page.


def test_the_command_says_what_is_behind_and_what_to_do(run: Run, service: Service) -> None:
    unmeasured = run("queues")
    assert (unmeasured.status, unmeasured.out.count("no relay measures it: start one")) == (1, len(QUEUES))
    service.ask_for_invoice()
    captures_behind(service)
    measure(service)
    captures, _, invoices, *_ = run("queues", "--json").json
    assert (captures["waiting"], captures["held_back"], captures["started_last_minute"]) == (2, False, 1)
    assert captures["lag_s"] >= 60
    assert captures["behind_since"] is not None
    assert (invoices["held_back"], invoices["problem"]) == (True, None)
    shown = run("queues")
    assert shown.status == 1
    assert re.search(r"captures: the next has waited \d+ s, and 10 s are allowed; at this rate", shown.out)
    assert "invoices: held back until the others are in time" in shown.out
    service.execute("UPDATE billing.queue_loads SET started = 0")
    assert "none is started: see `billing health worker-captures`" in run("queues").out
    service.work_off()
    measure(service)
    assert run("queues").status == 0


def test_how_long_requests_waited_is_measured_from_the_request(run: Run, service: Service) -> None:
    capture = service.ask_for_capture()
    service.execute("UPDATE billing.captures SET requested_at = requested_at - interval '100 seconds'")
    assert service.settle(capture) == ["captured"]
    service.relay.measure()
    captures, _, invoices, *_ = run("queues", "--json").json
    assert captures["started_last_minute"] == 1
    assert captures["waited_p50_s"] == captures["waited_p99_s"] >= 100
    assert (invoices["started_last_minute"], invoices["waited_p50_s"]) == (0, None)


def test_the_commands_of_the_page_run_and_its_program_asks_for_room(run: Run, service: Service) -> None:
    measure(service)
    commands = re.findall(r"^```sh\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)
    assert commands == ["billing queues"]
    assert [run(*command.split()[1:]).status for command in commands] == [0]
    (program,) = re.findall(r"^```python\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"Session": Session, "engine": service.engines["application"], "billing": billing}
    exec(program, names)  # noqa: S102 - what the page shows is run
    assert "busy" not in names
    service.execute("UPDATE billing.queue_loads SET waiting = 599")
    printed: list[str] = []
    exec(program, names | {"print": printed.append})  # noqa: S102
    assert printed == [
        "invoices has no room for 500 more requests: 599 of at most 600 wait there, and there is room for 1 now; "
        "come back in 250 s"
    ]


def test_the_page_names_the_slos_and_the_limits_of_the_code() -> None:
    slos = {queue.name: queue.start_within_s for queue in QUEUES}
    named = ", ".join(f"{slos[name]:g} s for {name}" for name in ("captures", "refunds", "invoices"))
    assert named in " ".join(PAGE.split())
    assert load.CALM_SHARE == 0.5
