"""Whatever happens, every operation that is not final has somebody or something that moves it on."""

import contextlib
import os
import random
import time
from datetime import UTC, datetime, timedelta

import pytest
from service import PATIENCE_S, Service
from sqlalchemy import text
from worker import KILLED, fork_worker, reap

import billing
from billing import database, switches
from billing.errors import BillingError
from jobs.road import quarantine, quarantine_list

ORPHANS = text(
    """
    SELECT w.entity_id, 'work ' || w.state AS what FROM billing.work AS w
      LEFT JOIN billing.idempotency_records AS running ON running.id = w.record_id
     WHERE w.state NOT IN ('done', 'ready', 'held', 'parked', 'quarantined')
       AND NOT (w.state = 'waiting' AND w.due_at IS NOT NULL AND w.due_at < clock_timestamp() + interval '1 day')
       AND NOT (w.state = 'running' AND running.id IS NOT NULL)
       AND NOT EXISTS (SELECT 1 FROM billing.idempotency_records AS r
                        WHERE r.work_id = w.id AND r.concluded_at IS NULL AND r.queue = w.queue
                          AND r.look_at < clock_timestamp() + interval '1 day')
    UNION ALL
    SELECT r.operation_id, 'open record ' || r.state FROM billing.idempotency_records AS r
      LEFT JOIN billing.work AS w ON w.id = r.work_id
     WHERE r.concluded_at IS NULL AND (w.id IS NULL OR w.state IN ('done', 'failed'))
    UNION ALL
    SELECT r.operation_id, 'two open records' FROM billing.idempotency_records AS r
     WHERE r.concluded_at IS NULL GROUP BY r.operation_id HAVING count(*) > 1
    UNION ALL
    SELECT c.id, 'capture requested, work done' FROM billing.captures AS c JOIN billing.work AS w ON w.entity_id = c.id
     WHERE c.state = 'requested' AND w.state = 'done'
    UNION ALL
    SELECT i.id, 'invoice ' || i.state || ', work done' FROM billing.invoices AS i
      JOIN billing.work AS w ON w.entity_id = i.id
     WHERE i.state NOT IN ('sent', 'refused') AND w.state = 'done'
    UNION ALL
    SELECT r.operation_id, 'counters ' || r.unanswered || '/' || r.unreported FROM billing.idempotency_records AS r
     WHERE r.unanswered < 0 OR r.unreported < 0
    """
)
FAULTS = (
    "drop_before drop_after_commit 500_saved 500_with_effect 500_no_effect 429_rate 429_lock_saved 409_in_use 401 403"
    " other_amount not_end_state 402_declined truncate_body 502_html"
).split()


def orphans(service: Service) -> list[tuple[str, str]]:
    with database.transaction(service.engine) as session:
        return [tuple(row) for row in session.execute(ORPHANS)]


