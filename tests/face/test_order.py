"""What goes first, how much of it at once, how often, and what is said only once."""

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import structlog
from service import Service, eventually
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session
from test_road import CALL_SETTINGS, captured, claim, new_request, report, works

import billing
from billing import switches
from billing.batch_limit import BatchLimit
from billing.calls import Standing
from billing.database import transaction
from billing.explain import explain_one
from billing.gateway import NoAnswer, Response
from billing.learned import Learned
from billing.steps import LookResult
from billing.tables.facts import Fact
from billing.tables.idempotency_records import Record
from billing.tables.work import Work
from billing.timing import PRODUCTION, SHORT
from jobs.limits.bucket import Terms
from jobs.limits.pace import Pace
from jobs.road import backlog, cadence, housekeeping, planning, quarantine, quarantine_list, ringer, work_queue
from jobs.road.cadence import CostlyChecks
from jobs.road.contracts import known
from jobs.road.runner import Runner
from jobs.road.verdicts import backoff, soon


@pytest.fixture
def runner() -> Runner:
    return Runner(CALL_SETTINGS, random.Random(1))


def execute(engine: Engine, statement: str, **values: Any) -> None:
    with transaction(engine) as session:
        session.execute(text(statement), values)


def let_urgency_be(engine: Engine, *capture_ids: str) -> None:
    """The first of them is the most urgent."""
    for number, capture_id in enumerate(capture_ids):
        execute(
            engine,
            "UPDATE billing.work SET urgency = '2030-01-01Z'::timestamptz + make_interval(hours => :n)"
            " WHERE entity_id = :id",
            n=number,
            id=capture_id,
        )


def in_doubt(engine: Engine, runner: Runner, *numbers: int) -> list[str]:
    """Captures whose sends were lost, all to be looked at; their work is stopped."""
    captures = [new_request(engine, number) for number in numbers]
    for call in claim(engine, runner).calls:
        report(engine, runner, call, NoAnswer("reset"))
    execute(engine, "UPDATE billing.work SET state = 'held', due_at = NULL")
    execute(engine, "UPDATE billing.idempotency_records SET look_at = clock_timestamp() - interval '1 s'")
    return captures


# The claim.


def test_the_most_urgent_ready_work_is_claimed_first(engine: Engine, runner: Runner):
    """A capture an hour before its authorization lapses does not wait behind a backlog."""
    old, middle, urgent = (new_request(engine, number) for number in range(3))
    let_urgency_be(engine, urgent, middle, old)
    claimed = [claim(engine, runner, free=1).calls[0].loaded.row.id for _ in range(3)]
    assert claimed == [urgent, middle, old]


def test_of_equally_urgent_work_the_oldest_is_claimed_first(engine: Engine, runner: Runner):
    first, second, third = (new_request(engine, number) for number in range(3))
    execute(engine, "UPDATE billing.work SET urgency = '2030-01-01Z'")
    # Written anew, so that they no longer lie in their order.
    execute(engine, "UPDATE billing.work SET tries = 0 WHERE entity_id = :id", id=first)
    claimed = [claim(engine, runner, free=1).calls[0].loaded.row.id for _ in range(3)]
    assert claimed == [first, second, third]


def test_a_deadline_comes_before_what_has_none_and_what_is_to_be_read_before_both(engine: Engine, runner: Runner):
    with transaction(engine) as session:
        asked = []
        for number, known in enumerate([None, datetime.now(UTC) + timedelta(minutes=70), "unknown"]):
            authorization = None if known == "unknown" else billing.Authorization(2000, "USD", known)  # type: ignore[arg-type]
            receipt = billing.request_capture(
                session,
                payment_intent=f"pi_{number}",
                amount=billing.Money(2000, "USD"),
                request_id=f"order-{number}",
                authorization=authorization,
            )
            asked.append(receipt.capture_id)
        planning.plan(session, SHORT)
    claimed = [claim(engine, runner, free=1).calls[0].loaded.row.id for _ in range(3)]
    assert claimed == [asked[2], asked[1], asked[0]]


