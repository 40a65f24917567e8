"""Random faults on the real processes, from a printed seed: afterwards nothing is double, lost or stuck.

A short budget runs with the other tests; `make chaos` runs a long one (BILLING_TEST_CHAOS_S, BILLING_TEST_SEED).
Everything is on: metrics, traces (to a collector that is away), shared limits, schedules, and housekeeping among them.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import repeat

from service import Service, eventually
from sqlalchemy import select, text

from billing import database
from billing.schedules import SCHEDULES
from billing.states import RunState
from billing.tables.entities import Capture
from billing.tables.idempotency_records import Record
from billing.tables.scheduled_runs import ScheduledRun
from billing.tables.work import Work
from jobs.local.servers import LocalServers
from jobs.local.supervisor import Child
from jobs.road import ticks

CHAOS_S = float(os.environ.get("BILLING_TEST_CHAOS_S", "15"))
SEED = int(os.environ.get("BILLING_TEST_SEED", "20261125"))

FAULTS = [
    {"fault": "drop_before", "method": "POST", "probability": 0.03},
    {"fault": "drop_after_commit", "method": "POST", "probability": 0.04},
    {"fault": "500_saved", "method": "POST", "probability": 0.02},
    {"fault": "500_with_effect", "method": "POST", "path": "/(capture|finalize)$", "probability": 0.02},
    {"fault": "429_rate", "probability": 0.03},
    {"fault": "429_lock_saved", "method": "POST", "probability": 0.02},
    {"fault": "truncate_body", "probability": 0.02},
    {"fault": "502_html", "probability": 0.02},
    {"fault": "latency_after", "probability": 0.2, "seconds": 0.1},
]


EVERYTHING_ON = {
    "BILLING_METRICS_PORT": "0",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    "BILLING_STRIPE_RATE": "200",
}
INVOICES_EACH = 20
"""As many invoices has a customer; all of one customer's are listed in a look for one of them."""
SCHEDULED = 0.1
"""So often a step of the test also asks for a schedule to run."""


def _customers(service: Service) -> Iterator[str]:
    while True:
        yield from repeat(service.customer_despite_faults(), INVOICES_EACH)


def test_random_faults_leave_nothing_double_lost_or_stuck(
    service: Service, spawn: Callable[..., Child], template: LocalServers
) -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}, {CHAOS_S:g} s")
    service.standin.add_faults([{**fault, "seed": rng.randrange(2**31)} for fault in FAULTS])
    roles = [("relay",), *(("worker", queue) for queue in ("captures", "invoices", "maintenance"))]
    processes = {role: spawn(*role, **EVERYTHING_ON) for role in roles}
    customers = _customers(service)
    captures: list[str] = []
    invoices: list[str] = []
    runs: list[str] = []
    faults: Counter[str] = Counter()

    def kill(role: tuple[str, ...]) -> None:
        processes[role].kill()
        processes[role] = spawn(*role, **EVERYTHING_ON)

    def cut_postgres() -> None:
        with database.transaction(service.engine) as session:
            session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        # The test's own are cut with them, and know it only once they are used.
        for engine in service.engines.values():
            engine.dispose()

    kinds: dict[str, Callable[[], object]] = {
        "kill a captures worker": lambda: kill(("worker", "captures")),
        "kill an invoices worker": lambda: kill(("worker", "invoices")),
        "kill the relay": lambda: kill(("relay",)),
        "flush Redis": service.redis.flushall,
        "cut every connection to Postgres": cut_postgres,
        "kill Redis": lambda: (template.valkey.kill(), template.valkey.restart()),
    }
    end = time.monotonic() + CHAOS_S
    while time.monotonic() < end:
        captures += [service.ask_for_capture(intent) for intent in service.intents(rng.randint(1, 8))]
        invoices.append(service.ask_for_invoice(next(customers)))
        if not runs or rng.random() < SCHEDULED:
            with database.transaction(service.engines["operator"]) as session:
                runs.append(ticks.ask_for(session, rng.choice(SCHEDULES), actor="chaos").id)
        name = rng.choice(sorted(kinds))
        kinds[name]()
        faults[name] += 1
        pause = time.monotonic() + rng.uniform(0.2, 0.8)
        eventually(lambda until=pause: time.monotonic() > until, "the next fault")
    service.standin.clear_faults()
    waiting = set(captures + invoices)
    ends: dict[str, str] = {}

    def some_are_final() -> bool:
        found = {status.id: status.state for status in map(service.status, waiting) if status.final}
        waiting.difference_update(found)
        ends.update(found)
        return bool(found)

    # However much is left on a busy machine, it goes on: stuck is what makes no progress.
    while waiting:
        eventually(
            some_are_final,
            f"of {len(waiting)} that are left one more ends: {_how_they_stand(service, waiting)};"
            f" ended by themselves: {[child for child in processes.values() if child.poll() is not None]}",
        )
    eventually(lambda: all(service.row(ScheduledRun, run).state == RunState.DONE for run in runs), "all runs are done")
    print(f"{len(captures)} captures, {len(invoices)} invoices, {len(runs)} scheduled runs")
    print(f"{faults.total()} faults: {dict(faults)}")
    assert ends == {**dict.fromkeys(captures, "captured"), **dict.fromkeys(invoices, "sent")}
    with database.transaction(service.engine) as session:
        intents = session.scalars(select(Capture.payment_intent).where(Capture.id.in_(captures))).all()
    taken = Counter((effect["id"], effect["amount"]) for effect in service.effects("capture"))
    assert taken == Counter((intent, 1999) for intent in intents)
    finalized = Counter(effect["id"] for effect in service.effects("invoice.finalized"))
    assert len(finalized) == len(invoices)
    assert set(finalized.values()) == {1}


def _how_they_stand(service: Service, waiting: set[str]) -> dict[tuple[object, ...], int]:
    """How many pieces of work are in which state, at which step, and why."""
    with database.transaction(service.engine) as session:
        rows = session.execute(
            select(Work.state, Record.step, Record.state, Record.learned, Work.reason)
            .outerjoin(Record, (Record.work_id == Work.id) & Record.concluded_at.is_(None))
            .where(Work.entity_id.in_(waiting))
        )
        return dict(Counter(tuple(row) for row in rows))
