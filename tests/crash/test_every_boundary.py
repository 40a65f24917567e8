"""A worker killed at every boundary of an invoice, by enumeration: in the end one invoice, and all told.

An invoice that was being made is looked for, and a look waits until nothing can arrive any more. So all of them die
first, and then they wait together. `test_every_death.py` does the same for moves that need no such wait.
"""

import os
import signal

import pytest
from enumerated import documented
from service import Service, eventually
from worker import KILLED, fork_worker, fresh_key_per_attempt, reap

from billing.operations import operation_of
from billing.tables.entities import Invoice

BOUNDARIES = ("commit.before", "send.before", "send.after", "commit.after")
INVOICE_STEPS = ("/v1/invoices", "/add_lines", "/finalize", "/send")


def _die_everywhere(service: Service, ask, queue: str) -> dict[str, str]:  # type: ignore[no-untyped-def]
    """One operation per boundary, each with a worker killed there: boundary -> operation. Ends when one survives."""
    died: dict[str, str] = {}
    for name in BOUNDARIES:
        for count in range(1, 100):
            operation = ask()
            service.plan()
            code = reap(fork_worker(service, queue, at=f"{name}:{count}"))
            if code != KILLED:
                assert code == 0
                assert service.status(operation).final
                break
            died[f"{name}:{count}"] = operation
    return died


def _die_in_the_call(service: Service, ask, queue: str, path: str, *, charged: bool) -> str:  # type: ignore[no-untyped-def]
    operation = ask()
    service.plan()
    service.standin.add_fault("hold_after" if charged else "hold_before", path=f"{path}$", method="POST", times=1)
    pid = fork_worker(service, queue)
    try:
        (held,) = eventually(service.standin.held, f"a call held on {path}")
        assert operation in held["key"], "the call of another operation"
    finally:
        # Also if it holds another call, or none: it would go on for ever.
        os.kill(pid, signal.SIGKILL)
        ended = reap(pid)
    assert ended == KILLED
    service.standin.release()
    service.standin.clear_faults()
    return operation


def test_a_worker_killed_at_any_boundary_of_an_invoice_leaves_one_finalized_invoice(service: Service) -> None:
    """[48, 49]"""
    customer = service.customer()

    def ask() -> str:
        return service.ask_for_invoice(customer)

    died = _die_everywhere(service, ask, "invoices")
    for path in INVOICE_STEPS:
        for charged in (True, False):
            died[f"in {path}, done={charged}"] = _die_in_the_call(service, ask, "invoices", path, charged=charged)
    print(f"invoice: {len(died)} crash points: {', '.join(died)}")
    assert len(died) >= documented("invoice")[0]
    assert set(service.settle(*died.values())) == {"sent"}
    for operation in died.values():
        _one_invoice(service, operation)
        _told_without_a_gap(service, operation)


def test_a_worker_killed_at_any_boundary_of_an_invoice_that_a_credit_balance_pays_finalizes_it_once(
    service: Service,
) -> None:
    customer = service.customer()
    service.by_hand(f"/v1/customers/{customer}/balance_transactions", "amount=-9000000&currency=eur")

    def ask() -> str:
        return service.ask_for_invoice(customer)

    died = _die_everywhere(service, ask, "invoices")
    for charged in (True, False):
        died[f"in /finalize, done={charged}"] = _die_in_the_call(service, ask, "invoices", "/finalize", charged=charged)
    print(f"paid invoice: {len(died)} crash points: {', '.join(died)}")
    assert len(died) >= documented("invoice that a credit balance pays")[0]
    assert set(service.settle(*died.values())) == {"paid"}
    for operation in died.values():
        invoice = service.row(Invoice, operation)
        assert invoice.number
        assert len(service.effects("invoice.finalized", invoice.stripe_invoice)) == 1
        assert [topic for topic in service.topics(operation) if topic == "paid"] == ["paid"]
        _told_without_a_gap(service, operation)
    assert service.posts("/send") == []


def test_a_worker_killed_at_any_boundary_of_an_invoice_that_stripe_refuses_to_make_ends_as_refused(
    service: Service,
) -> None:
    """The customer has no address. A refusal that nobody saw is replayed, looked into, and had anew under a new key."""
    customer = service.by_hand("/v1/customers", "name=Test")

    def ask() -> str:
        return service.ask_for_invoice(customer)

    died = _die_everywhere(service, ask, "invoices")
    for charged in (True, False):
        died[f"in the call, done={charged}"] = _die_in_the_call(
            service, ask, "invoices", "/v1/invoices", charged=charged
        )
    print(f"refused invoice: {len(died)} crash points: {', '.join(died)}")
    assert len(died) >= documented("invoice that Stripe refuses")[0]
    assert set(service.settle(*died.values())) == {"refused"}
    for operation in died.values():
        assert [topic for topic in service.topics(operation) if topic == "refused"] == ["refused"]
        _told_without_a_gap(service, operation)
    assert service.effects("invoice.created") == []


def test_a_worker_that_mints_a_fresh_key_per_attempt_is_found_out(service: Service) -> None:
    """The control of the tests above: with this mutant at work they fail."""
    customer = service.customer()
    operation = service.ask_for_invoice(customer)
    service.plan()
    assert reap(fork_worker(service, "invoices", at="send.after:1", mutate=fresh_key_per_attempt)) == KILLED
    assert reap(_resumed(service, "invoices", at="send.after:2")) == KILLED
    eventually(lambda: _finished(service, operation), "the mutant is done")
    with pytest.raises(AssertionError):
        _one_invoice(service, operation)


def _resumed(service: Service, queue: str, at: str = "") -> int:
    """Wait until the dead worker's lease is over, and let another mutant take the work up."""

    def taken_back() -> bool:
        service.relay.round()
        return service.states_of_work()["ready"] == 1

    eventually(taken_back, "the dead worker's work is ready again")
    return fork_worker(service, queue, at=at, mutate=fresh_key_per_attempt)


def _finished(service: Service, operation: str) -> bool:
    service.relay.round()
    reap(fork_worker(service, "invoices", mutate=fresh_key_per_attempt))
    status = service.status(operation)
    return status.final or status.state == "conflict"


def _one_invoice(service: Service, operation: str) -> None:
    """Exactly one draft survived; it was finalized and sent once, with the right lines and the right key history."""
    invoice = service.row(Invoice, operation)
    made = {effect["id"] for effect in service.effects("invoice.created") if _is_of(effect, operation)}
    deleted = {effect["id"] for effect in service.effects("invoice.deleted")}
    assert made - deleted == {invoice.stripe_invoice}
    for kind in ("invoice.lines_added", "invoice.finalized", "invoice.sent"):
        assert len(service.effects(kind, invoice.stripe_invoice)) == 1, kind
    assert service.effects("invoice.finalized", invoice.stripe_invoice)[0]["amount"] == 13_500 // 3 + 1


def _is_of(effect: dict, operation: str) -> bool:  # type: ignore[type-arg]
    return effect["metadata"].get("billing_operation") == operation


def _told_without_a_gap(service: Service, operation: str) -> None:
    facts = service.facts(operation)
    assert [fact.entity_version for fact in facts] == list(range(1, len(facts) + 1))
    row = service.row(operation_of(operation).table, operation)
    assert row.version == len(facts)
