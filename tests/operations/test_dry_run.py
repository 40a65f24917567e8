"""A dry run says what a replay would do, and changes nothing; an approved plan is done exactly so, or not at all."""

import hashlib
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from service import Service, eventually
from sqlalchemy.orm import Session

from billing import database, request_ids
from billing.errors import InvalidRequest
from billing.gateway import Answer, Budget, NotSent, Request, boot_clock, encode
from billing.states import WorkState
from billing.tables.entities import Capture
from jobs.road import housekeeping, plans
from jobs.road.dry_run import ChangedMeanwhile, DryRun, NotAWorker, as_it_stands, refuse_unless_worker
from jobs.road.plans import Plan, PlanChanged
from jobs.road.refusing_gateways import OnlyPlanned, ReadOnly
from jobs.road.runner import Runner


class Directed:
    """A dry run with the login of a worker, and no other."""

    def __init__(self, service: Service, actor: str = "anna") -> None:
        self._service = service
        runner = Runner(service.call_settings, random.Random(1))
        self.dry_run = DryRun(runner, lambda _queue: service.gateway(), self.transact, actor=actor, reason="INC-12")

    def transact(self, step: Callable[[Session], Any]) -> Any:
        with database.transaction(self._service.engines["worker"]) as session:
            return step(session)

    def plan(self, operation: str) -> Plan:
        return self.dry_run.plan(self._service.work(operation).id)

    def carry_out(self, operation: str, approved: Plan, meanwhile: Callable[[], object] = lambda: None) -> Plan:
        """`meanwhile` happens before each transaction, and so between a look and the commit."""

        def commit(step: Callable[[Session], Any]) -> Any:
            meanwhile()
            return self.transact(step)

        engine = self._service.engines["worker"]
        return self.dry_run.carry_out(self._service.work(operation).id, approved.id, engine, commit)


def all_rows(service: Service) -> list[Any]:
    of_requests = ("captures", "refunds", "invoices")
    tables = (*of_requests, "idempotency_records", "work", "facts", "work_failures", "quarantine_touches")
    with service.engine.connect() as connection:
        return [
            sorted(map(str, connection.exec_driver_sql(f"SELECT to_jsonb(t) FROM billing.{table} AS t").scalars()))
            for table in tables
        ]


def seen(service: Service) -> int:
    """The number of the last request that reached Stripe."""
    return max((int(each["n"]) for each in service.standin.requests()), default=0)


def sent(service: Service, after: int = 0) -> list[tuple[str, str, str | None, str]]:
    """Every request but reads that reached Stripe after this one: method, path, key, and the digest of its body."""
    return [
        (each["method"], each["path"], each["key"], hashlib.sha256(encode(each["params"]).encode()).hexdigest())
        for each in service.standin.requests(after)
        if each["method"] != "GET"
    ]


def planned(plan: Plan) -> list[tuple[str, str, str | None, str]]:
    call = plan.call
    return [(call.method, call.path, call.key, call.parameters_sha256)] if call is not None else []


def standing(service: Service, operation: str) -> plans.Standing:
    with database.transaction(service.engine) as session:
        return plans.standing(*as_it_stands(session, service.work(operation).id))


# Work that is in quarantine for one of many reasons.


def refuse(service: Service, table: str, condition: str) -> None:
    service.execute(f"ALTER TABLE billing.{table} ADD CONSTRAINT refused CHECK (NOT ({condition})) NOT VALID")


def allow(service: Service, table: str) -> None:
    service.execute(f"ALTER TABLE billing.{table} DROP CONSTRAINT refused")


def captured_by_hand(service: Service, capture: str, amount: int) -> None:
    payment_intent = service.row(Capture, capture).payment_intent
    service.by_hand(f"/v1/payment_intents/{payment_intent}/capture", f"amount_to_capture={amount}")


def until_quarantined(service: Service, found: list[str]) -> None:
    """Relay and workers, turn by turn: on a busy machine a lease may run out on the way."""

    def turn() -> bool:
        with database.transaction(service.engines["relay"]) as session:
            housekeeping.rescue_lapsed(session)
            housekeeping.make_due_ready(session)
        for queue in ("captures", "invoices"):
            service.work_off(queue)
        return {service.work(each).state for each in found} == {WorkState.QUARANTINED}

    eventually(turn, "in quarantine")


def captures(service: Service, count: int) -> list[str]:
    asked = [service.ask_for_capture(intent) for intent in service.intents(count)]
    service.plan()
    return asked