def test_the_look_that_is_longest_due_is_claimed_first(engine: Engine, runner: Runner):
    captures = in_doubt(engine, runner, 0, 1, 2)
    for seconds, capture_id in zip((10, 30, 20), captures, strict=True):
        execute(
            engine,
            "UPDATE billing.idempotency_records SET look_at = clock_timestamp() - make_interval(secs => :s)"
            " WHERE operation_id = :id",
            s=seconds,
            id=capture_id,
        )
    claimed = [claim(engine, runner, free=1).calls[0].loaded.row.id for _ in range(3)]
    assert claimed == [captures[1], captures[2], captures[0]]


def test_looks_and_ready_work_share_the_room_and_looks_come_first(engine: Engine, runner: Runner):
    looks = in_doubt(engine, runner, 0, 1)
    ready = [new_request(engine, number) for number in (2, 3, 4)]
    calls = claim(engine, runner, free=3).calls
    assert [call.looking for call in calls].count(True) == 2
    assert {call.loaded.row.id for call in calls if call.looking} == set(looks)
    assert {call.loaded.row.id for call in calls if not call.looking} == {ready[0]}
    assert len(claim(engine, runner, free=1).calls) == 1


# The limit of an account.


def test_a_look_whose_credentials_are_refused_switches_its_account_off(engine: Engine, runner: Runner):
    in_doubt(engine, runner, 0)
    (look,) = claim(engine, runner).calls
    refused = Response(401, b"{}", {"error": {}}, "req_1", replayed=False)
    outcome = report(engine, runner, look, LookResult(Learned.LOOK_UNANSWERED, why="status 401", answer=refused))
    assert outcome.refused_accounts == {None: 401}


def test_an_account_at_its_limit_holds_up_no_other_and_its_work_is_left_untouched(engine: Engine):
    runner = Runner(CALL_SETTINGS, random.Random(1), Pace(Terms(4.0, 5.0)))
    captures = [new_request(engine, number) for number in range(4)]
    for capture_id in captures[:3]:
        execute(engine, "UPDATE billing.captures SET account = 'acct_1' WHERE id = :id", id=capture_id)
    let_urgency_be(engine, *captures)
    assert runner.guards.pace.room(8) == 1
    outcome = claim(engine, runner)
    # One call of an account that is new here is made on credit.
    assert [call.loaded.row.id for call in outcome.calls] == [captures[0], captures[3]]
    with transaction(engine) as session:
        waiting = session.scalars(select(Work).where(Work.state == "waiting")).all()
        now = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    assert {work.reason for work in waiting} == {"its account is at its limit"}
    assert {work.entity_id for work in waiting} == set(captures[1:3])
    assert all(now < work.due_at + timedelta(seconds=1) for work in waiting if work.due_at)  # a short pause
    assert {work.tries for work in waiting} == {0}


def test_a_look_at_an_account_at_its_limit_is_put_off_and_changes_nothing_else(engine: Engine):
    runner = Runner(CALL_SETTINGS, random.Random(1), Pace(Terms(1.0, 5.0)))
    captures = in_doubt(engine, Runner(CALL_SETTINGS, random.Random(1)), 0, 1)
    execute(engine, "UPDATE billing.captures SET account = 'acct_1'")
    (look,) = claim(engine, runner).calls
    assert look.looking
    assert works(engine) == dict.fromkeys(captures, "held")
    (other,) = {*captures} - {look.loaded.row.id}
    with transaction(engine) as session:
        record = session.scalars(select(Record).where(Record.operation_id == other)).one()
        now = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    assert record.look_at is not None
    assert now < record.look_at + timedelta(seconds=1)
    assert record.looks == 0


# Pauses.


def test_each_try_may_wait_twice_as_long_as_the_one_before_up_to_the_longest_pause():
    class Longest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            assert a == 0, "full jitter"
            return b

    waits = [backoff(tries, PRODUCTION, Longest()).total_seconds() for tries in (1, 2, 3, 8, 9, 10**6)]
    assert waits == [2, 4, 8, 256, 300, 300]
    assert soon(10**6, PRODUCTION, Longest()).total_seconds() == 1


