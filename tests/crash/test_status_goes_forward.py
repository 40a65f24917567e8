"""What an application is shown never goes back: read after every commit, while everything fails that can."""

import os
import random
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from service import QUEUES, Service
from sqlalchemy import NullPool, create_engine, event, select
from sqlalchemy.orm import Session

import billing
from billing import effects, switches
from billing.calls import Call
from billing.database import transaction
from billing.gateway import Budget, boot_clock
from billing.operations import operation_of
from billing.shown_states import Doubt, as_shown
from billing.states import OPERATOR, InvoiceState, Life, SwitchState, WorkState
from billing.tables.entities import Switch
from billing.tables.work import Work
from jobs.road import quarantine
from jobs.road.runner import Runner

SEED = int(os.environ.get("BILLING_TEST_SEED", "20261129"))
STEPS = int(os.environ.get("BILLING_TEST_STEPS", "25"))

FAULTS = [
    {"fault": "drop_before", "method": "POST", "probability": 0.1},
    {"fault": "drop_after_commit", "method": "POST", "probability": 0.1},
    {"fault": "500_saved", "method": "POST", "probability": 0.1},
    {"fault": "500_with_effect", "method": "POST", "path": "/(capture|finalize)$", "probability": 0.05},
    {"fault": "402_declined", "path": "/capture$", "probability": 0.1},
    {"fault": "other_amount", "path": "/capture$", "probability": 0.1},
    {"fault": "429_rate", "probability": 0.1},
    {"fault": "502_html", "probability": 0.05},
]


def reachable(life: Life) -> dict[str, set[str]]:
    """From each state of a row's own, those that it may come to by itself, in any number of steps."""
    ahead = {state: {state} for state in life.states}
    for _ in life.states:
        for each in life.transitions:
            if each.who != OPERATOR and not {each.start, each.end} & {Doubt.IN_DOUBT, Doubt.CONFLICT}:
                ahead[each.start] |= ahead[each.end]
    return ahead


class Watch:
    """Reads the status of every operation after every commit of whoever commits in this process."""

    def __init__(self, service: Service) -> None:
        self.engine = create_engine(service.url, poolclass=NullPool)
        self.shown: dict[str, str] = {}
        self.done: dict[str, str] = {}
        """The last state that was none of doubt: it says what is done, and a doubt in between takes nothing back."""
        self.decided: set[str] = set()
        """An operator decided on it, and what is shown now may be another state."""
        self.passed: Counter[tuple[str, str]] = Counter()

    def add(self, entity_id: str) -> str:
        self.shown[entity_id] = self.done[entity_id] = "requested"
        return entity_id

    def look(self, _session: object = None) -> None:
        with Session(self.engine) as session:
            for entity_id in self.shown:
                self._see(entity_id, billing.status(session, entity_id))

    def _see(self, entity_id: str, now: billing.Status) -> None:
        before, state = self.shown[entity_id], now.state
        life = as_shown(operation_of(entity_id).table.life)
        if state != before:
            ways = {each.who for each in life.transitions if (each.start, each.end) == (before, state)}
            if entity_id not in self.decided:
                ways -= {OPERATOR}
            assert ways, f"{entity_id}: {before} was followed by {state}: {now}"
            self.passed[before, state] += 1
            self.shown[entity_id] = state
        if state not in (Doubt.IN_DOUBT, Doubt.CONFLICT):
            done = self.done[entity_id]
            assert entity_id in self.decided or state in reachable(life)[done], f"{entity_id}: {done}, then {now}"
            self.done[entity_id] = state
            # What was decided shows at the latest where something is known again.
            self.decided.discard(entity_id)


@pytest.fixture
def watch(service: Service) -> Iterator[Watch]:
    watch = Watch(service)
    event.listen(Session, "after_commit", watch.look)
    yield watch
    event.remove(Session, "after_commit", watch.look)
    watch.engine.dispose()


