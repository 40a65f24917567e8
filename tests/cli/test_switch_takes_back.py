"""What a worker has prepared and not begun is taken back when a switch is pulled; what is begun goes on."""

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from command import Run
from service import Service, Through, eventually

import billing
from billing import database, switches
from billing.calls import Call, Report
from billing.gateway import Answer, Budget, Gateway, Request, boot_clock
from billing.schedules import SCHEDULES
from billing.states import RecordState, WorkState
from billing.timing import PRODUCTION
from jobs.limits.bucket import FAILURES
from jobs.limits.pace import Unlimited
from jobs.road import housekeeping, ticks
from jobs.road.crew import Crew
from jobs.road.runner import Runner
from jobs.road.shift import Control, Shift

OF_ONE_SWITCH_S = 40.0
"""How long a call in these tests stands still at most. In production's timing a call may take that long."""


def ask(service: Service, currency: str, authorization: billing.Authorization | None) -> str:
    (intent,) = service.intents(currency=currency.lower())
    with database.transaction(service.engines["application"]) as session:
        amount = billing.Money(1999, currency)
        return billing.request_capture(
            session, payment_intent=intent, amount=amount, request_id=intent, authorization=authorization
        ).capture_id


def known(service: Service, currency: str = "USD") -> str:
    return ask(service, currency, billing.Authorization(1999, currency, None))


def shift(service: Service, gateway: Gateway, crew: int) -> None:
    """As `Service.work_off`, with calls that may take long."""
    settings = replace(service.call_settings, timing=replace(PRODUCTION, linger_s=0.02))
    runner = Runner(settings, random.Random(1))
    engine = service.engines["worker"]
    Shift(engine, gateway, runner, "captures", crew=crew, slice_s=60, leave=lambda _: None).run(Control())


class AllBusy(Through):
    """Every thread of the crew calls, and stands still until `meanwhile` has returned."""

    def __init__(self, service: Service, crew: int, meanwhile: Callable[[], None]) -> None:
        super().__init__(service, before=self._stand_still)
        self._full, self._over, self._crew, self._meanwhile = threading.Event(), threading.Event(), crew, meanwhile

    def _stand_still(self, _request: Request) -> Answer | None:
        if len(self.asked) == self._crew and not self._full.is_set():
            self._full.set()
            try:
                self._meanwhile()
            finally:
                self._over.set()
        self._over.wait(OF_ONE_SWITCH_S)
        return None


def sent(service: Service, gateway: Through) -> set[str]:
    """The captures for which a POST went out."""
    with database.transaction(service.engine) as session:
        rows = session.connection().exec_driver_sql("SELECT payment_intent, id FROM billing.captures").all()
    asked = {request.path.split("/")[3] for request in gateway.asked if request.method == "POST"}
    return {capture for intent, capture in rows if intent in asked}


def test_calls_that_wait_for_a_thread_are_taken_back_when_their_switch_is_pulled(service: Service) -> None:
    """Those of other scopes go out, and so do looks, and what was begun."""
    begun = [known(service) for _ in range(6)]
    stopped, other = known(service, "EUR"), known(service)
    look = ask(service, "EUR", None)
    service.plan()
    # Reading an authorization is the most urgent work. Here it waits for a thread.
    service.execute("UPDATE billing.work SET urgency = created_at + interval '1 day' WHERE entity_id = :id", id=look)

    def pull_and_wait() -> None:
        eventually(lambda: service.work(look).state == WorkState.RUNNING, "all are prepared", OF_ONE_SWITCH_S / 2)
        service.pull("currency:EUR")
        eventually(lambda: service.work(stopped).state == WorkState.HELD, "it is taken back", OF_ONE_SWITCH_S / 2)

    gateway = AllBusy(service, 6, pull_and_wait)
    shift(service, gateway, crew=6)
    assert sent(service, gateway) == {*begun, other}
    assert (service.topics(look)[-1], service.work(look).state) == ("authorization_read", WorkState.HELD)
    record, work = service.record(stopped), service.work(stopped)
    assert (record.state, record.unanswered, record.unreported) == (RecordState.PLANNED, 0, 0)
    assert (work.reason, work.attempts) == ("currency:EUR: a drill", 0)
    assert service.topics(stopped) == ["requested", "attempted"]
    service.release("currency:EUR")
    assert service.settle(stopped, look) == ["captured", "captured"]
    assert service.record(stopped).generation == 1