def test_work_that_is_tried_again_counts_its_tries_and_waits(engine: Engine, runner: Runner):
    new_request(engine)
    for tries in (1, 2):
        (call,) = claim(engine, runner).calls
        report(engine, runner, call, NoAnswer("reset"))
        with transaction(engine) as session:
            work = session.scalars(select(Work)).one()
        assert (work.state, work.tries) == ("waiting", tries)
        assert work.due_at is not None
        assert work.due_at >= work.state_since
        execute(engine, "UPDATE billing.work SET state = 'ready', due_at = NULL")


# Sweeps.


def overdue(engine: Engine, runner: Runner) -> list[str]:
    captures = [new_request(engine, number) for number in range(3)]
    for seconds, capture_id in zip((10, 30, 20), captures, strict=True):
        execute(
            engine,
            "UPDATE billing.work SET state = 'waiting', due_at = clock_timestamp() - make_interval(secs => :s)"
            " WHERE entity_id = :id",
            s=seconds,
            id=capture_id,
        )
    return [captures[1], captures[2], captures[0]]


def left_by_the_dead(engine: Engine, runner: Runner) -> list[str]:
    captures = [new_request(engine, number) for number in range(3)]
    claim(engine, runner)
    execute(engine, "UPDATE billing.idempotency_records SET lease_until = clock_timestamp()")
    return captures


def switched_off(engine: Engine, runner: Runner) -> list[str]:
    captures = [new_request(engine, number) for number in range(3)]
    with transaction(engine) as session:
        switches.pull(session, "captures", actor="ops", reason="a test")
    return captures


def held(engine: Engine, runner: Runner) -> list[str]:
    captures = [new_request(engine, number) for number in range(3)]
    execute(engine, "UPDATE billing.work SET state = 'held'")
    return captures


def of_another_version(engine: Engine, runner: Runner) -> list[str]:
    captures = [new_request(engine, number) for number in range(3)]
    execute(engine, "UPDATE billing.work SET version = 9")
    return captures


def parked(engine: Engine, runner: Runner) -> list[str]:
    captures = [new_request(engine, number) for number in range(3)]
    execute(engine, "UPDATE billing.work SET state = 'parked'")
    return captures


@pytest.mark.parametrize(
    ("given", "sweep", "becomes"),
    [
        (overdue, housekeeping.make_due_ready, "ready"),
        (left_by_the_dead, housekeeping.rescue_lapsed, "ready"),
        (switched_off, housekeeping.hold, "held"),
        (held, housekeeping.release_held, "ready"),
        (of_another_version, housekeeping.park_unknown, "parked"),
        (parked, housekeeping.park_unknown, "ready"),
    ],
    ids=lambda each: getattr(each, "__name__", str(each)),
)
def test_a_sweep_moves_no_more_than_it_may_and_the_first_first(
    engine: Engine, runner: Runner, given: Callable[..., list[str]], sweep: Callable[[Session, int], int], becomes: str
):
    in_order = given(engine, runner)
    for moved in (1, 2):
        with transaction(engine) as session:
            # Postgres may plan a loop for each row, which asks again for what is limited.
            for each in ("hashjoin", "mergejoin", "hashagg", "sort", "material"):
                session.execute(text(f"SET LOCAL enable_{each} = off"))
            assert sweep(session, 1) == 1
        assert [name for name in in_order if works(engine)[name] == becomes] == in_order[:moved]
    with transaction(engine) as session:
        assert sweep(session, 1000) == 1
        assert sweep(session, 1000) == 0


def test_what_is_stopped_and_unanswered_is_looked_at_no_more_than_so_many_at_once(engine: Engine, runner: Runner):
    in_doubt(engine, runner, 0, 1, 2)
    execute(engine, "UPDATE billing.idempotency_records SET look_at = NULL")
    for moved in (1, 1, 1, 0):
        with transaction(engine) as session:
            assert housekeeping.look_at_stopped(session, 1) == moved


def test_a_sweep_leaves_what_is_not_its_own(engine: Engine, runner: Runner):
    new_request(engine)
    for sweep in (
        housekeeping.make_due_ready,
        housekeeping.rescue_lapsed,
        housekeeping.hold,
        housekeeping.release_held,
        housekeeping.park_unknown,
    ):
        with transaction(engine) as session:
            assert sweep(session, 1000) == 0, sweep
    execute(engine, "UPDATE billing.work SET state = 'waiting', due_at = clock_timestamp() + interval '1 hour'")
    with transaction(engine) as session:
        assert housekeeping.make_due_ready(session) == 0


