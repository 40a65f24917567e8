"""A schedule's run goes the whole road like any other work, and is carried out by a function of ours."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy.exc
from service import Service, acting_as, eventually
from sqlalchemy import select, text

from billing import database, operations, statements
from billing.errors import InvalidRequest
from billing.gateway import RUN, Budget, NotSent, Request, Response, boot_clock
from billing.runs import OPERATION, QUEUE
from billing.schedules import BY_NAME, SCHEDULES, AfterDowntime, Schedule
from billing.states import RecordState
from billing.tables.scheduled_runs import ScheduledRun
from jobs.config import queues
from jobs.metrics import reading
from jobs.road import housekeeping, quarantine, ticks
from jobs.road.relay import Relay
from jobs.schedules import catalog, queue_health
from jobs.schedules.functions import RESULT_MOST, Functions, Invocation

SNAPSHOT = BY_NAME["snapshot_queues"]
HOUR = timedelta(hours=1)
LATER = Budget(1e12, 1e12)


def functions(service: Service, function: Callable[[Invocation], Mapping[str, Any]] | None = None) -> Functions:
    """The gateway of the queue `maintenance`; every schedule runs this function, if one is given."""
    engine = service.engines["worker"]
    if function is None:
        return Functions(engine, livemode=False)
    return Functions(engine, livemode=False, functions={each.name: function for each in SCHEDULES})


def ask(service: Service, schedule: Schedule = SNAPSHOT, actor: str = "anna") -> str:
    with database.transaction(service.engines["operator"]) as session:
        return ticks.ask_for(session, schedule, actor=actor).id


def make(service: Service, *schedules: Schedule) -> None:
    with database.transaction(service.engines["relay"]) as session:
        ticks.make(session, schedules)


def runs(service: Service) -> list[ScheduledRun]:
    with database.transaction(service.engine) as session:
        return list(session.scalars(select(ScheduledRun).order_by(ScheduledRun.at)))


def made_before(service: Service, schedule: Schedule, at: datetime, run_id: str = "run_1") -> None:
    """A relay has made this tick, and it is over."""
    service.execute(
        "INSERT INTO billing.scheduled_runs (id, schedule, at, state) VALUES (:id, :schedule, :at, 'done')",
        id=run_id,
        schedule=schedule.name,
        at=at,
    )


def turns(service: Service, gateway: Functions, until: Callable[[], bool]) -> None:
    def turn() -> bool:
        service.relay.round()
        service.work_off(QUEUE, gateway)
        return until()

    eventually(turn, "the run comes to its end")


@pytest.fixture
def every_minute(monkeypatch: pytest.MonkeyPatch) -> Callable[[AfterDowntime], Schedule]:
    """The snapshot's schedule, ticking each minute."""
    return lambda after: replace(SNAPSHOT, when="* * * * *", after_downtime=after)


# The road.


def test_a_run_is_planned_claimed_run_and_settled_and_its_result_is_a_fact(service: Service) -> None:
    before = service.standin.requests()
    run = ask(service)
    service.plan()
    work = service.work(run)
    assert (work.contract, work.queue) == ("snapshot_queues", "maintenance")
    assert work.scopes == ["contract:snapshot_queues", "everything", "queue:maintenance", "schedules"]
    assert service.work_off(QUEUE, functions(service, lambda given: {"at": given.at.isoformat()})) == 1
    assert service.work(run).state == "done"
    (row,) = runs(service)
    assert (row.state, row.asked_by) == ("done", "anna")
    asked, _, done = service.facts(run)
    assert [fact.topic for fact in service.facts(run)] == ["run.snapshot_queues", "run.attempted", "run.done"]
    assert (asked.actor, done.actor) == ("anna", "billing")
    at = row.at.isoformat()
    assert done.payload == {"schedule": "snapshot_queues", "at": at, "result": {"at": at}}
    assert service.standin.requests() == before


def test_nothing_of_it_is_in_doubt_or_called_at_stripe_whatever_happens(service: Service) -> None:
    run = ask(service)
    service.plan()
    service.prepared(QUEUE)
    service.age(run, 60)
    with database.transaction(service.engines["relay"]) as session:
        housekeeping.rescue_lapsed(session)
        statements_in_doubt = statements.run(session, reading.SQL["in_doubt"], **reading.VALUES).all()
    assert statements_in_doubt == []
    service.pull("schedules")
    service.work_off(QUEUE, functions(service))
    assert (service.work(run).state, service.record(run).state) == ("held", RecordState.PLANNED)
    with database.transaction(service.engine) as session:
        assert statements.run(session, reading.SQL["in_doubt"], **reading.VALUES).all() == []
    service.relay.round()
    assert service.record(run).look_at is None


