"""Every boundary at which a process can die in one of the moves, and what must be true once another has gone on.

A process here does all that a relay and a worker do about one operation: it plans, calls, settles, and takes back what
a dead one has left. It dies before and after every commit and every call, and while Stripe has the call in hand.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from enumerated import SEED
from service import IN_PARTS, Service, eventually
from sqlalchemy import Engine
from worker import KILLED, fork_process, reap, shift

import billing
from billing import database, inbox
from billing.events import event_of
from billing.gateway import Gateway
from billing.operations import operation_of
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import Invoice, Void
from billing.tables.invoice_actions import InvoiceAction
from billing.tables.received_events import ReceivedEvent
from jobs.road.relay import Relay

BOUNDARIES = ("commit.before", "send.before", "send.after", "commit.after")
HELD = ("hold_before", "hold_after")
"""Faults that keep a call: before Stripe has done it, and after."""


@dataclass(frozen=True, slots=True)
class Move:
    """Something that is done once whoever dies. `ask` has it asked for and returns its operation, whose state is `end`
    when it is done; `holds` asserts what must be true then. `paths`: how the paths of its calls that change something
    end, in the order of the calls, with their `method`; `gateway` is whom its worker calls. One that `takes_long` dies
    at some boundaries only, where not all are gone through."""

    name: str
    queue: str
    ask: Callable[[Service], str]
    end: str
    holds: Callable[[Service, str], None]
    paths: Sequence[str] = ()
    method: str = "POST"
    gateway: Callable[[Service], Gateway] = Service.gateway
    takes_long: bool = False


def every_death(service: Service, move: Move, *before: str) -> Iterator[tuple[str, ...]]:
    """Carry this move out again and again, and let a process die at each boundary once, after it has died at those
    `before`. Ends with the boundaries that a process comes to."""
    for name in BOUNDARIES:
        for count in range(1, 100):
            deaths = (*before, f"{name}:{count}")
            if carry_out(service, move, *deaths) < len(deaths):
                break
            yield deaths
    if before:
        return
    # Where the call only reads, before and after are the same.
    for fault in HELD if move.method == "POST" else HELD[-1:]:
        for call in range(1, len(move.paths) + 1):
            assert carry_out(service, move, f"{fault}:{call}") == 1
            yield (f"{fault}:{call}",)


def every_pair(service: Service, move: Move) -> Iterator[tuple[str, ...]]:
    for first in every_death(service, move):
        yield from every_death(service, move, *first)


def some(service: Service, move: Move, most: int, *, deaths: int) -> Iterator[tuple[str, ...]]:
    """As many, by the seed, of those that lie early; each is so many deaths in turn."""
    early = [f"{name}:{count}" for name in BOUNDARIES for count in (1, 2)]
    all_early = list(product(early, repeat=deaths))
    random.Random(SEED).shuffle(all_early)
    found = (each for each in all_early if carry_out(service, move, *each) == deaths)
    for _, each in zip(range(most), found, strict=False):
        yield each


def carry_out(service: Service, move: Move, *deaths: str) -> int:
    """Have one asked for, let a process die at each of these boundaries in turn, and let another do the rest. Returns
    how many died: the last may have come to the end instead."""
    operation = move.ask(service)
    died = 0
    for death in deaths:
        if not _dies(service, move, operation, death):
            break
        died += 1
        # What it has left is taken up by the next one without waiting until its lease is over.
        service.age(operation, service.timing.lease_s)
    _do(service, move, operation, service.engine, move.gateway(service))
    move.holds(service, operation)
    told_without_a_gap(service, operation)
    assert set(service.states_of_work()) == {"done"}, "something is stuck"
    return died


def _dies(service: Service, move: Move, operation: str, death: str) -> bool:
    name, count = death.split(":")
    if name in HELD:
        return _dies_in_the_call(service, move, operation, name, int(count))
    code = reap(_fork(service, move, operation, at=death))
    assert code in (0, KILLED)
    return code == KILLED


def _dies_in_the_call(service: Service, move: Move, operation: str, fault: str, call: int) -> bool:
    """While Stripe has this one of its calls in hand, the first of which is 1."""
    path = move.paths[call - 1]
    service.standin.add_fault(fault, path=f"{path}$", method=move.method, nth=move.paths[:call].count(path), times=1)
    pid = _fork(service, move, operation)
    try:
        eventually(service.standin.held, f"a call held on {path}")
    finally:
        # Also if none is held: it would go on for long.
        os.kill(pid, signal.SIGKILL)
        code = reap(pid)
    service.standin.release()
    service.standin.clear_faults()
    return code == KILLED


def _fork(service: Service, move: Move, operation: str, at: str = "") -> int:
    return fork_process(service, lambda *own: _do(service, move, operation, *own), at=at, gateway=move.gateway(service))


def _do(service: Service, move: Move, operation: str, engine: Engine, gateway: Gateway) -> None:
    """What processes of the service do until this operation is done."""
    relay = Relay(engine, service.timing, service.relay.ringer)

    def turn() -> bool:
        relay.round()
        shift(service, move.queue, engine, gateway)
        with database.transaction(engine) as session:
            ended: bool = billing.status(session, operation).state == move.end
        if not ended:
            _pass_time(engine, operation)
        return ended

    eventually(turn, f"{operation} is {move.end}")


def _pass_time(engine: Engine, operation: str) -> None:
    """A call that nobody makes waits for its look until nothing can arrive any more. All others are dead, and this
    process has none in hand, so that time may pass at once. No boundary: `worker.fork_process` does not see it."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute(TIME_PASSES, {"operation": operation})
        connection.commit()
    finally:
        connection.close()


