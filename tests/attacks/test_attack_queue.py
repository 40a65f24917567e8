"""One bad row, clock, connection or person does not stop a whole queue, and quarantines nothing of others."""

import contextlib
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar

import psycopg
import pytest
from service import PATIENCE_S, Service, eventually, patient_engine
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session
from worker import KILLED, fork_worker, reap

import billing
from billing import database, store
from billing.call_settings import CallSettings
from billing.calls import Call, Report
from billing.gateway import NoAnswer
from billing.operations import OPERATIONS
from billing.states import WorkState
from jobs.road import planning, work_queue
from jobs.road.piece import Piece
from jobs.road.runner import Outcome, Runner
from jobs.road.shift import Control, Shift


def test_one_caller_s_absurd_deadline_does_not_stop_the_relay_for_everybody(service: Service) -> None:
    """`datetime.min` is a common 'no date' of a caller, and no time can be subtracted from it."""
    with pytest.raises(billing.InvalidText):
        billing.Authorization(1999, "USD", datetime.min.replace(tzinfo=UTC))
    poison = service.ask_for_capture()
    service.execute(
        'UPDATE billing.facts SET payload = payload || \'{"capture_before": "0001-01-01T00:00:00+00:00"}\''
        " WHERE entity_id = :id",
        id=poison,
    )
    good = service.ask_for_capture()
    assert service.settle(good) == ["captured"]


def test_a_missing_grant_or_migration_quarantines_nothing(service: Service) -> None:
    """The code is new and the database old, or a GRANT is missing: nothing is wrong with any row."""
    captures = [service.ask_for_capture(intent) for intent in service.intents(4)]
    service.plan()
    service.execute("ALTER TABLE billing.captures RENAME COLUMN charge TO charge_of_tomorrow")
    runner = Runner(service.call_settings, random.Random(1))
    Shift(service.engine, service.gateway(), runner, "captures", crew=4, slice_s=2).run(Control())
    service.execute("ALTER TABLE billing.captures RENAME COLUMN charge_of_tomorrow TO charge")
    states = service.states_of_work()
    assert len(captures) == 4
    assert states["quarantined"] == 0, states


def test_only_the_row_that_cannot_be_prepared_is_set_aside(service: Service) -> None:
    """Two workers meet one poisoned row: while one has it locked, the other leaves the innocent ones alone."""
    poisoned, innocent = [service.ask_for_capture(intent) for intent in service.intents(2)]
    service.plan()
    service.execute("UPDATE billing.work SET urgency = urgency - interval '1 day' WHERE entity_id = :id", id=poisoned)
    service.execute(
        f"ALTER TABLE billing.idempotency_records ADD CONSTRAINT broken CHECK (operation_id <> '{poisoned}')"
    )
    runner = Runner(service.call_settings, random.Random(1))
    failed: list[Piece] = []
    with pytest.raises(IntegrityError, match="broken"):
        _start_and_commit(service, runner, failed)
    other_engine = patient_engine(service.url, service.timing, name="other-worker")
    with database.transaction(other_engine) as other:
        claimed = work_queue.claim_ready(other, "captures", ["take_capture:1"], 1)  # it is preparing it right now
        assert [work.entity_id for work in claimed] == [piece.work.entity_id for piece in failed] == [poisoned]
        # Waiting in vain for its lock is fine; taking another row is not.
        with contextlib.suppress(OperationalError), database.transaction(service.engine) as session:
            runner.set_aside(session, failed, ValueError("one of the rows"))
    other_engine.dispose()
    assert service.work(innocent).state == WorkState.READY


def lingering(service: Service) -> CallSettings:
    """For a shift that stays until it is told to stop, however long a claim takes."""
    return replace(service.call_settings, timing=replace(service.timing, linger_s=PATIENCE_S))


def run_until_settled(shift: Shift, count: int) -> None:
    class Until(Control):
        def stop_requested(self) -> bool:
            return shift.settled >= count

    shift.run(Until())


class Failing(Runner):
    """A runner whose first claim fails after it claimed; it remembers how much each claim asked for."""

    def __init__(self, service: Service, error: Exception) -> None:
        super().__init__(lingering(service), random.Random(1))
        Failing.sizes, Failing.error = [], error

    sizes: ClassVar[list[int]]
    error: ClassVar[Exception | None]

    def claim(self, session: Session, queue: str, free: int) -> list[Piece]:
        Failing.sizes.append(free)
        return super().claim(session, queue, free)

    def start(self, session: Session, claimed: Sequence[Piece]) -> Outcome:
        outcome = super().start(session, claimed)
        error, Failing.error = Failing.error, None
        if error is not None:
            raise error
        return outcome


@pytest.mark.parametrize("error", [ValueError("one of the rows"), psycopg.errors.QueryCanceled("too slow")])
def test_after_a_claim_that_failed_so_many_are_claimed_one_by_one_and_then_as_before(
    service: Service, error: Exception
) -> None:
    """The row that was to blame may be in another worker's hands by then, and too slow is no row's fault."""
    captures = [service.ask_for_capture(intent) for intent in service.intents(14)]
    service.plan()
    runner = Failing(service, error)
    run_until_settled(Shift(service.engine, service.gateway(), runner, "captures", crew=4, slice_s=PATIENCE_S), 14)
    assert {service.status(capture).state for capture in captures} == {"captured"}
    assert runner.sizes[:8] == [6, 1, 1, 1, 1, 1, 1, runner.sizes[7]]
    assert runner.sizes[7] > 1


