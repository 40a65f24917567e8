"""Two workers, a sleeper that wakes up late, and answers that come when somebody else has taken over."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from service import Service, eventually
from sqlalchemy import event
from sqlalchemy.engine import make_url
from worker import fork_worker, reap, stop

from billing import database, effects
from billing.gateway import Answer, Budget, Request, boot_clock
from billing.states import RecordState, WorkState
from jobs.road.runner import Runner


def test_two_workers_on_the_same_queue_send_each_capture_once(service: Service) -> None:
    """[4]"""
    captures = [service.ask_for_capture(intent) for intent in service.intents(30)]
    service.plan()
    pids = [fork_worker(service, "captures") for _ in range(2)]
    assert [reap(pid) for pid in pids] == [0, 0]
    assert {service.status(capture).state for capture in captures} == {"captured"}
    assert len(service.posts("/capture")) == 30


def test_a_sleeper_that_wakes_up_after_somebody_else_concluded_sends_nothing(service: Service) -> None:
    """[5] Stopped before its send: the request is past its not-after, and never leaves."""
    capture = service.ask_for_capture()
    service.plan()
    pid = fork_worker(service, "captures", at="send.before:1", do=stop)
    os.waitpid(pid, os.WUNTRACED)
    stopped_at = boot_clock()
    assert service.settle(capture) == ["captured"]
    assert len(service.posts("/capture")) == 1
    # By the clock that judges it: the database's may have been set meanwhile, and let the lease run out early.
    eventually(lambda: boot_clock() > stopped_at + service.timing.not_after_s, "past its not-after")
    os.kill(pid, signal.SIGCONT)
    assert reap(pid) == 0
    assert len(service.posts("/capture")) == 1
    late = service.facts(capture)[-1]
    assert (late.topic, late.payload["outcome"]) == ("capture.late_answer", "not_sent")


def test_a_late_answer_is_kept_and_changes_nothing_when_it_agrees(service: Service) -> None:
    """[5]"""
    capture = service.ask_for_capture()
    service.plan()
    pid = fork_worker(service, "captures", at="send.after:1", do=stop)
    os.waitpid(pid, os.WUNTRACED)
    assert service.settle(capture) == ["captured"]
    os.kill(pid, signal.SIGCONT)
    assert reap(pid) == 0
    assert service.topics(capture)[-1] == "late_answer"
    assert service.status(capture).state == "captured"
    assert len(service.record(capture).request_ids) == 2


def test_an_answer_that_cannot_be_settled_is_kept_and_looked_at_after_a_replay(service: Service) -> None:
    """[60]"""
    capture = service.ask_for_capture()
    service.execute("ALTER TABLE billing.captures ADD CONSTRAINT broken CHECK (state <> 'captured')")
    service.plan()
    service.work_off()
    record = service.record(capture)
    assert (record.state, record.answer_status, record.concluded_at) == (RecordState.UNSETTLED, 200, None)
    assert service.work(capture).state == WorkState.QUARANTINED
    service.execute("ALTER TABLE billing.captures DROP CONSTRAINT broken")
    service.replay(capture)
    assert service.settle(capture) == ["captured"]
    assert len(service.posts("/capture")) == 1
    assert service.captured(capture) == {1999: 1}


def test_one_bad_row_harms_only_itself(service: Service) -> None:
    captures = [service.ask_for_capture(intent) for intent in service.intents(6)]
    service.execute(
        "ALTER TABLE billing.captures ADD CONSTRAINT broken CHECK (id <> '" + captures[2] + "' OR state <> 'captured')"
    )
    service.plan()
    service.work_off(crew=6)
    states = [service.status(capture).state for capture in captures]
    assert states == ["captured", "captured", "in_doubt", "captured", "captured", "captured"]
    assert len(service.posts("/capture")) == 6


def test_a_call_that_crashes_the_crew_counts_as_an_attempt_and_concludes_nothing(service: Service) -> None:
    class Broken:
        livemode = False
        calls = 0

        def send(self, request: Request, budget: Budget) -> Answer:
            Broken.calls += 1
            raise ValueError("a bug of ours")

    capture = service.ask_for_capture()
    service.plan()

    def quarantined() -> bool:
        service.work_off(gateway=Broken())
        service.relay.round()
        return service.work(capture).state == WorkState.QUARANTINED

    eventually(quarantined, "a person is asked")
    assert service.work(capture).attempts >= 5
    assert service.status(capture).state == "in_doubt"
    assert service.posts("/capture") == []
    service.execute("UPDATE billing.work SET state = 'ready', attempts = 0 WHERE entity_id = :id", id=capture)
    assert service.settle(capture) == ["captured"]


# The witness: no transaction that touched an operation is open while that operation is called.


class _Witness:
    """Stands at the HTTP border: what does a second connection see when the request goes out?"""

    def __init__(self, service: Service) -> None:
        self._gateway = service.gateway()
        self.livemode = self._gateway.livemode
        self._url = make_url(service.url).set(drivername="postgresql").render_as_string(hide_password=False)
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
def _threads_that_touch_the_database(service: Service) -> Iterator[set[str]]:
    names: set[str] = set()

    def note(*_: object) -> None:
        names.add(threading.current_thread().name)

    event.listen(service.engine, "before_cursor_execute", note)
    try:
        yield names
    finally:
        event.remove(service.engine, "before_cursor_execute", note)


def test_no_operation_is_called_inside_a_transaction_that_touches_it(service: Service) -> None:
    """[61]"""
    capture, invoice = service.ask_for_capture(), service.ask_for_invoice()
    service.plan()
    witness = _Witness(service)
    with _threads_that_touch_the_database(service) as threads:
        service.work_off("captures", witness)
        service.work_off("invoices", witness)
    assert service.status(capture).final
    assert service.status(invoice).final
    assert [state for state, _ in witness.seen] == ["sent"] * 5
    assert not any(name.startswith("crew") for name in threads)


def test_the_witness_sees_a_call_from_inside_its_own_transaction(service: Service) -> None:
    """The control: the naive worker, which calls before it commits, is found out."""
    service.ask_for_capture()
    service.plan()
    witness = _Witness(service)
    import random

    runner = Runner(service.call_settings, random.Random(1))
    with database.transaction(service.engine) as session:
        outcome = runner.start(session, runner.claim(session, "captures", 1))
        effects.call(witness, outcome.calls[0], Budget(1e12, 1e12))
    assert witness.seen == [(None, 1)]