@pytest.mark.parametrize("seed", [int(os.environ.get("BILLING_TEST_SEED", "1"))])
def test_nothing_is_ever_left_without_an_owner(service: Service, seed: int) -> None:  # noqa: PLR0915
    rng = random.Random(seed)
    customer = service.customer()
    operations: list[str] = []
    log: list[str] = []

    def ask() -> None:
        if rng.random() < 0.5:
            deadline = datetime.now(UTC) + timedelta(seconds=rng.choice([2, 1800, 86400]))
            authorization = rng.choice([None, billing.Authorization(1999, "USD", deadline)])
            operations.append(service.ask_for_capture(authorization=authorization))
        else:
            operations.append(service.ask_for_invoice(customer))

    def fault() -> None:
        path = rng.choice(["/capture$", "/v1/invoices$", "/add_lines$", "/finalize$", "/send$", "/v1/(pay|inv|acc)"])
        name = rng.choice(FAULTS)
        log.append(f"fault {name} {path}")
        service.standin.add_fault(name, path=path, times=rng.randint(1, 4))

    def switch() -> None:
        scope = rng.choice(["captures", "invoices", "everything", "account:own"])
        with contextlib.suppress(BillingError), database.transaction(service.engine) as session:
            if rng.random() < 0.4:
                switches.pull(session, scope, actor="fuzz", reason="fuzz")
            else:
                switches.release(session, scope, actor="fuzz", reason="fuzz")

    def crash() -> None:
        at = f"{rng.choice(['commit.before', 'send.before', 'send.after', 'commit.after'])}:{rng.randint(1, 4)}"
        queue = rng.choice(["captures", "invoices"])
        log.append(f"crash {queue} {at}")
        reap(fork_worker(service, queue, at=at))

    def replay_all() -> None:
        with database.transaction(service.engine) as session:
            listed = quarantine_list.listed(session)
        for work in listed:
            with contextlib.suppress(BillingError), database.transaction(service.engine) as session:
                quarantine.replay(session, work.id, actor="fuzz", reason="fuzz")

    def work() -> None:
        service.relay.round()
        service.work_off(rng.choice(["captures", "invoices"]))

    moves = [ask, ask, fault, fault, switch, crash, replay_all, work, work, work, service.relay.round]
    until = time.monotonic() + float(os.environ.get("BILLING_TEST_OWNERS_S", "5"))
    while time.monotonic() < until:
        move = rng.choice(moves)
        move()
        log.append(getattr(move, "__name__", "?"))
        assert orphans(service) == [], log
    service.standin.clear_faults()
    with database.transaction(service.engine) as session:
        for scope in session.scalars(text("SELECT scope FROM billing.switches WHERE state = 'pulled'")).all():
            switches.release(session, scope, actor="fuzz", reason="end")
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        replay_all()
        for queue in ("captures", "invoices"):
            service.relay.round()
            service.work_off(queue)
        left = {o: service.status(o) for o in operations if not service.status(o).final}
        assert orphans(service) == []
        if not left or all(_may_last(service, o, status.state) for o, status in left.items()):
            break
    assert all(_may_last(service, o, status.state) for o, status in left.items()), left
    for operation in operations:
        if operation.startswith("cap_"):
            took = service.captured(operation)
            state = service.status(operation).state
            assert sum(took.values()) <= 1
            assert state in ("conflict", "requested") or (state == "captured") == bool(took), (operation, state, took)
        else:
            made = [
                e for e in service.effects("invoice.created") if e["metadata"].get("billing_operation") == operation
            ]
            finalized = [e for m in made for e in service.effects("invoice.finalized", m["id"])]
            assert len(finalized) <= 1, operation


def _may_last(service: Service, operation: str, state: str) -> bool:
    """A conflict is a person's; past its deadline a capture is only looked at, until Stripe cancels it."""
    if state == "conflict":
        return True
    record = service.record(operation)
    return record.deadline is not None and record.deadline < datetime.now(UTC) and record.look_at is not None


def test_a_clock_that_jumped_ahead_and_back_delays_nothing_for_longer_than_its_longest_pause(service: Service) -> None:
    """`due_at` and `look_at` that were written meanwhile lie a year ahead, and are no promise."""
    retried, looked = [service.ask_for_capture(intent) for intent in service.intents(2)]
    service.plan()
    service.execute(
        "UPDATE billing.work SET state = 'waiting', due_at = now() + interval '365 days',"
        " state_since = now() + interval '365 days' WHERE entity_id = :id",
        id=retried,
    )
    service.standin.add_fault("not_end_state", path="/capture$", times=1)
    assert reap(fork_worker(service, "captures", at="send.before:2")) == KILLED  # in its look
    service.execute(
        "UPDATE billing.idempotency_records SET look_at = look_at + interval '365 days',"
        " last_reported_at = last_reported_at + interval '365 days',"
        " lease_until = lease_until + interval '365 days' WHERE operation_id = :id",
        id=looked,
    )
    assert service.settle(retried, looked) == ["captured", "captured"]