def test_a_run_whose_worker_died_is_run_again_for_the_same_time(service: Service) -> None:
    run = ask(service)
    service.plan()
    call = service.prepared(QUEUE)[run]
    service.age(run, 60)
    times: list[datetime] = []
    turns(
        service,
        functions(service, lambda given: times.append(given.at) or {}),  # type: ignore[func-returns-value]
        lambda: service.work(run).state == "done",
    )
    assert times == [runs(service)[0].at]
    assert service.work(run).attempts == 1
    assert [fact.topic for fact in service.facts(run)][1:] == ["run.attempt_lapsed", "run.attempted", "run.done"]
    # The worker was only asleep, and its function ends now.
    service.report(call, Response(200, b"{}", {"livemode": False, "result": {}}, None, replayed=False))
    assert service.topics(run)[-1] == "late_answer"
    assert service.work(run).state == "done"


def test_a_function_that_fails_is_tried_again_and_then_needs_a_decision_and_a_replay_runs_it(service: Service) -> None:
    def broken(_: Invocation) -> Mapping[str, Any]:
        raise ValueError("a bug")

    run = ask(service)
    turns(service, functions(service, broken), lambda: service.work(run).state == "quarantined")
    work = service.work(run)
    assert work.attempts == 5
    assert work.reason is not None
    assert work.reason.startswith("blocked: 5 workers or attempts failed on it")
    with database.transaction(service.engine) as session:
        shown = quarantine.show(session, work.id)
    assert [error["kind"] for error in shown.failures[0].errors] == ["ValueError"]
    assert service.record(run).state == RecordState.PLANNED
    service.age(run, 24 * 3600)
    service.replay(run)
    turns(service, functions(service, lambda _: {"mended": True}), lambda: service.work(run).state == "done")
    assert service.facts(run)[-1].payload["result"] == {"mended": True}


def test_an_answer_that_could_not_be_stored_is_replayed_by_running_it_again(service: Service) -> None:
    run = ask(service)
    service.execute("ALTER TABLE billing.facts ADD CONSTRAINT refused CHECK (topic <> 'run.done') NOT VALID")
    service.plan()
    service.work_off(QUEUE, functions(service))
    assert service.record(run).state == RecordState.UNSETTLED
    service.execute("ALTER TABLE billing.facts DROP CONSTRAINT refused")
    service.replay(run)
    turns(service, functions(service), lambda: service.work(run).state == "done")


def test_a_lost_connection_is_no_attempt_of_the_run(service: Service) -> None:
    lost = [sqlalchemy.exc.OperationalError("SELECT 1", {}, psycopg.OperationalError("gone"))] * 7

    def while_postgres_is_away(_: Invocation) -> Mapping[str, Any]:
        if lost:
            raise lost.pop()
        return {}

    run = ask(service)
    own = acting_as("worker", service.url, service.timing)  # the captain's connections are not closed with it
    away = Functions(own, livemode=False, functions={SNAPSHOT.name: while_postgres_is_away})
    turns(service, away, lambda: service.work(run).state == "done")
    own.dispose()
    assert (lost, service.work(run).attempts, service.record(run).sends) == ([], 0, 8)


def test_a_result_that_no_fact_takes_is_an_error_of_the_function(service: Service) -> None:
    run = ask(service)
    service.plan()
    service.work_off(QUEUE, functions(service, lambda _: {"much": "x" * RESULT_MOST}))
    assert service.work(run).attempts == 1
    assert service.topics(run)[-1] == "attempted"


def test_a_switch_holds_what_waits_and_it_goes_on_when_released(service: Service) -> None:
    run = ask(service)
    service.pull("contract:snapshot_queues")
    service.plan()
    service.work_off(QUEUE, functions(service))
    assert service.work(run).state == "held"
    service.release("contract:snapshot_queues")
    turns(service, functions(service), lambda: service.work(run).state == "done")


def test_a_refused_key_of_stripe_holds_no_schedule(service: Service) -> None:
    service.pull("account:own")
    run = ask(service)
    service.plan()
    service.work_off(QUEUE, functions(service))
    assert service.work(run).state == "done"