def test_facts_are_planned_in_the_order_in_which_they_were_written(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(planning, "BATCH", 1)
    with transaction(engine) as session:
        asked = [
            billing.request_capture(
                session, payment_intent=f"pi_{n}", amount=billing.Money(1, "USD"), request_id=f"order-{n}"
            ).capture_id
            for n in range(3)
        ]
    # Written anew, so that they no longer lie in their order.
    execute(engine, "UPDATE billing.facts SET planned_version = NULL WHERE entity_id = :id", id=asked[0])
    planned = []
    for _ in range(3):
        assert planning.plan_next(engine, SHORT) == 1
        planned += [name for name in works(engine) if name not in planned]
    assert planned == asked
    assert planning.plan_next(engine, SHORT) == 0


def test_facts_that_start_nothing_are_stamped_so_many_at_a_time(engine: Engine, runner: Runner):
    new_request(engine)
    (call,) = claim(engine, runner).calls
    report(engine, runner, call, captured(call))
    for moved in (1, 1, 0):
        with transaction(engine) as session:
            assert planning.stamp_the_rest(session, 1) == moved


# What is counted and listed.


def test_what_is_claimable_is_counted_by_queue_and_no_further_than_needed(engine: Engine, runner: Runner):
    in_doubt(engine, runner, 0)
    for number in (1, 2, 3):
        new_request(engine, number)
    with transaction(engine) as session:
        assert work_queue.claimable(session, known(), {"invoices": 9, "captures": 9}) == {"invoices": 0, "captures": 4}
        assert work_queue.claimable(session, known(), {"captures": 2, "invoices": 9}) == {"captures": 3, "invoices": 0}
        assert work_queue.claimable(session, ["issue_invoice:1"], {"captures": 9}) == {"captures": 1}


def test_work_is_locked_in_the_order_of_its_ids_whoever_asks_for_it(engine: Engine, runner: Runner):
    """Two who lock the same rows in different orders would end in a deadlock."""
    for number in range(2):
        new_request(engine, number)
    with transaction(engine) as session:
        first, second = sorted(session.scalars(select(Work.id)))
    plain = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)

    def lock_both() -> None:
        with transaction(engine) as session:
            session.execute(text("SET LOCAL lock_timeout = '30s'"))
            session.execute(text("SET LOCAL statement_timeout = '30s'"))
            work_queue.locked(session, [second, first])

    with psycopg.connect(plain) as holder, psycopg.connect(plain) as witness:
        holder.execute("SELECT 1 FROM billing.work WHERE id = %s FOR UPDATE", (second,))
        thread = threading.Thread(target=lock_both)
        thread.start()
        try:
            waits = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            eventually(
                lambda: witness.execute(waits).fetchone() == (1,) or witness.rollback(), "it waits for the second"
            )
            # Whoever waits for the second holds the first already.
            with pytest.raises(psycopg.errors.LockNotAvailable):
                witness.execute("SELECT 1 FROM billing.work WHERE id = %s FOR UPDATE NOWAIT", (first,))
        finally:
            holder.rollback()
            thread.join()


def test_the_longest_waiting_are_listed_first_and_no_more_than_asked_for(engine: Engine, runner: Runner):
    captures = in_doubt(engine, runner, 0, 1, 2)
    for seconds, capture_id in zip((10, 30, 20), captures, strict=True):
        execute(
            engine,
            "UPDATE billing.work SET state = 'quarantined', state_since = now() - make_interval(secs => :s)"
            " WHERE entity_id = :id",
            s=seconds,
            id=capture_id,
        )
        execute(
            engine,
            "UPDATE billing.idempotency_records SET parked_at = now() - make_interval(secs => :s)"
            " WHERE operation_id = :id",
            s=seconds,
            id=capture_id,
        )
    longest = [captures[1], captures[2], captures[0]]
    with transaction(engine) as session:
        assert [each.entity_id for each in quarantine_list.listed(session)] == longest
        assert [each.entity_id for each in quarantine_list.listed(session, 2)] == longest[:2]
        assert [each.entity_id for each in quarantine.undecided(session)] == longest
        assert [each.entity_id for each in quarantine.undecided(session, 2)] == longest[:2]


