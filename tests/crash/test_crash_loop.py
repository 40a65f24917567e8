"""Workers that die for a reason of their own set no work aside that has nothing to do with it."""

import threading

from service import Service
from worker import KILLED, fork_worker, reap

from billing.gateway import Answer, Budget, Request
from billing.states import WorkState
from billing.tables.entities import Capture
from jobs.road.guards import SUSPECT

DEATHS = 10


def test_a_worker_that_always_dies_takes_little_work_into_quarantine(service: Service) -> None:
    """A dozen calls were in hand each time. All but the two that were called alone go on without an operator."""
    captures = [service.ask_for_capture(intent) for intent in service.intents(12)]
    service.plan()
    for _ in range(DEATHS):
        assert reap(fork_worker(service, "captures", at="send.before:1", crew=12)) == KILLED
        service.execute("UPDATE billing.idempotency_records SET lease_until = now() - interval '1 s'")
        service.relay.round()
    quarantined = service.states_of_work()[WorkState.QUARANTINED]
    print(f"{DEATHS} deaths, {quarantined} of {len(captures)} in quarantine")
    assert quarantined <= 2
    others = [capture for capture in captures if service.work(capture).state != WorkState.QUARANTINED]
    assert set(service.settle(*others)) == {"captured"}


def test_work_that_may_have_killed_its_worker_is_called_with_no_other_call_in_flight(service: Service) -> None:
    suspect, *others = [service.ask_for_capture(intent) for intent in service.intents(6)]
    service.plan()
    service.execute("UPDATE billing.work SET attempts = :n WHERE entity_id = :id", n=SUSPECT, id=suspect)
    company = _Company(service)
    service.work_off(gateway=company, crew=6)
    assert service.settle(suspect, *others) == ["captured"] * 6
    assert company.of(service.row(Capture, suspect).payment_intent) == set()


def test_the_attempts_of_a_step_do_not_count_against_the_next(service: Service) -> None:
    """An invoice takes five calls and more: two workers that die in each of them are no reason for a quarantine."""
    invoice = service.ask_for_invoice()
    service.plan()
    service.execute("UPDATE billing.work SET attempts = 4 WHERE entity_id = :id", id=invoice)
    assert service.settle(invoice) == ["sent"]
    assert service.work(invoice).attempts == 0


class _Company:
    """At the HTTP border: which other objects were being called during the call of one."""

    livemode = False

    def __init__(self, service: Service) -> None:
        self._gateway, self._lock = service.gateway(), threading.Lock()
        self._open: set[str] = set()
        self._seen: list[tuple[str, str]] = []
        self._called = threading.Condition(self._lock)

    def of(self, name: str) -> set[str]:
        return {
            other for pair in self._seen for other in pair if any(name in each for each in pair) and name not in other
        }

    def send(self, request: Request, budget: Budget) -> Answer:
        with self._lock:
            self._seen += [(request.path, other) for other in self._open]
            self._open.add(request.path)
            # Others that may start now do so meanwhile.
            self._called.wait(0.2)
        try:
            return self._gateway.send(request, budget)
        finally:
            with self._lock:
                self._open.discard(request.path)