def test_a_relay_that_does_not_know_the_schedule_leaves_its_fact_to_one_that_does(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ask(service)
    others = tuple(each for each in OPERATION.contracts if each.name != SNAPSHOT.name)
    with monkeypatch.context() as older:
        older.setitem(operations.OPERATIONS, "run", replace(OPERATION, contracts=others))
        older.delitem(OPERATION.table.life.topics, SNAPSHOT.name)
        service.relay.round()
    assert [fact.planned_version for fact in service.facts(run)] == [None]
    turns(service, functions(service), lambda: service.work(run).state == "done")


def test_a_function_is_never_sent_to_stripe_and_a_call_to_stripe_is_no_function(service: Service) -> None:
    before = service.standin.requests()
    sent = service.gateway().send(Request(RUN, "/run/snapshot_queues", "at=x"), LATER)
    assert sent == NotSent("this is no request to Stripe")
    assert isinstance(functions(service).send(Request("POST", "/v1/payment_intents"), LATER), NotSent)
    assert service.standin.requests() == before


@pytest.mark.parametrize("path", ["snapshot_queues", "/run/../v1", "/run/", "/v1/run", "/run/x.example.com"])
def test_a_function_s_path_names_a_function_and_no_host(path: str) -> None:
    assert Request(RUN, path).unfit == "path"
    assert Request("POST", "/run/snapshot_queues").unfit == "path"


def test_a_paused_process_runs_nothing_late(service: Service) -> None:
    def never(_: Invocation) -> Mapping[str, Any]:
        raise AssertionError

    before = Budget(not_after=boot_clock() - 1, over_at=boot_clock() + 10)
    sent = functions(service, never).send(Request(RUN, "/run/snapshot_queues", "at=2026-01-01T00:00:00Z"), before)
    assert sent == NotSent("too late to start")


# Ticks.


def test_any_number_of_relays_make_a_tick_once(
    service: Service, every_minute: Callable[[AfterDowntime], Schedule]
) -> None:
    schedule = every_minute(AfterDowntime.EVERY)
    made_before(service, schedule, datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=20))
    start = threading.Barrier(4)

    def relay(_: int) -> None:
        engine = service.engine
        start.wait()
        for _ in range(3):
            with database.transaction(engine) as session:
                session.execute(text("SET LOCAL lock_timeout = 0"))
                ticks.make(session, [schedule])

    with ThreadPoolExecutor(4) as relays:
        list(relays.map(relay, range(4)))
    made = [run.at for run in runs(service)]
    assert len(made) >= 21
    assert made == [made[0] + n * timedelta(minutes=1) for n in range(len(made))]
    with database.transaction(service.engine) as session:
        told = session.execute(text("SELECT entity_id, count(*) FROM billing.facts GROUP BY 1")).all()
    assert Counter(count for _, count in told) == {1: len(made) - 1}


def test_a_tick_in_the_future_hides_none_that_come_before_it_and_is_not_made_again(
    service: Service, every_minute: Callable[[AfterDowntime], Schedule]
) -> None:
    """The clock was a year ahead, and was set back."""
    schedule = every_minute(AfterDowntime.ONCE)
    minute = datetime.now(UTC).replace(second=0, microsecond=0)
    made_before(service, schedule, minute + timedelta(days=365), "run_1")
    made_before(service, schedule, minute - timedelta(minutes=3), "run_2")
    make(service, schedule)
    first, second, ahead = runs(service)
    assert (first.id, second.state, ahead.id) == ("run_2", "due", "run_1")
    assert second.missed >= 2
    make(service, schedule)
    assert all(run.at > second.at for run in runs(service)[2:])


@pytest.mark.parametrize("scope", ["contract:snapshot_queues", "queue:maintenance", "schedules", "everything"])
def test_no_tick_is_made_while_a_switch_stops_its_work_and_afterwards_they_are_missed(
    service: Service, every_minute: Callable[[AfterDowntime], Schedule], scope: str
) -> None:
    schedule = every_minute(AfterDowntime.ONCE)
    made_before(service, schedule, datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=3))
    service.pull(scope)
    make(service, schedule)
    assert len(runs(service)) == 1
    with (
        pytest.raises(InvalidRequest, match=f"stopped by the switch {scope}"),
        database.transaction(service.engines["operator"]) as session,
    ):
        ticks.ask_for(session, schedule, actor="anna")
    service.release(scope)
    make(service, schedule)
    (_, made) = runs(service)
    assert made.missed >= 2


def test_a_run_by_hand_moves_no_tick(service: Service, every_minute: Callable[[AfterDowntime], Schedule]) -> None:
    schedule = every_minute(AfterDowntime.EVERY)
    made_before(service, schedule, datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=3))
    ask(service, schedule)
    make(service, schedule)
    assert sum(run.asked_by is None for run in runs(service)) >= 4