TIME_PASSES = """
UPDATE billing.idempotency_records AS r
   SET look_at = r.look_at - w.wait, first_sent_at = r.first_sent_at - w.wait,
       last_prepared_at = r.last_prepared_at - w.wait, last_reported_at = r.last_reported_at - w.wait
  FROM (SELECT id, look_at - clock_timestamp() AS wait FROM billing.idempotency_records
         WHERE operation_id = %(operation)s AND concluded_at IS NULL AND lease_until IS NULL) AS w
 WHERE r.id = w.id AND w.wait > interval '0'
"""


def told_without_a_gap(service: Service, operation: str) -> None:
    facts = service.facts(operation)
    assert [fact.entity_version for fact in facts] == list(range(1, len(facts) + 1))
    assert service.row(operation_of(operation).table, operation).version == len(facts)


# The moves.


def _keys(service: Service, operation: str, step: str) -> set[str | None]:
    return {record.key for record in service.records(operation) if record.step == step}


def _captured(service: Service, capture: str) -> None:
    assert service.captured(capture) == {1999: 1}
    assert len(_keys(service, capture, "capture")) == 1


def _voided(service: Service, void: str) -> None:
    row = service.row(Void, void)
    assert (row.held_minor, row.currency, row.reason) == (1999, "USD", None)
    assert [each["amount"] for each in service.effects("payment_intent.canceled", row.payment_intent)] == [1999]
    assert len(_keys(service, void, "void")) == 1


def _ask_for_second_capture(service: Service) -> str:
    """The first part is captured, and its rest was kept."""
    intent = service.by_hand("/v1/payment_intents", f"amount=1999&{IN_PARTS}")
    first = service.ask_for_capture(intent, 700, remainder="keep")
    assert service.settle(first) == ["captured"]
    return service.ask_for_capture(intent, 1000, remainder="keep")


def _captured_twice(service: Service, capture: str) -> None:
    assert service.captured(capture) == {700: 1, 1000: 1}
    assert len(_keys(service, capture, "capture")) == 1


def _ask_for_refund(service: Service) -> str:
    return service.ask_for_refund(service.captured_one())


def _refunded(service: Service, refund: str) -> None:
    assert service.refunded(refund) == [500]
    assert len(_keys(service, refund, "refund")) == 1


def _ask_for_refund_of_an_invoice(service: Service) -> str:
    return service.refund_invoice(service.paid_invoice())


def _ask_for_note(service: Service) -> str:
    return service.credit(service.sent_invoice(), 500)


def _credited(service: Service, note: str) -> None:
    assert service.credited(note) == [500]
    assert len(_keys(service, note, "issue")) == 1


def _ask_for_note_with_refund(service: Service) -> str:
    """Its refund is made already; the note still waits for it."""
    note = service.credit(service.paid_invoice(), 500, "refund")
    assert service.settle(str(service.row(CreditNote, note).refund_id)) == ["succeeded"]
    return note


def _credited_and_refunded(service: Service, note: str) -> None:
    _credited(service, note)
    _refunded(service, str(service.row(CreditNote, note).refund_id))


def _paid_invoice(service: Service) -> tuple[str, str]:
    """One that was sent, and has been paid since; with Stripe's id of it."""
    invoice = service.ask_for_invoice()
    assert service.settle(invoice) == ["sent"]
    at_stripe = str(service.row(Invoice, invoice).stripe_invoice)
    service.by_hand(f"/v1/invoices/{at_stripe}/pay", "paid_out_of_band=true")
    return invoice, at_stripe


def _ask_to_observe(service: Service) -> str:
    invoice, _ = _paid_invoice(service)
    service.notice(invoice)
    return invoice


