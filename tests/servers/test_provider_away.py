"""While the provider is silent little is asked of it; once it answers, what waited only for it is due at once."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from proxy import Proxy
from service import Service, eventually
from sqlalchemy import select

from billing import database
from billing.stripe_gateway import StripeGateway
from billing.tables.facts import Fact
from billing.tables.idempotency_records import Record
from jobs.limits.bucket import FAILURES
from jobs.limits.pace import Unlimited
from jobs.local.supervisor import Child
from jobs.road import work_queue
from jobs.road.runner import Runner
from jobs.road.shift import Control, Shift

CREW = 4


@pytest.fixture
def stripe(service: Service) -> Iterator[Proxy]:
    """Between the processes and the stand-in."""
    base = urlsplit(service.stripe_api_base)
    with Proxy(base.hostname or "", base.port or 0) as proxy:
        yield proxy


class Clock:
    """The boot clock of a `Pace`, that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Worker:
    """A worker in this process, whose shifts share what a worker process keeps between them."""

    def __init__(self, service: Service, proxy: Proxy) -> None:
        self.clock = Clock()
        self.pace = Unlimited(service.timing.probe_s, self.clock)
        self.runner = Runner(service.call_settings, random.Random(1), self.pace)
        self._house = service
        base = f"http://127.0.0.1:{proxy.port}"
        self._gateway = StripeGateway(lambda: "sk_test_away", base, livemode=False, connections=CREW)

    def take_a_shift(self, queue: str = "captures") -> int:
        engine = self._house.engines["worker"]
        return Shift(engine, self._gateway, self.runner, queue, crew=CREW, slice_s=60).run(Control())

    def finds_the_provider_silent(self) -> None:
        for _ in range(FAILURES):
            self.pace.learn(None, reached=False)
        self.pace.tell()
        self.clock.now += self._house.timing.probe_s


def attempts(service: Service, *captures: str) -> Counter[str]:
    with database.transaction(service.engine) as session:
        query = select(Fact.entity_id).where(Fact.entity_id.in_(captures), Fact.topic.like("%.attempted"))
        return Counter(session.scalars(query))


# What a worker does about it.


def test_while_the_provider_refuses_connections_one_operation_is_tried_and_the_others_are_left_alone(
    service: Service, stripe: Proxy
) -> None:
    captures = [service.ask_for_capture(intent) for intent in service.intents(20)]
    service.plan()
    worker = Worker(service, stripe)
    stripe.refuse()
    worker.finds_the_provider_silent()
    worker.take_a_shift()
    assert attempts(service, *captures).total() == 1
    assert service.states_of_work() == {"ready": 19, "waiting": 1}
    (tried,) = attempts(service, *captures)
    record = service.record(tried)
    assert (record.state, record.unanswered, record.unreported) == ("planned", 0, 0), "nothing is in doubt"
    worker.clock.now += service.timing.probe_s
    worker.take_a_shift()
    assert attempts(service, *captures).total() == 2
    # It is well again, and the first answer lets all the others follow in the same shift.
    stripe.heal()
    worker.clock.now += service.timing.probe_s
    worker.take_a_shift()
    assert {service.status(capture).state for capture in captures} == {"captured"}
    assert attempts(service, *captures).total() == 20 + 2
    assert len(service.posts("/capture")) == 20


def test_the_first_answer_after_a_silence_makes_due_what_waited_only_for_the_provider(
    service: Service, stripe: Proxy
) -> None:
    stripe.hang()
    in_doubt = [service.ask_for_capture(intent) for intent in service.intents(3)]
    looking = service.ask_for_capture(authorization=None)
    proving = service.ask_for_capture()
    service.plan()
    worker = Worker(service, stripe)
    worker.take_a_shift()
    assert {service.record(one).learned for one in in_doubt} == {"nothing"}
    assert service.record(looking).learned == "look_unanswered"
    # As after hours of it; and one whose look did see something waits for its proof.
    service.execute("UPDATE billing.work SET state = 'waiting', due_at = now() + interval '300 s', tries = 20")
    service.execute("UPDATE billing.work SET due_at = NULL WHERE entity_id IN (:a, :b)", a=looking, b=proving)
    service.execute(
        "UPDATE billing.idempotency_records SET look_at = now() + interval '1 h' WHERE learned <> 'nothing'"
    )
    service.execute(
        "UPDATE billing.idempotency_records SET learned = 'absent', look_only = true, look_at = now() + interval '1 h'"
        " WHERE operation_id = :one",
        one=proving,
    )
    stripe.heal()
    new = service.ask_for_capture()
    service.plan()
    worker.finds_the_provider_silent()
    worker.take_a_shift()
    assert [service.status(each).state for each in (new, *in_doubt, looking)] == ["captured"] * 5
    assert attempts(service, new, *in_doubt) == {new: 1, **dict.fromkeys(in_doubt, 2)}
    assert service.work(proving).state == "waiting"
    assert service.record(proving).looks == 0, "its proof is not mature: it waits on"
    assert [service.captured(each) for each in (new, *in_doubt, looking)] == [{1999: 1}] * 5