class Chaos:
    """One thing after the other that may happen to a service."""

    def __init__(self, service: Service, watch: Watch, rng: random.Random) -> None:
        self.service, self.watch, self.rng = service, watch, rng
        self.runner = Runner(service.call_settings, random.Random(1))
        self.asleep: list[Call] = []
        self.day = 0

    def step(self) -> None:
        rare = (self.dies, self.wakes_up, self.ages, self.pulls, self.releases, self.replays, self.reopens)
        self.rng.choice((self.works, self.works, self.works, self.plans, *rare))()

    def works(self) -> None:
        self.service.relay.round()
        for queue in QUEUES:
            self.service.work_off(queue)

    def plans(self) -> None:
        self.service.relay.round()

    def dies(self) -> None:
        """A worker prepares calls, and is then asleep."""
        with transaction(self.service.engines["worker"]) as session:
            claimed = self.runner.claim(session, self.rng.choice(QUEUES), 2)
            self.asleep += self.runner.start(session, claimed).calls

    def wakes_up(self) -> None:
        if not self.asleep:
            return
        call = self.asleep.pop(self.rng.randrange(len(self.asleep)))
        later = boot_clock() + 20
        report = effects.call(self.service.gateway(), call, Budget(later, later))
        with transaction(self.service.engines["worker"]) as session:
            self.runner.finish(session, [report])

    def ages(self) -> None:
        entity_id = self.rng.choice(sorted(self.watch.shown))
        self.service.age(entity_id, self.rng.choice([30, 3600, 24 * 3600]))

    def pulls(self) -> None:
        with transaction(self.service.engine) as session:
            switches.pull(session, self.rng.choice(["captures", "invoices"]), actor="grace", reason="a test")

    def releases(self) -> None:
        with transaction(self.service.engine) as session:
            for scope in session.scalars(select(Switch.scope).where(Switch.state == SwitchState.PULLED)).all():
                switches.release(session, scope, actor="grace", reason="a test")

    def replays(self) -> None:
        with Session(self.service.engine) as session:
            stuck = session.scalars(select(Work).where(Work.state == WorkState.QUARANTINED).order_by(Work.id)).all()
        for work in stuck:
            self._decides(work.entity_id, lambda session, work=work: quarantine.replay(
                session, work.id, actor="grace", reason="a test"
            ))  # fmt: skip

    def reopens(self) -> None:
        for entity_id, state in sorted(self.watch.shown.items()):
            if entity_id.startswith("inv_") and state == InvoiceState.REFUSED:
                self._decides(entity_id, lambda session, entity_id=entity_id: quarantine.reopen_invoice(
                    session, entity_id, actor="grace", reason="a test"
                ))  # fmt: skip

    def _decides(self, entity_id: str, decide: Any) -> None:
        self.watch.decided.add(entity_id)
        try:
            with transaction(self.service.engine) as session:
                decide(session)
        except billing.InvalidRequest:
            self.watch.decided.discard(entity_id)


def test_over_random_histories_no_status_goes_back(service: Service, watch: Watch) -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    customer = service.customer()
    captures = [
        watch.add(service.ask_for_capture(intent, **({"authorization": None} if n % 2 else {})))
        for n, intent in enumerate(service.intents(5))
    ]
    invoices = [watch.add(service.ask_for_invoice(each)) for each in (customer, customer, "cus_nobody")]
    service.standin.add_faults([{**fault, "seed": rng.randrange(2**31)} for fault in FAULTS])
    chaos = Chaos(service, watch, rng)
    for _ in range(STEPS):
        chaos.step()
    service.standin.clear_faults()
    chaos.releases()
    watch.look()
    print(f"{watch.passed.total()} changes among {len(captures) + len(invoices)}: {dict(watch.passed)}")
    assert watch.passed.total() > len(captures)


# What went back before it was derived in one place.


def seen(watch: Watch) -> list[tuple[str, str]]:
    return list(watch.passed)


def test_between_two_calls_and_while_it_is_held_a_capture_stays_in_progress(service: Service, watch: Watch) -> None:
    capture_id = watch.add(service.ask_for_capture(authorization=None))
    service.plan()
    runner = Runner(service.call_settings, random.Random(1))
    with transaction(service.engines["worker"]) as session:
        (call,) = runner.start(session, runner.claim(session, "captures", 1)).calls
    with transaction(service.engine) as session:
        switches.pull(session, "captures", actor="grace", reason="a test")
    later = boot_clock() + 20
    report = effects.call(service.gateway(), call, Budget(later, later))
    with transaction(service.engines["worker"]) as session:
        runner.finish(session, [report])
    assert service.work(capture_id).state == WorkState.HELD
    assert service.status(capture_id).state == "in_progress"
    with transaction(service.engine) as session:
        switches.release(session, "captures", actor="grace", reason="a test")
    assert service.settle(capture_id) == ["captured"]
    assert seen(watch) == [("requested", "in_progress"), ("in_progress", "captured")]


def test_a_call_of_which_nothing_came_leaves_a_capture_in_progress(service: Service, watch: Watch) -> None:
    capture_id = watch.add(service.ask_for_capture())
    service.standin.add_fault("429_rate", path="/capture$", times=2)
    assert service.settle(capture_id) == ["captured"]
    assert seen(watch) == [("requested", "in_progress"), ("in_progress", "captured")]


def test_a_doubt_that_ends_in_a_new_key_is_followed_by_progress(service: Service, watch: Watch) -> None:
    capture_id = watch.add(service.ask_for_capture())
    service.standin.add_fault("500_saved", path="/capture$", times=1)
    assert service.settle(capture_id) == ["captured"]
    assert seen(watch)[0] == ("requested", "in_progress")
    assert set(seen(watch)) <= {
        ("requested", "in_progress"),
        ("in_progress", "in_doubt"),
        ("in_doubt", "in_progress"),
        ("in_progress", "captured"),
    }
    assert ("in_doubt", "in_progress") in seen(watch)


def test_an_invoice_shows_each_step_that_is_done_and_none_twice(service: Service, watch: Watch) -> None:
    invoice_id = watch.add(service.ask_for_invoice())
    assert service.settle(invoice_id) == ["sent"]
    steps = ["requested", "in_progress", "drafted", "lines_added", "finalized", "sent"]
    assert seen(watch) == list(pairwise(steps))
    assert set(watch.passed.values()) == {1}


def test_an_application_that_polls_in_one_session_sees_it_go_on(service: Service) -> None:
    capture_id = service.ask_for_capture()
    with Session(service.engines["application"]) as session:
        states = [billing.status(session, capture_id).state]
        service.settle(capture_id)
        states.append(billing.status(session, capture_id).state)
    assert states == ["requested", "captured"]