def test_a_relay_looks_only_when_a_tick_is_due_by_memory(service: Service) -> None:
    clock = [100.0]
    relay = Relay(
        service.engines["relay"],
        service.timing,
        service.relay.ringer,
        clock=lambda: clock[0],
        schedules=[replace(SNAPSHOT, when="* * * * *")],
    )
    relay.make_ticks()
    service.execute("UPDATE billing.scheduled_runs SET at = at - interval '10 minutes'")
    made = len(runs(service))
    relay.make_ticks()
    assert len(runs(service)) == made
    clock[0] += ticks.CHECK_EVERY_S
    relay.make_ticks()
    assert len(runs(service)) > made or not made


# What is scheduled.


def one(service: Service, name: str) -> dict[str, Any]:
    run = ask(service, BY_NAME[name])
    service.plan()
    service.work_off(QUEUE, functions(service))
    (done,) = [fact for fact in service.facts(run) if fact.topic == "run.done"]
    result: dict[str, Any] = done.payload["result"]
    return result


def test_the_snapshot_says_what_waits_where_and_what_is_in_doubt(service: Service) -> None:
    service.standin.add_fault("drop_after_commit", path="/capture$", times=1)
    service.ask_for_capture()
    service.plan()
    service.work_off()
    service.ask_for_capture()
    service.ask_for_invoice()
    service.plan()
    service.execute("UPDATE billing.work SET state = 'quarantined' WHERE queue = 'invoices'")
    result = one(service, "snapshot_queues")
    pieces = {(row["queue"], row["state"]): row["pieces"] for row in result["work"] if row["pieces"]}
    assert pieces == {
        ("captures", "waiting"): 1,
        ("captures", "ready"): 1,
        ("invoices", "quarantined"): 1,
        ("maintenance", "running"): 1,
    }
    assert {row["queue"] for row in result["work"]} == set(queues.NAMES)
    (doubt,) = result["in_doubt"]
    assert (doubt["operation"], doubt["currency"], doubt["operations"], doubt["minor"]) == ("cap", "USD", 1, 1999)
    assert doubt["oldest_s"] >= 0
    assert set(result) == set(queue_health.STATEMENTS)


def test_the_catalog_names_owner_purpose_volume_and_last_use_of_every_contract_and_schedule(service: Service) -> None:
    service.settle(service.ask_for_capture())
    ask(service)
    with database.transaction(service.engines["operator"]) as session:
        entries = {entry.name: entry for entry in catalog.read(session)}
    assert set(entries) == {
        *("take_capture:1", "take_capture:2", "observe_capture:1", "void_authorization:1", "observe_void:1"),
        *("make_refund:1", "observe_refund:1", "issue_invoice:1", "observe_invoice:1", "probe_provider:1"),
        *("make_refund:2", "make_refund:3", "issue_invoice:2", "send_email:1", "store_document:1"),
        *("observe_email:1", "issue_credit_note:1", "observe_credit_note:1"),
        *("act_on_invoice:1", "observe_invoice_action:1"),
        *(schedule.name for schedule in SCHEDULES),
    }
    take, probe, snapshot = (entries[name] for name in ("take_capture:1", "probe_provider:1", "snapshot_queues"))
    assert (take.kind, take.volume, take.owner, take.obsolete) == ("contract", 1, "payments", None)
    assert take.last_use is not None
    assert (probe.volume, probe.last_use, probe.obsolete) == (0, None, None)
    assert (snapshot.kind, snapshot.volume) == ("schedule", 1)
    assert all(entry.purpose for entry in entries.values())


def test_what_was_not_used_for_a_month_is_obsolete_and_so_is_what_this_version_does_not_know(service: Service) -> None:
    capture = service.ask_for_capture()
    service.settle(capture)
    service.execute("UPDATE billing.work SET version = 7")
    service.execute("UPDATE billing.installation SET created_at = now() - interval '31 days'")
    result = one(service, "report_catalog")
    obsolete = {entry["name"]: entry["obsolete"] for entry in result["entries"] if entry["obsolete"]}
    assert obsolete["take_capture:1"] == "not used for 30 days"
    assert obsolete["take_capture:7"] == "this version does not know it: billing contracts list"
    assert "not run for 30 days" in obsolete["snapshot_queues"]
    assert "report_catalog" not in obsolete


def test_a_service_of_a_test_that_wants_no_ticks_has_none_for_hours(service: Service) -> None:
    service.make_no_ticks()
    with database.transaction(service.engine) as session:
        now = database.now(session)
        rows = session.execute(select(ScheduledRun.schedule, ScheduledRun.at)).all()
    for schedule in SCHEDULES:
        for minutes in range(0, 150, 5):
            then = now + timedelta(minutes=minutes)
            newest = max(at for name, at in rows if name == schedule.name and at <= then)
            assert ticks.come(schedule, newest, then) == []
