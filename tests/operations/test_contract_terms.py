"""What a contract says of its calls is what they get: how long each may take, and how it is tried again."""

import random
from dataclasses import replace

import pytest
from service import QUICK, Service, Through

from billing import database, operations
from billing.captures import OPERATION as CAPTURE
from billing.gateway import Budget, NoAnswer, Request, boot_clock
from billing.registration import Retry
from billing.timing import PRODUCTION
from jobs.road.contracts import contracts
from jobs.road.retries import report
from jobs.road.runner import Runner, make_call
from jobs.road.verdicts import RETRIES


class Longest(random.Random):
    """Every pause is as long as it may be."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


def with_budget(monkeypatch: pytest.MonkeyPatch, call_budget_s: float) -> None:
    changed = replace(CAPTURE.contracts[0], call_budget_s=call_budget_s)
    monkeypatch.setitem(operations.OPERATIONS, "capture", replace(CAPTURE, contracts=(changed,)))


@pytest.mark.parametrize(("says", "gets"), [(0.5, 0.5), (30, QUICK.call_budget_s)])
def test_the_gateway_gets_the_budget_of_the_contract_and_never_more_than_the_protocol_allows(
    service: Service, monkeypatch: pytest.MonkeyPatch, says: float, gets: float
) -> None:
    with_budget(monkeypatch, says)
    handed: list[float] = []

    class Watched(Through):
        def send(self, request: Request, budget: Budget) -> NoAnswer:
            handed.append(budget.over_at - boot_clock())
            return NoAnswer("watched")

    service.ask_for_capture()
    service.plan()
    service.work_off(gateway=Watched(service))
    assert handed
    assert all(left_s <= gets for left_s in handed)


def test_a_contract_cannot_allow_a_call_more_time_than_leases_and_proofs_wait_for() -> None:
    for wrong in (0, -1, PRODUCTION.call_budget_s + 1):
        with pytest.raises(ValueError, match="take_capture: a call may take up to 30 s"):
            replace(CAPTURE.contracts[0], call_budget_s=wrong)


def test_a_call_without_an_answer_is_tried_again_as_its_contract_says(service: Service) -> None:
    settings = replace(service.call_settings, timing=replace(QUICK, retry_first_s=10, retry_max_s=1000))
    pauses_s, shown = {}, {}
    for queue, asked in (("captures", service.ask_for_capture()), ("invoices", service.ask_for_invoice())):
        service.plan()
        runner = Runner(settings, Longest())
        with database.transaction(service.engines["worker"]) as session:
            (call,) = runner.start(session, runner.claim(session, queue, 1)).calls
        budget = Budget(boot_clock() + 10, boot_clock() + 20)
        with database.transaction(service.engines["worker"]) as session:
            runner.finish(session, [make_call(Silent(), call, budget)])
        work = service.work(asked)
        assert work.due_at is not None
        pauses_s[queue] = (work.due_at - work.state_since).total_seconds()
    assert pauses_s == {"captures": 20, "invoices": 100}
    with database.transaction(service.engines["operator"]) as session:
        shown = {each.contract: each.reasons[0].policy for each in report(session)}
    assert shown == {"take_capture:1": "network timeout", "issue_invoice:1": "network timeout, patient"}


class Silent:
    livemode = False

    def send(self, _request: Request, _budget: Budget) -> NoAnswer:
        return NoAnswer("silent")


def test_every_way_to_try_again_has_its_policy_and_that_its_name() -> None:
    assert {name: policy.name for name, policy in RETRIES.items()} == {each: each for each in Retry}
    assert {contract.retry for _, contract in contracts()} == set(Retry)


def test_the_patient_policy_names_the_pauses_of_production() -> None:
    patient = RETRIES[Retry.PATIENT]
    assert patient.pause is not None
    first, longest = (patient.pause(tries, PRODUCTION, Longest()).total_seconds() for tries in (0, 99))
    assert f"from {first:g} s to {longest / 60:g} min" in patient.promise
