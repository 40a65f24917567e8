"""A report that comes twice, late, or to a shift that has claimed the same record again is settled once."""

import random
import threading
from dataclasses import replace

from service import PATIENCE_S, QUICK, Service, drop_database, eventually, make_database, patient_engine
from sqlalchemy.exc import OperationalError

from billing import database, store
from billing.gateway import Answer, Budget, NotSent, Request, boot_clock
from billing.invoice_draft_steps import CREATE
from billing.learned import Learned
from billing.operations import operation_of
from billing.steps import Reader
from jobs.local.servers import LocalServers
from jobs.road.runner import Runner
from jobs.road.shift import Control, Shift


def _runner(service: Service) -> Runner:
    return Runner(service.call_settings, random.Random(1))


def test_a_report_that_is_settled_twice_counts_once(service: Service) -> None:
    """Also where the captain could not see that its commit had reached Postgres, and settles again."""
    capture = service.ask_for_capture()
    service.plan()
    service.prepared()
    service.age(capture, 10)
    service.relay.round()
    again = service.prepared()[capture]
    assert service.record(capture).unanswered == 2, "the first send may have gone out"
    for _ in range(2):
        service.report(again, NotSent("too late"))
    assert service.record(capture).unanswered == 1


def test_a_report_of_a_call_that_this_shift_took_over_from_itself_does_not_hide_the_new_one(
    template: LocalServers,
) -> None:
    """A captain that cannot renew its leases claims its own lapsed call again: two calls of one record are in flight.

    The shift waits for both, and keeps what both bring back.
    """
    timing = replace(QUICK, call_budget_s=20, linger_s=20)
    name = "test_attacks_itself"
    service = Service(template, make_database(template, name), timing)
    service.redis.flushall()
    service.standin.reset()
    capture = service.ask_for_capture()
    service.plan()

    class Slow:
        livemode = False

        def __init__(self) -> None:
            self.gateway, self.came, self.go = service.gateway(), 0, [threading.Event(), threading.Event()]

        def send(self, request: Request, budget: Budget) -> Answer:
            number, self.came = self.came, self.came + 1
            answer = self.gateway.send(request, budget)
            if number < 2:
                self.go[number].wait(PATIENCE_S)
            return answer

    class StopWhenTold(Control):
        told = False

        def stop_requested(self) -> bool:
            return self.told

    slow, control = Slow(), StopWhenTold()
    shift = Shift(service.engine, slow, _runner(service), "captures", crew=2, slice_s=30)  # type: ignore[arg-type]
    renew, away = store.renew, True

    def cannot_renew(*args: object) -> object:
        if away:
            raise OperationalError("renew", {}, Exception("Postgres is away"))
        return renew(*args)  # type: ignore[arg-type]

    store.renew = cannot_renew  # type: ignore[assignment]
    engine = patient_engine(service.url, timing, name="watcher")
    try:
        thread = threading.Thread(target=shift.run, args=(control,))
        thread.start()

        def both() -> bool:
            house_relay_engine, service.relay.engine = service.relay.engine, engine
            service.relay.round()
            service.relay.engine = house_relay_engine
            return slow.came == 2

        eventually(both, "the shift has taken its own lapsed call over")
        away = False
        slow.go[0].set()  # the first, stale report
        eventually(lambda: service.topics(capture)[-1] == "late_answer", "the late answer is kept")
        control.told = True
        import time

        time.sleep(0.5)
        slow.go[1].set()
        thread.join(PATIENCE_S)
        record = service.record(capture)
        assert record.state == "answered", f"its answer came back and was thrown away; {record.state}"
    finally:
        store.renew = renew
        for event in slow.go:
            event.set()
        thread.join(PATIENCE_S)
        engine.dispose()
        service.close()
        drop_database(template, name)


def test_the_look_for_a_draft_reads_only_the_events_of_the_time_when_it_was_sent(service: Service) -> None:
    """However many invoices the account has made since: only events with our keys count, and nobody sends those after
    `last_prepared_at` + not-after. They are read at all because of an invoice that may be ours, without our id.
    """
    customer = service.customer()
    invoice = service.ask_for_invoice(customer)
    service.standin.add_fault("drop_before", method="POST", path="/v1/invoices$", times=1)
    service.plan()
    service.work_off("invoices")
    service.by_hand(f"/v1/invoices/{service.by_hand('/v1/invoices', f'customer={customer}')}/finalize")
    with database.transaction(service.engine) as session:
        work = service.work(invoice)
        loaded = store.load(session, operation_of(invoice), {invoice: (work.id, work.queue)})[invoice]
    asked: list[str] = []
    gateway = service.gateway()

    def get(path: str) -> Answer:
        asked.append(path)
        return gateway.send(Request("GET", path), Budget(boot_clock() + 5, boot_clock() + 10))

    assert CREATE.look(loaded, Reader(get), False).learned is Learned.ABSENT
    events = [path for path in asked if path.startswith("/v1/events")]
    assert events
    assert all("created[lte]" in path for path in asked), asked
