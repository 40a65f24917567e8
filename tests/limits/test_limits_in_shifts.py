"""What a shift does about the limit of an account; and four worker processes keep to one that Stripe enforces."""

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from service import Service, eventually

import billing
from billing import database
from jobs.limits.bucket import Terms
from jobs.limits.pace import Pace
from jobs.limits.shared import SharedBuckets, Standing, standings
from jobs.local.servers import LocalServers, StandIn
from jobs.local.supervisor import Child
from jobs.road.runner import Runner
from jobs.road.shift import Control, Shift
from stripe_standin.control import Control as StandInControl

TERMS = Terms(most=1000.0, probe_s=5.0)
SCARCE = Terms(most=1.0, probe_s=5.0)
"""One token at once, and no second one for a clock that stands still."""


def shift(service: Service, pace: Pace) -> int:
    runner = Runner(service.call_settings, random.Random(1), pace)
    engine = service.engines["worker"]
    return Shift(engine, service.gateway(), runner, "captures", crew=4, slice_s=60).run(Control())


def shared(service: Service) -> Pace:
    return Pace(TERMS, shared=SharedBuckets(service.redis, "test"))


def own(service: Service) -> Standing:
    (standing,) = standings(service.redis, "test", TERMS)
    return standing


def still() -> float:
    return 1000.0


def test_no_more_is_claimed_than_there_are_tokens_and_the_most_urgent_first(service: Service) -> None:
    captures = [service.ask_for_capture(intent) for intent in service.intents(3)]
    service.plan()
    urgent = captures[1]
    service.execute("UPDATE billing.work SET urgency = now() - interval '1 day' WHERE entity_id = :id", id=urgent)
    assert shift(service, Pace(SCARCE, clock=still)) == 1
    assert service.status(urgent).state == "captured"
    assert service.states_of_work() == {"done": 1, "ready": 2}, "the others wait in their order, untouched"


def test_an_operation_that_is_under_way_is_finished(service: Service) -> None:
    capture = service.ask_for_capture(authorization=None)
    service.plan()
    assert shift(service, Pace(SCARCE, clock=still)) == 2
    assert service.status(capture).state == "captured"


@pytest.mark.parametrize(
    ("fault", "path", "rate"),
    [
        ("429_rate", "/capture$", 700.0),
        ("429_rate", "/payment_intents/[^/]+$", 700.0),
        ("429_lock_saved", "/capture$", 900.0),
        ("409_in_use", "/capture$", None),
        ("500_no_effect", "/capture$", None),
    ],
    ids=["a-send", "a-look", "a-lock-timeout", "a-key-in-use", "a-500"],
)
def test_a_429_slows_its_account_down_whatever_call_it_answers(
    service: Service, fault: str, path: str, rate: float | None
) -> None:
    """[114]"""
    service.ask_for_capture(authorization=None)
    service.plan()
    service.standin.add_fault(fault, path=path, times=1)
    shift(service, shared(service))
    if rate is None:
        assert own(service).throttled_since is None
    else:
        assert own(service).throttled_since is not None
        # It has recovered since for as long as this test took.
        assert rate <= own(service).rate < 1000.0


def test_every_request_of_a_look_is_counted(service: Service) -> None:
    """A look at a draft whose answer was lost reads events and invoices."""
    invoice = service.ask_for_invoice()
    service.plan()
    service.standin.add_fault("drop_before", path="/v1/invoices$", method="POST", times=1)
    before = len(service.standin.requests())
    pace = Pace(Terms(5.0, 5.0), clock=still)
    spent = Counter[str]()
    learn = pace.learn

    def counting(account: str | None, **shown: object) -> None:
        spent["requests"] += int(str(shown.get("requests", 1)))
        learn(account, **shown)  # type: ignore[arg-type]

    pace.learn = counting  # type: ignore[method-assign, assignment]
    runner = Runner(service.call_settings, random.Random(1), pace)
    service.execute("UPDATE billing.work SET state = 'ready'")
    Shift(service.engines["worker"], service.gateway(), runner, "invoices", crew=1, slice_s=60).run(Control())
    assert service.status(invoice).work is not None
    assert spent["requests"] == len(service.standin.requests()) - before


def test_a_worker_whose_redis_is_dead_goes_on(service: Service) -> None:
    captures = [service.ask_for_capture(intent) for intent in service.intents(3)]
    service.plan()
    from jobs.rq import bells

    nobody = bells.open_redis("redis://127.0.0.1:1/0", 0.2)
    pace = Pace(TERMS, shared=SharedBuckets(nobody, "test"), share=0.5)

    def turn() -> bool:
        # A call that began too late on a busy machine is not sent, and is due again soon.
        service.relay.round()
        shift(service, pace)
        return all(service.status(each).final for each in captures)

    eventually(turn, lambda: f"all are captured: {service.how_they_stand(captures)}")
    assert {service.status(each).state for each in captures} == {"captured"}


# The real processes.

RATE = 20


class Limited(StandIn):
    """A stand-in that answers 429 above so many requests a second."""

    name = "limited"
    program = (sys.executable, "-m", "stripe_standin", "--rate-limit", str(RATE))


@pytest.fixture
def limited(template: LocalServers) -> Iterator[Limited]:
    server = Limited(template.supervisor, durable=False, environment={})
    server.start()
    yield server
    server.stop()


def test_four_workers_together_keep_to_the_rate_of_an_account(
    service: Service, limited: Limited, spawn: Callable[..., Child]
) -> None:
    control = StandInControl(limited.url)
    intents = [each if isinstance(each, str) else each["id"] for each in control.authorizations(count=60)]
    spawn("relay", BILLING_WORKERS_CAPTURES="4")
    settings = {"STRIPE_API_BASE": limited.url, "BILLING_STRIPE_RATE": str(RATE), "BILLING_WORKERS_CAPTURES": "4"}
    for _ in range(4):
        spawn("worker", "captures", BILLING_LOG_LEVEL="info", **settings).wait_for_output("worker.started", 60)
    # The buckets of both sides are full.
    control.advance(60)
    before = len(control.requests())
    amount = billing.Money(1000, "USD")
    with database.transaction(service.engines["application"]) as session:
        captures = [
            billing.request_capture(
                session,
                payment_intent=intent,
                amount=amount,
                request_id=intent,
                authorization=billing.Authorization(1000, "USD", None),
            ).capture_id
            for intent in intents
        ]
    eventually(lambda: all(service.status(each).state == "captured" for each in captures), "all are captured")
    statuses = Counter(request["status"] for request in control.requests(after=before))
    assert statuses[200] == len(captures)
    # Without the limit the crews of four workers ask for all of them at once, and two in three are refused.
    assert statuses[429] <= len(captures) / 5
