"""Two workers, a sleeper that wakes up late, and answers that come when somebody else has taken over."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from house import House, eventually
from sqlalchemy import event
from sqlalchemy.engine import make_url
from worker import fork_worker, reap, stop

from billing import database, effects
from billing.gateway import Answer, Budget, Request, boot_clock
from billing.states import RecordState, WorkState
from jobs.road.runner import Runner


def test_two_workers_on_the_same_queue_send_each_capture_once(house: House) -> None:
    """[4]"""
    captures = [house.ask_for_capture(intent) for intent in house.intents(30)]
    house.plan()
    pids = [fork_worker(house, "captures") for _ in range(2)]
    assert [reap(pid) for pid in pids] == [0, 0]
    assert {house.status(capture).state for capture in captures} == {"captured"}
    assert len(house.posts("/capture")) == 30


def test_a_sleeper_that_wakes_up_after_somebody_else_concluded_sends_nothing(house: House) -> None:
    """[5] Stopped before its send: the request is past its not-after, and never leaves."""
    capture = house.ask_for_capture()
    house.plan()
    pid = fork_worker(house, "captures", at="send.before:1", do=stop)
    os.waitpid(pid, os.WUNTRACED)
    stopped_at = boot_clock()
    assert house.settle(capture) == ["captured"]
    assert len(house.posts("/capture")) == 1
    # By the clock that judges it: the database's may have been set meanwhile, and let the lease run out early.
    eventually(lambda: boot_clock() > stopped_at + house.timing.not_after_s, "past its not-after")
    os.kill(pid, signal.SIGCONT)
    assert reap(pid) == 0
    assert len(house.posts("/capture")) == 1
    late = house.facts(capture)[-1]
    assert (late.topic, late.payload["outcome"]) == ("capture.late_answer", "not_sent")


def test_a_late_answer_is_kept_and_changes_nothing_when_it_agrees(house: House) -> None:
    """[5]"""
    capture = house.ask_for_capture()
    house.plan()
    pid = fork_worker(house, "captures", at="send.after:1", do=stop)
    os.waitpid(pid, os.WUNTRACED)
    assert house.settle(capture) == ["captured"]
    os.kill(pid, signal.SIGCONT)
    assert reap(pid) == 0
    assert house.topics(capture)[-1] == "late_answer"
    assert house.status(capture).state == "captured"
    assert len(house.record(capture).request_ids) == 2


def test_a_late_success_of_a_disproved_generation_is_a_conflict(house: House) -> None:
    capture = house.ask_for_capture()
    house.plan()
    pid = fork_worker(house, "captures", at="send.after:1", do=stop)
    os.waitpid(pid, os.WUNTRACED)
    # Pretend that a look proved it absent: the contradiction must show when the success is reported.
    house.execute(
        "UPDATE billing.idempotency_records SET state = 'disproved', concluded_at = now(), fence = fence + 1"
        " WHERE operation_id = :id",
        id=capture,
    )
    os.kill(pid, signal.SIGCONT)
    assert reap(pid) == 0
    assert house.status(capture).state == "conflict"
    house.relay.round()
    house.work_off()
    assert len(house.posts("/capture")) == 1, "nothing is sent while a person has to decide"


def test_an_answer_that_cannot_be_settled_is_kept_and_looked_at_after_a_replay(house: House) -> None:
    """[60]"""
    capture = house.ask_for_capture()
    house.execute("ALTER TABLE billing.captures ADD CONSTRAINT broken CHECK (state <> 'captured')")
    house.plan()
    house.work_off()
    record = house.record(capture)
    assert (record.state, record.answer_status, record.concluded_at) == (RecordState.UNSETTLED, 200, None)
    assert house.work(capture).state == WorkState.QUARANTINED
    house.execute("ALTER TABLE billing.captures DROP CONSTRAINT broken")
    house.execute("UPDATE billing.work SET state = 'ready', attempts = 0 WHERE entity_id = :id", id=capture)
    assert house.settle(capture) == ["captured"]
    assert len(house.posts("/capture")) == 1
    assert house.captured(capture) == {1999: 1}


def test_one_bad_row_harms_only_itself(house: House) -> None:
    captures = [house.ask_for_capture(intent) for intent in house.intents(6)]
    house.execute(
        "ALTER TABLE billing.captures ADD CONSTRAINT broken CHECK (id <> '" + captures[2] + "' OR state <> 'captured')"
    )
    house.plan()
    house.work_off(crew=6)
    states = [house.status(capture).state for capture in captures]
    assert states == ["captured", "captured", "in_doubt", "captured", "captured", "captured"]
    assert len(house.posts("/capture")) == 6


def test_a_switch_holds_what_is_not_sent_and_looks_at_what_is_unanswered(house: House) -> None:
    from billing import switches

    unsent, doubtful = house.ask_for_capture(), None
    doubtful = house.ask_for_capture()
    house.standin.add_fault("drop_after_commit", path="/capture$", times=1, key=doubtful)
    house.plan()
    house.execute("UPDATE billing.work SET state = 'held' WHERE entity_id = :id", id=unsent)
    house.work_off()
    with database.transaction(house.engine) as session:
        switches.pull(session, "captures", actor="test", reason="a drill")
    posts = len(house.posts("/capture"))
    assert house.settle(doubtful) == ["captured"], "a look concludes it, and needs no send"
    assert house.work(unsent).state == WorkState.HELD
    assert len(house.posts("/capture")) == posts
    with database.transaction(house.engine) as session:
        switches.release(session, "captures", actor="test", reason="the drill is over")
    assert house.settle(unsent) == ["captured"]


def test_work_that_kills_its_workers_ends_in_quarantine(house: House) -> None:
    """[63]"""
    capture = house.ask_for_capture()
    house.plan()
    house.execute("UPDATE billing.work SET attempts = 5 WHERE entity_id = :id", id=capture)
    house.work_off()
    assert house.work(capture).state == WorkState.QUARANTINED
    assert house.posts("/capture") == []


def test_a_call_that_crashes_the_crew_counts_as_an_attempt_and_concludes_nothing(house: House) -> None:
    class Broken:
        livemode = False
        calls = 0

        def send(self, request: Request, budget: Budget) -> Answer:
            Broken.calls += 1
            raise ValueError("a bug of ours")

    capture = house.ask_for_capture()
    house.plan()

    def quarantined() -> bool:
        house.work_off(gateway=Broken())
        house.relay.round()
        return house.work(capture).state == WorkState.QUARANTINED

    eventually(quarantined, "a person is asked")
    assert house.work(capture).attempts >= 5
    assert house.status(capture).state == "in_doubt"
    assert house.posts("/capture") == []
    house.execute("UPDATE billing.work SET state = 'ready', attempts = 0 WHERE entity_id = :id", id=capture)
    assert house.settle(capture) == ["captured"]


# The witness: no transaction that touched an operation is open while that operation is called.


class _Witness:
    """Stands at the HTTP border: what does a second connection see when the request goes out?"""

    def __init__(self, house: House) -> None:
        self._gateway = house.gateway()
        self.livemode = self._gateway.livemode
        self._url = make_url(house.url).set(drivername="postgresql").render_as_string(hide_password=False)
        self.seen: list[tuple[str | None, int]] = []

    def send(self, request: Request, budget: Budget) -> Answer:
        with psycopg.connect(self._url, autocommit=True) as second:
            state = second.execute(
                "SELECT state FROM billing.idempotency_records WHERE key = %s", [request.key]
            ).fetchone()
            locks = second.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'billing-test'"
                " AND datname = current_database() AND state = 'idle in transaction'"
            ).fetchone()
        self.seen.append((state[0] if state else None, locks[0] if locks else -1))
        return self._gateway.send(request, budget)


@contextmanager
def _threads_that_touch_the_database(house: House) -> Iterator[set[str]]:
    names: set[str] = set()

    def note(*_: object) -> None:
        names.add(threading.current_thread().name)

    event.listen(house.engine, "before_cursor_execute", note)
    try:
        yield names
    finally:
        event.remove(house.engine, "before_cursor_execute", note)


def test_no_operation_is_called_inside_a_transaction_that_touches_it(house: House) -> None:
    """[61]"""
    capture, invoice = house.ask_for_capture(), house.ask_for_invoice()
    house.plan()
    witness = _Witness(house)
    with _threads_that_touch_the_database(house) as threads:
        house.work_off("captures", witness)
        house.work_off("invoices", witness)
    assert house.status(capture).final
    assert house.status(invoice).final
    assert [state for state, _ in witness.seen] == ["sent"] * 5
    assert not any(name.startswith("crew") for name in threads)


def test_the_witness_sees_a_call_from_inside_its_own_transaction(house: House) -> None:
    """The control: the naive worker, which calls before it commits, is found out."""
    house.ask_for_capture()
    house.plan()
    witness = _Witness(house)
    import random
    from collections import Counter

    runner = Runner(house.call_settings, 1, random.Random(1))
    with database.transaction(house.engine) as session:
        outcome = runner.start(session, runner.claim(session, "captures", 1), Counter())
        effects.call(witness, outcome.calls[0], Budget(1e12, 1e12))
    assert witness.seen == [(None, 1)]


@pytest.mark.parametrize("key", ["", None])
def test_an_empty_key_never_reaches_the_provider(house: House, key: str | None) -> None:
    """[19]"""
    answer = house.gateway().send(Request("POST", "/v1/invoices", "", key=key), Budget(1e12, 1e12))
    assert type(answer).__name__ == "NotSent"
    assert house.posts("/v1/invoices") == []