def _receive_event(service: Service) -> str:
    invoice, at_stripe = _paid_invoice(service)
    about = {"created": int(time.time()), "data": {"object": {"id": at_stripe}}, "request": None}
    told = {"id": f"evt_{at_stripe}", "object": "event", "type": "invoice.paid", "livemode": False, **about}
    event = event_of(told, source="webhook")
    assert event is not None
    with database.transaction(service.engines["web"]) as session:
        assert inbox.put(session, [event]) == 1
    return invoice


def _observed(service: Service, invoice: str) -> None:
    assert [service.topics(invoice).count(topic) for topic in ("noticed", "sent", "paid")] == [1, 1, 1]
    at_stripe = service.row(Invoice, invoice).stripe_invoice
    for kind in ("invoice.finalized", "invoice.sent"):
        assert len(service.effects(kind, at_stripe)) == 1


def _matched(service: Service, invoice: str) -> None:
    event = service.row(ReceivedEvent, f"evt_{service.row(Invoice, invoice).stripe_invoice}")
    assert (event.state, event.matched_with) == ("matched", invoice)
    _observed(service, invoice)


ENDS = {
    "pay_invoice": ("pay", "paid", "invoice.paid"),
    "mark_invoice_paid": ("pay", "paid", "invoice.paid_out_of_band"),
    "void_invoice": ("void", "voided", "invoice.voided"),
    "mark_invoice_uncollectible": ("mark_uncollectible", "uncollectible", "invoice.marked_uncollectible"),
}
"""By what is asked for: the end of the path, the state of the invoice then, and the effect at Stripe."""


def _act(name: str, action: str) -> Move:
    """An invoice that was sent, to a customer who can be charged, and what is asked to be done with it."""
    path, state, effect = ENDS[action]

    def ask(service: Service) -> str:
        customer, _ = service.payer()
        service.by_hand(f"/v1/customers/{customer}", "email=test%40example.com")
        invoice = service.ask_for_invoice(customer)
        assert service.settle(invoice) == ["sent"]
        return service.act_on(invoice, action)

    def done(service: Service, asked: str) -> None:
        invoice = service.row(Invoice, service.row(InvoiceAction, asked).invoice_id)
        assert invoice.state == state, "it moves in the transaction that ends the action"
        assert [each["id"] for each in service.effects(effect, invoice.stripe_invoice)] == [invoice.stripe_invoice]
        assert service.topics(invoice.id).count(state) == 1
        told_without_a_gap(service, invoice.id)
        assert len({record.key for record in service.records(asked)}) == 1

    return Move(name, "invoices", ask, "done", done, (f"/{path}",))


def _ask_to_void_note(service: Service) -> str:
    note = service.credit(service.sent_invoice(), 500)
    assert service.settle(note) == ["issued"]
    return service.void_note(note)


def _note_voided(service: Service, asked: str) -> None:
    row = service.row(InvoiceAction, asked)
    note, invoice = service.row(CreditNote, row.credit_note_id), service.row(Invoice, row.invoice_id)
    assert note.state == "voided", "it moves in the transaction that ends the action"
    assert len(service.effects("credit_note.voided", note.stripe_credit_note)) == 1
    assert service.topics(note.id).count("voided") == 1
    assert (invoice.credited_minor, invoice.reduced_minor) == (0, 0)
    told_without_a_gap(service, note.id)
    assert len({record.key for record in service.records(asked)}) == 1


MOVES: Sequence[Move] = (
    Move("capture", "captures", Service.ask_for_capture, "captured", _captured, ("/capture",)),
    Move("void", "captures", Service.ask_for_void, "voided", _voided, ("/cancel",)),
    Move("second capture", "captures", _ask_for_second_capture, "captured", _captured_twice, ("/capture",)),
    Move("refund", "refunds", _ask_for_refund, "succeeded", _refunded, ("/v1/refunds",)),
    Move("refund of an invoice", "refunds", _ask_for_refund_of_an_invoice, "succeeded", _refunded, ("/v1/refunds",)),
    _act("charge on request", "pay_invoice"),
    _act("mark as paid", "mark_invoice_paid"),
    _act("void of an invoice", "void_invoice"),
    _act("give up an invoice", "mark_invoice_uncollectible"),
    Move("credit note", "invoices", _ask_for_note, "issued", _credited, ("/v1/credit_notes",)),
    Move(
        "credit note after its refund",
        *("invoices", _ask_for_note_with_refund, "issued", _credited_and_refunded, ("/v1/credit_notes",)),
    ),
    Move("void of a credit note", "invoices", _ask_to_void_note, "done", _note_voided, ("/void",)),
    Move("look at what was noticed", "invoices", _ask_to_observe, "paid", _observed),
    Move("received event", "invoices", _receive_event, "paid", _matched),
)