def conflicts(service: Service, count: int) -> list[str]:
    """The answers named another amount, and half of the money was really taken otherwise, by hand."""
    found = captures(service, count)
    by_hand = count // 2
    for capture in found[:by_hand]:
        captured_by_hand(service, capture, 1500)
    service.standin.add_fault("other_amount", path="/capture$")
    until_quarantined(service, found)
    service.standin.clear_faults()
    return found


def unsettled(service: Service, count: int) -> list[str]:
    """What came back could not be stored; half of the calls never reached Stripe."""
    found = captures(service, count)
    lost = [service.row(Capture, capture).payment_intent for capture in found[: count // 2]]
    service.standin.add_fault("drop_before", path=f"({'|'.join(lost)})/capture$")
    refuse(service, "facts", "topic = 'capture.attempted'")
    until_quarantined(service, found)
    allow(service, "facts")
    service.standin.clear_faults()
    return found


def exhausted(service: Service, count: int) -> list[str]:
    """Five workers died in the call."""
    found = captures(service, count)
    service.prepared(most=count)
    crashed(service, found)
    return found


def crashed(service: Service, operations: list[str]) -> None:
    for operation in operations:
        service.age(operation, 60)
    service.execute("UPDATE billing.work SET attempts = 5 WHERE entity_id = ANY (:ids)", ids=operations)
    until_quarantined(service, operations)


def poison(service: Service, count: int) -> list[str]:
    """No call of it could be prepared."""
    found = captures(service, count)
    runner = Runner(service.call_settings, random.Random(1))
    with database.transaction(service.engines["worker"]) as session:
        runner.set_aside(session, runner.claim(session, "captures", count), ValueError("a bug"))
    return found


def invoices(service: Service, count: int) -> list[str]:
    """Five workers died in the call that makes the draft."""
    customer = service.customer()
    found = [service.ask_for_invoice(customer) for _ in range(count)]
    service.plan()
    service.prepared("invoices", count)
    crashed(service, found)
    return found


def test_what_is_planned_is_done_for_100_of_100_pieces_and_a_dry_run_sends_nothing(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {
        "poison": poison(service, 20),
        "poison still": poison(service, 10),
        "conflict": conflicts(service, 20),
        "unsettled": unsettled(service, 20),
        "exhausted": exhausted(service, 20),
        "invoices": invoices(service, 10),
    }
    found = [operation for kind in kinds.values() for operation in kind]
    assert len(found) == 100
    assert Counter((kind, service.work(each).state) for kind in kinds for each in kinds[kind]) == Counter(
        {(kind, "quarantined"): len(kinds[kind]) for kind in kinds}
    )
    for each in found:
        # Old enough for a look to prove that nothing happened.
        service.age(each, 3600)
    for capture in kinds["exhausted"][:10]:
        captured_by_hand(service, capture, 1999)
    refuse(service, "idempotency_records", f"operation_id = ANY ('{{{','.join(kinds['poison still'])}}}')")

    before, already = all_rows(service), sent(service)
    directed = Directed(service)
    approved = {each: directed.plan(each) for each in found}
    assert all_rows(service) == before
    during = sent(service)
    assert during == already, "a dry run sends nothing"

    done = 0
    for each, plan in approved.items():
        last = seen(service)
        directed.carry_out(each, plan)
        assert sent(service, last) == planned(plan)
        if plan.call is None:
            now = standing(service, each)
            assert all(now[change.of][name] == value for change in plan.changes for name, value in change.after.items())
        else:
            (record,) = [record for record in service.records(each) if record.key == plan.call.key]
            assert (record.path, record.state) == (plan.call.path, "answered")
        done += 1
    with capsys.disabled():
        print(f"\nplanned and done exactly so: {done} of {len(found)}; sent in dry runs: {len(during) - len(already)}")
    assert done == 100
    assert len(sent(service)) - len(already) == sum(plan.call is not None for plan in approved.values())
    states = {kind: Counter(service.status(each).state for each in kinds[kind]) for kind in kinds}
    assert states == {
        "conflict": {"conflict": 10, "captured": 10},
        "unsettled": {"captured": 20},
        "exhausted": {"captured": 20},
        "invoices": {"drafted": 10},
        "poison": {"captured": 20},
        "poison still": {"requested": 10},
    }


def test_the_same_plan_has_the_same_id_whoever_asks_and_says_what_it_sends(service: Service) -> None:
    (capture,) = exhausted(service, 1)
    plan = Directed(service).plan(capture)
    assert plan.id == Directed(service, actor="grace").plan(capture).id
    record = service.record(capture)
    assert plan.call is not None
    assert (plan.call.method, plan.call.path, plan.call.key) == ("POST", record.path, record.key)
    request = service.row(Capture, capture).request_id
    assert plan.call.parameters == {
        "amount_to_capture": "1999",
        "metadata[billing_operation]": capture,
        "metadata[billing_request]": request_ids.digest_of(request),
    }
    assert plan.then == plans.DEPENDS
    of_work = next(change for change in plan.changes if change.of.startswith("work"))
    assert (of_work.before["state"], of_work.after["state"]) == ("quarantined", "running")


def test_if_anything_has_changed_since_nothing_is_done(service: Service) -> None:
    """At Stripe before the last look, and here after it."""
    at_stripe, here = exhausted(service, 2)
    directed = Directed(service)
    approved = {each: directed.plan(each) for each in (at_stripe, here)}
    facts = [len(service.facts(each)) for each in (at_stripe, here)]
    captured_by_hand(service, at_stripe, 1999)
    service.age(at_stripe, 60)
    already = seen(service)
    with pytest.raises(PlanChanged, match=f"{approved[at_stripe].id} was approved, and plan_"):
        directed.carry_out(at_stripe, approved[at_stripe])
    with pytest.raises(PlanChanged):
        directed.carry_out(here, approved[here], lambda: service.pull("captures"))
    assert sent(service, already) == []
    assert [service.work(each).state for each in (at_stripe, here)] == ["quarantined", "quarantined"]
    assert [len(service.facts(each)) for each in (at_stripe, here)] == facts


def test_a_worker_that_calls_between_the_look_and_the_commit_is_noticed(service: Service) -> None:
    (capture,) = conflicts(service, 1)
    directed = Directed(service)
    plan = directed.plan(capture)
    assert plan.looks

    def called() -> None:
        service.execute("UPDATE billing.idempotency_records SET fence = fence + 1")

    with pytest.raises(ChangedMeanwhile):
        directed.carry_out(capture, plan, called)
    assert service.work(capture).state == WorkState.QUARANTINED


def test_no_call_but_the_planned_one_is_made_and_a_worker_goes_on_from_there(service: Service) -> None:
    (invoice,) = invoices(service, 1)
    directed = Directed(service)
    plan, already = directed.plan(invoice), seen(service)
    directed.carry_out(invoice, plan)
    assert sent(service, already) == planned(plan)
    assert service.status(invoice).state == "drafted"
    assert service.settle(invoice) == ["sent"]
    assert len(service.effects("invoice.finalized")) == 1


def test_under_a_pulled_switch_the_plan_sends_nothing_and_is_another_one(service: Service) -> None:
    (capture,) = exhausted(service, 1)
    service.pull("captures")
    held = Directed(service).plan(capture)
    assert held.call is None
    service.release("captures")
    with pytest.raises(PlanChanged):
        Directed(service).carry_out(capture, held)
    assert Directed(service).plan(capture).call is not None


def test_a_refused_stripe_key_is_no_plan(service: Service) -> None:
    (capture,) = conflicts(service, 1)
    service.standin.add_fault("401", method="GET")
    with pytest.raises(InvalidRequest, match="BILLING_STRIPE_KEY is refused by Stripe"):
        Directed(service).plan(capture)


@pytest.mark.parametrize("kind", ["operator", "relay", "application"])
def test_a_login_without_a_worker_s_rights_is_told_what_is_missing(service: Service, kind: str) -> None:
    missing = "worker's DATABASE_URL and BILLING_STRIPE_KEY"
    with database.transaction(service.engines[kind]) as session, pytest.raises(NotAWorker, match=missing):
        refuse_unless_worker(session)
    with database.transaction(service.engines["worker"]) as session:
        refuse_unless_worker(session)


def test_the_gateways_refuse_what_is_no_read_and_what_is_not_planned(service: Service) -> None:
    post = Request("POST", "/v1/customers", "name=Test", key="k-1")
    budget = Budget(boot_clock() + 10, boot_clock() + 20)

    def refused(answer: Answer) -> bool:
        return isinstance(answer, NotSent)

    read_only, only = ReadOnly(service.gateway()), OnlyPlanned(service.gateway(), post)
    assert refused(read_only.send(post, budget))
    assert refused(read_only.send(Request("DELETE", "/v1/invoices/in_1"), budget))
    assert not refused(read_only.send(Request("GET", "/v1/account"), budget))
    assert refused(only.send(Request("POST", "/v1/customers", "name=Other", key="k-1"), budget))
    assert refused(only.send(Request("POST", "/v1/customers", "name=Test", key="k-2"), budget))
    assert not refused(only.send(post, budget))
    assert refused(only.send(post, budget)), "it is sent once"
    assert [each["key"] for each in service.posts("/customers")] == ["k-1"]