def test_the_receipt_of_a_switch_lists_first_what_ends_first(engine: Engine, runner: Runner):
    captures = [new_request(engine, number) for number in range(3)]
    claim(engine, runner)
    for seconds, capture_id in zip((30, 10, 20), captures, strict=True):
        execute(
            engine,
            "UPDATE billing.idempotency_records SET lease_until = now() + make_interval(secs => :s)"
            " WHERE operation_id = :id",
            s=seconds,
            id=capture_id,
        )
    with transaction(engine) as session:
        calls = switches.unanswered(session, "captures").calls
    assert [operation for operation, _, _ in calls] == [captures[1], captures[2], captures[0]]


def test_a_story_is_told_in_the_order_in_which_it_happened(engine: Engine, runner: Runner):
    capture = new_request(engine, known=False)
    (read,) = claim(engine, runner).calls
    authorized = {"amount_capturable": 2000, "currency": "usd", "latest_charge": None}
    (call,) = report(engine, runner, read, LookResult(Learned.SUCCEEDED, authorized)).calls
    report(engine, runner, call, captured(call))
    # Written anew, so that they no longer lie in their order.
    execute(engine, "UPDATE billing.facts SET planned_version = planned_version WHERE entity_version < 3")
    execute(engine, "UPDATE billing.idempotency_records SET looks = looks WHERE generation = 1")
    with transaction(engine) as session:
        story = explain_one(session, capture)
    assert [fact.version for fact in story.facts] == list(range(1, len(story.facts) + 1))
    assert [call.generation for call in story.calls] == [1, 2]


# What is said once.


def test_an_undecided_operation_is_told_once_and_not_again_at_every_look(engine: Engine, runner: Runner):
    """As a fact, and as an alarm: otherwise a capture that waits for a month calls a person every hour."""
    (capture,) = in_doubt(engine, runner, 0)
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            execute(
                engine,
                "UPDATE billing.idempotency_records SET look_at = clock_timestamp() - interval '1 s', look_only = true",
            )
            (look,) = claim(engine, runner).calls
            assert look.looking
            report(engine, runner, look, LookResult(Learned.UNPROVABLE))
    with transaction(engine) as session:
        told = session.scalars(select(Fact.topic).where(Fact.entity_id == capture)).all()
        assert told.count("capture.undecided") == 1
        assert session.scalars(select(Record.looks)).one() == 3
    assert [line["standing"] for line in lines if line["log_level"] == "error"] == [str(Standing.PARKED)]


def test_what_is_quarantined_is_told_once_although_it_is_looked_at(engine: Engine, runner: Runner):
    in_doubt(engine, runner, 0)
    execute(engine, "UPDATE billing.work SET state = 'quarantined'")
    with structlog.testing.capture_logs() as lines:
        for _ in range(2):
            execute(
                engine,
                "UPDATE billing.idempotency_records SET look_at = clock_timestamp() - interval '1 s', look_only = true",
            )
            (look,) = claim(engine, runner).calls
            report(engine, runner, look, LookResult(Learned.UNPROVABLE))
    assert [line["standing"] for line in lines if line["log_level"] == "error"] == [str(Standing.PARKED)]


def test_a_switch_that_is_pulled_twice_is_told_once(engine: Engine):
    for _ in range(2):
        with transaction(engine) as session:
            switches.pull(session, "captures", actor="ops", reason="a test")
    with transaction(engine) as session:
        assert session.scalars(select(Fact.topic)).all() == ["switch.pulled"]


def test_a_call_that_was_never_reported_is_told_once(engine: Engine, runner: Runner):
    capture = new_request(engine)
    claim(engine, runner)
    execute(engine, "UPDATE billing.idempotency_records SET lease_until = clock_timestamp(), look_at = now()")
    execute(engine, "UPDATE billing.work SET state = 'held'")
    (look,) = claim(engine, runner).calls
    execute(engine, "UPDATE billing.idempotency_records SET lease_until = clock_timestamp(), look_at = now()")
    (look,) = claim(engine, runner).calls
    assert look.looking
    with transaction(engine) as session:
        told = session.scalars(select(Fact.topic).where(Fact.entity_id == capture)).all()
    assert told.count("capture.attempt_lapsed") == 1


