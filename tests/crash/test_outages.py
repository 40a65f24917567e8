"""The real processes, and servers that go away under them: nothing is lost, nothing happens twice."""

import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psycopg
from service import PATIENCE_S, Service, eventually

from jobs.local.servers import LocalServers
from jobs.local.supervisor import Child
from jobs.rq import bells


def _settled(service: Service, captures: list[str], states: tuple[str, ...] = ("captured",)) -> Callable[[], bool]:
    return lambda: all(service.status(capture).state in states for capture in captures)


def _each_once(service: Service, captures: list[str]) -> None:
    assert [service.captured(capture) for capture in captures] == [{1999: 1}] * len(captures)


def test_a_flushed_redis_loses_no_work(service: Service, spawn: Callable[..., Child]) -> None:
    """[55, 72]"""
    spawn("relay")
    spawn("worker", "captures")
    captures: list[str] = []
    for _ in range(5):
        captures += [service.ask_for_capture(intent) for intent in service.intents(10)]
        service.redis.flushall()
    eventually(_settled(service, captures), "all captured")
    _each_once(service, captures)


def test_a_relay_whose_connection_is_cut_while_it_rests_goes_on(service: Service, spawn: Callable[..., Child]) -> None:
    relay = spawn("relay")
    captures = []
    for number in range(1, 6):
        # Within a second of a request it looks for the next one, and that is mostly what it does.
        captures.append(service.ask_for_capture())
        eventually(lambda: service.status(captures[-1]).work is not None, "it is planned")
        with psycopg.connect(service.url, autocommit=True) as postgres:
            cut = postgres.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'billing-relay'"
            ).fetchone()
        assert cut == (1,)
        eventually(lambda number=number: relay.output().count("postgres.away") >= number, "it has noticed")
        assert relay.poll() is None, "it outlived that"


def test_a_postgres_that_restarts_under_the_workers_costs_no_money_and_no_work(
    service: Service, spawn: Callable[..., Child], template: LocalServers
) -> None:
    """[60]"""
    service.standin.add_fault("latency", path="/capture$", seconds=0.3, probability=0.5, seed=1)
    relay, worker = spawn("relay"), spawn("worker", "captures")
    captures = [service.ask_for_capture(intent) for intent in service.intents(60)]
    eventually(lambda: len(service.effects("capture")) > 5, "some captures are in flight")
    service.engine.dispose()
    template.postgres.restart()
    eventually(lambda: len(service.effects("capture")) > 40, "they go on")
    service.engine.dispose()
    template.postgres.kill()
    template.postgres.restart()
    eventually(_settled(service, captures), "all captured")
    _each_once(service, captures)
    assert (relay.poll(), worker.poll()) == (None, None), "both outlived it"


def test_a_worker_told_to_stop_finishes_its_calls_and_claims_nothing_more(
    service: Service, spawn: Callable[..., Child]
) -> None:
    service.standin.add_fault("latency_after", path="/capture$", seconds=0.8)
    captures = [service.ask_for_capture(intent) for intent in service.intents(80)]
    spawn("relay")
    worker = spawn("worker", "captures")
    eventually(lambda: len(service.posts("/capture")) >= 10, "calls in flight")
    worker.send(signal.SIGTERM)
    worker.send(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    records = [record for capture in captures for record in service.records(capture)]
    assert [record.id for record in records if record.lease_until is not None] == [], "nothing is left in flight"
    states = Counter(service.status(capture).state for capture in captures)
    # In progress: its call came too late to its thread on a busy machine, so it was not sent.
    assert set(states) <= {"captured", "requested", "in_progress"}
    assert 0 < states["captured"] < 80
    service.standin.clear_faults()
    spawn("worker", "captures")
    eventually(_settled(service, captures), "the next worker goes on")
    _each_once(service, captures)


def test_a_killed_worker_is_followed_within_its_lease(service: Service, spawn: Callable[..., Child]) -> None:
    """[54]"""
    spawn("relay")
    worker = spawn("worker", "captures")
    service.standin.add_fault("hold_after", path="/capture$", times=5)
    captures = [service.ask_for_capture(intent) for intent in service.intents(5)]
    eventually(lambda: len(service.standin.held()) == 5, "five calls in flight")
    worker.kill()
    service.standin.release()
    spawn("worker", "captures")
    eventually(_settled(service, captures), "taken up again")
    _each_once(service, captures)


def test_a_redis_that_is_away_stops_nothing_that_runs_and_is_rung_again_when_it_is_back(
    service: Service, spawn: Callable[..., Child], template: LocalServers
) -> None:
    """[55]"""
    relay, worker = spawn("relay"), spawn("worker", "captures")
    first = [service.ask_for_capture(intent) for intent in service.intents(10)]
    eventually(_settled(service, first), "captured")
    template.valkey.kill()
    second = [service.ask_for_capture(intent) for intent in service.intents(10)]
    template.valkey.restart()
    eventually(_settled(service, second), "captured")
    _each_once(service, first + second)
    assert (relay.poll(), worker.poll()) == (None, None)


def test_a_hostile_writer_in_redis_can_at_most_wake_a_worker(
    service: Service, spawn: Callable[..., Child], tmp_path: Path
) -> None:
    """[79]"""
    worker = spawn("worker", "captures")
    prefix = bells.key_prefix("test")
    witness = tmp_path / "it-ran"
    hostile = [f'["os.mkdir", null, ["{witness}"], {{}}]', '["jobs.cli.main", null, [], {}]', "not even JSON"]
    for number, data in enumerate(hostile):
        bell = {"data": data, "status": "queued", "origin": "captures"}
        service.redis.hset(f"{prefix}:job:evil{number}", mapping=bell)
        service.redis.rpush(f"{prefix}:queue:captures", f"evil{number}")
    eventually(lambda: service.redis.llen(f"{prefix}:queue:captures") == 0, "they were popped")
    spawn("relay")
    capture = service.ask_for_capture()
    if worker.poll() is not None:
        spawn("worker", "captures")
    eventually(_settled(service, [capture]), "honest work goes on")
    assert not witness.exists()


def test_a_queue_that_stands_still_delays_no_other(service: Service, spawn: Callable[..., Child]) -> None:
    """[80]"""
    service.standin.add_fault("hold_before", method="POST", path="/v1/invoices$")
    customer = service.customer()
    spawn("relay")
    spawn("worker", "invoices")
    spawn("worker", "captures")
    invoices = [service.ask_for_invoice(customer) for _ in range(30)]
    eventually(lambda: len(service.standin.held()) >= 8, "every call of the invoices worker is stuck")
    captures = [service.ask_for_capture(intent) for intent in service.intents(10)]
    eventually(_settled(service, captures), "captured meanwhile")
    assert not any(service.status(invoice).final for invoice in invoices)
    service.standin.clear_faults()
    service.standin.release()