def test_what_was_taken_back_is_sent_again_where_the_switch_is_released_already(service: Service) -> None:
    capture = known(service)
    service.plan()
    call = service.prepared()[capture]
    service.report(call, switches.TAKEN_BACK)
    assert service.work(capture).state == WorkState.WAITING
    assert service.settle(capture) == ["captured"]
    assert len(service.posts("/capture")) == 1


def test_a_repeated_send_that_is_taken_back_stays_in_doubt_and_is_looked_at(service: Service) -> None:
    service.standin.add_fault("drop_after_commit", path="/capture$", times=1)
    capture = known(service)
    service.plan()
    service.work_off()
    service.execute("UPDATE billing.work SET state = 'ready', due_at = NULL")
    call = service.prepared()[capture]
    assert not call.looking
    service.pull("captures")
    service.report(call, switches.TAKEN_BACK)
    assert (service.work(capture).state, service.record(capture).state) == (WorkState.HELD, RecordState.IN_DOUBT)
    with database.transaction(service.engines["relay"]) as session:
        housekeeping.look_at_stopped(session)
    service.work_off()
    assert service.status(capture).state == "captured", "a look finds what the first send did"
    assert len(service.posts("/capture")) == 1


def test_a_call_that_was_taken_back_says_nothing_about_the_provider(service: Service) -> None:
    capture = known(service)
    service.plan()
    report = Report(service.prepared()[capture], switches.TAKEN_BACK, 0)
    pace = Unlimited(0.0)
    for _ in range(FAILURES):
        pace.learn(None, reached=report.reached)
    pace.tell()
    assert pace.room(8) == 8


def test_a_receipt_lists_what_a_worker_takes_back_while_it_waits(
    run: Run, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    captures = [known(service), known(service)]
    service.plan()
    calls, unanswered = service.prepared(most=2), switches.unanswered

    def then_taken_back(*asked: Any) -> switches.Unanswered:
        found = unanswered(*asked)
        for call in [calls.pop(each) for each in captures[:1] if each in calls]:
            service.report(call, switches.TAKEN_BACK)
        return found

    monkeypatch.setattr(switches, "unanswered", then_taken_back)
    receipt = run("switch", "pull", "captures", "--reason", "INC-12", "--json").json
    assert receipt["taken_back"] == [{"operation_id": captures[0], "step": "capture"}]
    assert [call["operation_id"] for call in receipt["unanswered"]] == captures[1:]
    assert receipt["stopped"] == {"operations": 1, "minor": {"USD": 1999}}


def test_the_run_of_a_schedule_that_was_taken_back_is_told_too(service: Service) -> None:
    with database.transaction(service.engines["operator"]) as session:
        since, run = database.now(session), ticks.ask_for(session, SCHEDULES[0], actor="anna").id
    service.plan()
    call = service.prepared("maintenance")[run]
    service.pull("schedules")
    service.report(call, switches.TAKEN_BACK)
    with database.transaction(service.engines["operator"]) as session:
        assert switches.taken_back(session, "schedules", since) == [(run, "run")]
        assert switches.taken_back(session, "captures", since) == []


class _Noting:
    """A gateway that notes what is sent. The first call waits until it may go on."""

    livemode = False

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def send(self, request: Request, _budget: Budget) -> Answer:
        self.sent.append(request.path)
        self.begun.set()
        self.go_on.wait(OF_ONE_SWITCH_S)
        return switches.TAKEN_BACK


def test_a_crew_gives_back_only_what_no_thread_has_begun_and_keeps_the_order_of_the_rest(service: Service) -> None:
    for _ in range(5):
        known(service)
    service.plan()
    calls: list[Call] = list(service.prepared(most=5).values())
    gateway = _Noting()
    crew = Crew(1, gateway)
    for call in calls:
        crew.hand(call, Budget(boot_clock() + 90, boot_clock() + 90))
    gateway.begun.wait(OF_ONE_SWITCH_S)
    assert crew.take_back(lambda call: call in (calls[0], calls[2])) == [calls[2]]
    gateway.go_on.set()
    crew.dismiss()
    assert gateway.sent == [calls[place].request.path for place in (0, 1, 3, 4)]
    assert crew.waiting == 0