# The relay's clock.


def test_bells_are_rung_for_what_is_claimable_and_not_again_within_a_second(service: Service, monkeypatch: Any):
    clock = [100.0]
    service.relay.clock = lambda: clock[0]
    rung: list[tuple[str, int]] = []
    monkeypatch.setattr(ringer.bells, "bells_waiting", lambda *_: 0)
    monkeypatch.setattr(ringer.bells, "ring", lambda _redis, _environment, queue, count: rung.append((queue, count)))
    service.relay.ringer.workers = {"captures": 3, "refunds": 3, "invoices": 3}
    service.relay.round()
    assert rung == []
    for _ in range(17):
        service.ask_for_capture("pi_1" + str(_))
    service.relay.round()
    assert rung == [("captures", 3)], "17 pieces of work, 8 calls in each crew"
    service.relay.round()
    clock[0] += cadence.RING_AGAIN_S - 0.01
    service.relay.round()
    assert len(rung) == 1
    clock[0] += 0.02
    service.relay.round()
    assert rung == [("captures", 3)] * 2
    service.execute("UPDATE billing.work SET state = 'done'")
    service.relay.round()
    service.ask_for_capture("pi_2")
    service.relay.round()
    assert rung == [*[("captures", 3)] * 2, ("captures", 1)], "an empty queue forgets when it was rung"


def test_a_queue_is_fed_when_a_whole_crew_has_work_and_nothing_is_counted_beyond_all_crews(service: Service):
    bells = ringer.Ringer(
        service.redis, "test", workers={"captures": 3, "invoices": 1}, crews={"captures": 8, "invoices": 4}
    )
    assert bells.most == {"captures": 24, "invoices": 4}
    assert [bells.saturated({"captures": captures, "invoices": invoices}) for captures, invoices in (
        (0, 0), (7, 0), (8, 0), (8, 3), (8, 4), (0, 4)
    )] == [False, False, True, False, True, True]  # fmt: skip


def test_a_relay_rings_only_the_bells_that_are_missing(service: Service, monkeypatch: Any):
    rung: list[int] = []
    monkeypatch.setattr(ringer.bells, "bells_waiting", lambda *_: 2)
    monkeypatch.setattr(ringer.bells, "ring", lambda _redis, _environment, _queue, count: rung.append(count))
    service.relay.ringer.workers = {"captures": 3, "refunds": 3, "invoices": 3}
    for number in range(24):
        service.ask_for_capture(f"pi_{number}")
    service.relay.round()
    assert rung == [1]


def test_while_somebody_waits_facts_that_start_nothing_are_stamped_once_a_second(service: Service):
    clock = [100.0]
    service.relay.clock = lambda: clock[0]

    def unstamped() -> int:
        service.execute(
            "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)"
            " SELECT 'capture.looked', 'capture', 'cap_1', coalesce(max(entity_version), 0) + 1, 'test', '{}'"
            "   FROM billing.facts"
        )
        service.relay.cadence.busy_until = clock[0] + 10
        service.relay.round()
        with transaction(service.engine) as session:
            return len(session.scalars(select(Fact.id).where(Fact.planned_version.is_(None))).all())

    assert unstamped() == 0
    assert unstamped() == 1
    clock[0] += cadence.STAMP_EVERY_S
    assert unstamped() == 0


def test_contracts_that_nobody_knows_are_looked_for_once_a_second(service: Service):
    clock = [100.0]
    service.relay.clock = lambda: clock[0]
    service.relay.round()
    capture = service.ask_for_capture("pi_1")
    service.plan()
    service.execute("UPDATE billing.work SET version = 9")
    service.relay.round()
    assert service.work(capture).state == "ready"
    clock[0] += cadence.UNKNOWN_EVERY_S
    service.relay.round()
    assert service.work(capture).state == "parked"