def test_nobody_else_is_woken(service: Service, stripe: Proxy) -> None:
    """What a person, a sibling, a switch or somebody's lease keeps waiting waits on."""
    stripe.refuse()
    captures = [service.ask_for_capture(intent) for intent in service.intents(5)]
    service.plan()
    worker = Worker(service, stripe)
    worker.take_a_shift()
    later = "now() + interval '300 s'"
    for state, capture in zip(("held", "parked", "quarantined"), captures, strict=False):
        service.execute(f"UPDATE billing.work SET state = '{state}', due_at = {later} WHERE entity_id = :o", o=capture)
    service.execute(
        f"UPDATE billing.idempotency_records SET learned = 'look_unanswered', look_at = {later}, lease_until = {later},"
        " lease_s = 300 WHERE operation_id = :one",
        one=captures[3],
    )
    service.execute(f"UPDATE billing.work SET state = 'waiting', due_at = {later} WHERE entity_id = :o", o=captures[4])
    service.execute("UPDATE billing.work SET queue = 'invoices' WHERE entity_id = :o", o=captures[4])

    def all_of_it() -> list[tuple[object, ...]]:
        with database.transaction(service.engine) as session:
            looks = {r.operation_id: r.look_at for r in session.scalars(select(Record))}
        return [(service.work(each).state, service.work(each).due_at, looks[each]) for each in captures]

    before = all_of_it()
    with database.transaction(service.engines["worker"]) as session:
        assert work_queue.wake(session, "captures") == 0
    assert all_of_it() == before
    with database.transaction(service.engines["worker"]) as session:
        assert work_queue.wake(session, "invoices") == 1, "the control"


# The real processes.

FAULTS: dict[str, Callable[[Proxy], None]] = {
    "hangs": Proxy.hang,
    "refuses": Proxy.refuse,
    "cuts-bodies": lambda proxy: setattr(proxy, "cut_after", 400),
    "cuts-headers": lambda proxy: setattr(proxy, "cut_after", 30),
    "strands": Proxy.strand,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_queue_clears_after_the_provider_was_away_with_few_more_attempts(
    service: Service, stripe: Proxy, spawn: Callable[..., Child], fault: str
) -> None:
    base = {"STRIPE_API_BASE": f"http://127.0.0.1:{stripe.port}", "BILLING_LOG_LEVEL": "info"}
    spawn("relay")
    worker = spawn("worker", "captures", BILLING_CREW_CAPTURES="8", **base)
    service.standin.add_fault("latency", path="/capture$", seconds=0.3)
    first = [service.ask_for_capture(intent) for intent in service.intents(8)]
    eventually(
        lambda: all(service.status(each).state == "captured" for each in first), "it works; 8 connections are kept"
    )
    service.standin.clear_faults()
    FAULTS[fault](stripe)
    captures = [service.ask_for_capture(intent) for intent in service.intents(30)]
    if fault != "strands":
        eventually(lambda: "provider.silent" in worker.output(), "it is noticed")
        more = [service.ask_for_capture(intent) for intent in service.intents(30)]
        eventually(lambda: service.status(more[-1]).work is not None, "they are planned")
        captures += more
    eventually(lambda: attempts(service, *captures), "something was tried")
    stripe.heal()
    before = attempts(service, *captures)
    captures.append(service.ask_for_capture())
    eventually(lambda: all(service.status(each).state == "captured" for each in captures), "the queue is empty")
    after = attempts(service, *captures) - before
    # One that was in flight at that moment, and one that is answered.
    assert max(after.values()) <= 2
    assert after[captures[-1]] <= 2
    assert [service.captured(each) for each in captures] == [{1999: 1}] * len(captures)
    assert worker.poll() is None