def test_two_new_contracts_of_one_topic_are_both_planned_for_old_facts(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = service.ask_for_capture()
    service.plan()
    now, *others = OPERATIONS["capture"].contracts
    new = (replace(now, name="first_new", since=2), replace(now, name="second_new", since=2))
    monkeypatch.setitem(OPERATIONS, "capture", replace(OPERATIONS["capture"], contracts=(now, *others, *new)))
    monkeypatch.setattr(planning, "CONTRACTS_VERSION", 2)
    for _ in range(3):
        planning.catch_up(service.engine, service.timing)
    with database.transaction(service.engine) as session:
        names = set(session.execute(text("SELECT contract FROM billing.work")).scalars())
    assert names == {"take_capture", "first_new", "second_new"}, capture


def test_a_connection_to_a_primary_that_became_read_only_is_given_up(service: Service) -> None:
    """After a failover the old server may keep its connections, and answers 25006 on each for ever."""
    capture = service.ask_for_capture()
    service.plan()
    engine = patient_engine(service.url, service.timing, name="worker")
    with engine.connect() as connection:
        connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
        connection.commit()
    runner = Runner(lingering(service), random.Random(1))
    run_until_settled(Shift(engine, service.gateway(), runner, "captures", crew=1, slice_s=PATIENCE_S), 1)
    engine.dispose()
    assert service.status(capture).state == "captured"


def test_a_look_that_kills_its_worker_is_counted_or_put_off(service: Service) -> None:
    """A look that kills its worker would be claimed first, by every worker, as soon as the dead one's lease is over."""
    capture = service.ask_for_capture()
    service.standin.add_fault("not_end_state", path="/capture$", times=1)
    service.plan()
    assert reap(fork_worker(service, "captures", at="send.before:2")) == KILLED  # the capture, then its look
    for _ in range(2):
        before = service.record(capture)

        def over() -> bool:
            service.relay.round()
            with database.transaction(service.engine) as session:
                return bool(work_queue.claimable(session, ["take_capture:1"], {"captures": 1})["captures"])

        eventually(over, "the look is due again")
        assert reap(fork_worker(service, "captures", at="send.before:1")) == KILLED
    record, work = service.record(capture), service.work(capture)
    assert record.looks > 0 or work.attempts > 0, before


def _start_and_commit(service: Service, runner: Runner, claimed: list[Piece]) -> None:
    with database.transaction(service.engine) as session:
        claimed += runner.claim(session, "captures", 1)
        runner.start(session, claimed)


def _sent(service: Service) -> tuple[str, Call]:
    """A capture whose first send nobody reported, and a look in hand."""
    capture = service.ask_for_capture()
    service.plan()
    runner = Runner(service.call_settings, random.Random(1))
    with database.transaction(service.engine) as session:
        runner.start(session, runner.claim(session, "captures", 1))
    service.age(capture, 10)
    service.execute(
        "UPDATE billing.idempotency_records SET look_at = now(), look_only = true WHERE operation_id = :id", id=capture
    )
    with database.transaction(service.engine) as session:
        (look,) = runner.start(session, runner.claim(session, "captures", 1)).calls
    assert look.looking
    return capture, look


def test_a_look_that_cannot_be_settled_does_not_count_as_the_report_of_a_send(service: Service) -> None:
    """The send may still be on its way: until it is reported, its absence is not proven."""
    capture, look = _sent(service)
    assert service.record(capture).unreported == 1
    with database.transaction(service.engine) as session:
        store.keep_unsettled(session, Report(look, NoAnswer("x"), 1), None, None, "DataError")
    assert service.record(capture).unreported == 1


def test_keeping_an_answer_twice_is_keeping_it_once(service: Service) -> None:
    """Where the commit's answer was lost it is done again, and takes no other send's report."""
    capture = service.ask_for_capture()
    service.plan()
    runner = Runner(service.call_settings, random.Random(1))
    with database.transaction(service.engine) as session:
        runner.start(session, runner.claim(session, "captures", 1))
    service.age(capture, 10)
    service.relay.round()
    with database.transaction(service.engine) as session:
        (again,) = runner.start(session, runner.claim(session, "captures", 1)).calls
    assert service.record(capture).unreported == 2
    for _ in range(2):
        with database.transaction(service.engine) as session:
            store.keep_unsettled(session, Report(again, NoAnswer("x"), 1), None, None, "DataError")
    assert service.record(capture).unreported == 1


def test_one_locked_row_does_not_keep_the_others_of_its_group_from_settling(service: Service) -> None:
    """A person in psql holds one row for as long as the others need."""
    captures = [service.ask_for_capture(intent) for intent in service.intents(4)]
    service.plan()
    service.standin.add_fault("latency_after", path="/capture$", seconds=0.3)
    import threading

    runner = Runner(service.call_settings, random.Random(1))
    engine = patient_engine(service.url, service.timing, name="worker")
    shift = Shift(engine, service.gateway(), runner, "captures", crew=4, slice_s=5)
    thread = threading.Thread(target=shift.run, args=(Control(),))
    thread.start()
    eventually(lambda: len(service.posts("/capture")) == 4, "all in flight")
    engine_2 = patient_engine(service.url, service.timing, name="person")
    try:
        with engine_2.connect() as person:
            person.execute(text("SET idle_in_transaction_session_timeout = 0"))
            person.execute(text("SELECT 1 FROM billing.captures WHERE id = :id FOR UPDATE"), {"id": captures[0]})
            eventually(
                lambda: sum(service.status(capture).state == "captured" for capture in captures) == 3,
                "the three others settled, while the person holds the row",
            )
            person.rollback()
    finally:
        thread.join()
        engine.dispose()
        engine_2.dispose()