def test_where_looking_for_what_switches_stop_is_slow_it_is_done_rarely(service: Service, monkeypatch: Any):
    """Among a million pieces of ready work it reads them all; planning, taking back and ringing do not wait for it."""
    asked: list[bool] = []
    clock = [100.0]
    service.relay.clock = lambda: clock[0]
    really = backlog.read

    def slow(session: Session, most: Any, costly: CostlyChecks) -> Any:
        asked.append(costly.stopped)
        clock[0] += 1.0 if costly.stopped else 0.001
        return really(session, most, costly)

    monkeypatch.setattr(backlog, "read", slow)
    for _ in range(3):
        service.relay.round()
    assert asked == [True, False, False]
    clock[0] += cadence.CHECK_REST
    service.relay.round()
    assert asked == [True, False, False, True]


def test_where_looking_for_what_switches_stop_takes_too_long_the_round_goes_on_without(
    service: Service, monkeypatch: Any
):
    """A million pieces of ready work and one pulled switch were read through for more than two seconds."""
    clock = [100.0]
    service.relay.clock = lambda: clock[0]
    really = backlog.read

    def too_slow(session: Session, most: Any, costly: CostlyChecks) -> Any:
        if costly.stopped:
            clock[0] += 2
            session.execute(text("SELECT pg_sleep(9)"))
        return really(session, most, costly)

    monkeypatch.setattr(backlog, "read", too_slow)
    capture = service.ask_for_capture("pi_1")
    with structlog.testing.capture_logs() as lines:
        service.relay.round()
        service.relay.round()
    assert service.work(capture).state == "ready"
    assert [(line["event"], line["sqlstate"]) for line in lines if line["log_level"] != "info"] == [
        ("switches.postponed", "57014")
    ]


def test_a_sweep_that_takes_too_long_takes_half_and_keeps_no_other_waiting(service: Service):
    service.relay.housekeeper.limits["make_due_ready"] = BatchLimit(8)
    waiting = [service.ask_for_capture(f"pi_{n}") for n in range(3)]
    service.plan()
    service.execute("UPDATE billing.work SET state = 'waiting', due_at = now() - interval '1 s'")
    service.execute(
        "CREATE FUNCTION billing.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF (SELECT count(*) FROM changed) > 1 THEN PERFORM pg_sleep(9); END IF; RETURN NULL; END $$"
    )
    service.execute(
        "CREATE TRIGGER slow AFTER UPDATE ON billing.work REFERENCING NEW TABLE AS changed"
        " FOR EACH STATEMENT EXECUTE FUNCTION billing.slow()"
    )
    late = service.ask_for_capture("pi_late")
    with structlog.testing.capture_logs() as lines:
        eventually(lambda: service.relay.round() * 0 + service.states_of_work()["ready"] == 4, "all are ready")
    assert service.work(late).state == "ready"
    halved = [(line["sweep"], line["rows"], line["sqlstate"]) for line in lines if line["event"] == "sweep.halved"]
    assert halved[:3] == [("make_due_ready", rows, "57014") for rows in (8, 4, 2)]
    assert {service.work(capture).state for capture in waiting} == {"ready"}


def test_a_sweep_that_fails_for_a_single_row_is_an_alarm_and_keeps_no_other_waiting(service: Service):
    stuck, late = service.ask_for_capture("pi_1"), service.ask_for_capture("pi_2")
    service.plan()
    service.execute(
        "UPDATE billing.work SET state = 'waiting', due_at = now() - interval '1 s' WHERE entity_id = :id", id=stuck
    )
    service.execute(
        f"ALTER TABLE billing.work ADD CONSTRAINT broken CHECK (entity_id <> '{stuck}' OR state = 'waiting')"
    )
    service.execute("UPDATE billing.work SET state = 'held' WHERE entity_id = :id", id=late)
    service.relay.housekeeper.limits["make_due_ready"] = BatchLimit(1)
    with structlog.testing.capture_logs() as lines:
        service.relay.round()
    assert service.work(late).state == "ready"
    assert [(line["event"], line["sqlstate"]) for line in lines if line["log_level"] != "info"] == [
        ("sweep.stuck", "23514")
    ]
