"""A worker killed at every boundary between its side effects, by enumeration: in the end one effect, and all told."""

import os
import signal

import pytest
from house import House, eventually
from worker import KILLED, fork_worker, fresh_key_per_attempt, reap

from billing.gateway import Budget, Request, boot_clock
from billing.tables import Capture, Invoice

BOUNDARIES = ("commit.before", "send.before", "send.after", "commit.after")
INVOICE_STEPS = ("/v1/invoices", "/add_lines", "/finalize", "/send")


def _die_everywhere(house: House, ask, queue: str) -> dict[str, str]:  # type: ignore[no-untyped-def]
    """One operation per boundary, each with a worker killed there: boundary -> operation. Ends when one survives."""
    died: dict[str, str] = {}
    for name in BOUNDARIES:
        for count in range(1, 100):
            operation = ask()
            house.plan()
            code = reap(fork_worker(house, queue, at=f"{name}:{count}"))
            if code != KILLED:
                assert code == 0
                assert house.status(operation).final
                break
            died[f"{name}:{count}"] = operation
    return died


def _die_in_the_call(house: House, ask, queue: str, path: str, *, charged: bool) -> str:  # type: ignore[no-untyped-def]
    operation = ask()
    house.plan()
    house.standin.add_fault("hold_after" if charged else "hold_before", path=f"{path}$", method="POST", times=1)
    pid = fork_worker(house, queue)
    eventually(house.standin.held, f"a call held on {path}")
    os.kill(pid, signal.SIGKILL)
    assert reap(pid) == KILLED
    house.standin.release()
    house.standin.clear_faults()
    return operation


def test_a_worker_killed_at_any_boundary_of_a_capture_takes_the_money_once(house: House) -> None:
    """[1, 2, 3, 54]"""
    died = _die_everywhere(house, house.ask_for_capture, "captures")
    for charged in (True, False):
        died[f"in the call, charged={charged}"] = _die_in_the_call(
            house, house.ask_for_capture, "captures", "/capture", charged=charged
        )
    print(f"capture: {len(died)} crash points: {', '.join(died)}")
    assert len(died) >= 8
    assert set(house.settle(*died.values())) == {"captured"}
    for operation in died.values():
        assert house.captured(operation) == {1999: 1}
        assert len({record.key for record in house.records(operation)}) == 1
        _told_without_a_gap(house, operation)


def test_a_worker_killed_at_any_boundary_of_an_invoice_leaves_one_finalized_invoice(house: House) -> None:
    """[48, 49]"""
    customer = house.customer()

    def ask() -> str:
        return house.ask_for_invoice(customer)

    died = _die_everywhere(house, ask, "invoices")
    for path in INVOICE_STEPS:
        for charged in (True, False):
            died[f"in {path}, done={charged}"] = _die_in_the_call(house, ask, "invoices", path, charged=charged)
    print(f"invoice: {len(died)} crash points: {', '.join(died)}")
    assert len(died) >= 25
    assert set(house.settle(*died.values())) == {"sent"}
    for operation in died.values():
        _one_invoice(house, operation)
        _told_without_a_gap(house, operation)


def test_a_worker_killed_at_any_boundary_of_an_invoice_that_a_credit_balance_pays_finalizes_it_once(
    house: House,
) -> None:
    customer = house.customer()
    credit = Request(
        "POST", f"/v1/customers/{customer}/balance_transactions", "amount=-9000000&currency=eur", key=f"of-{customer}"
    )
    house.gateway().send(credit, Budget(boot_clock() + 5, boot_clock() + 10))

    def ask() -> str:
        return house.ask_for_invoice(customer)

    died = _die_everywhere(house, ask, "invoices")
    for charged in (True, False):
        died[f"in /finalize, done={charged}"] = _die_in_the_call(house, ask, "invoices", "/finalize", charged=charged)
    print(f"paid invoice: {len(died)} crash points: {', '.join(died)}")
    assert len(died) >= 12
    assert set(house.settle(*died.values())) == {"paid"}
    for operation in died.values():
        invoice = house.row(Invoice, operation)
        assert invoice.number
        assert len(house.effects("invoice.finalized", invoice.stripe_invoice)) == 1
        assert [topic for topic in house.topics(operation) if topic == "paid"] == ["paid"]
        _told_without_a_gap(house, operation)
    assert house.posts("/send") == []


def test_a_worker_killed_at_any_boundary_of_an_invoice_that_stripe_refuses_to_make_ends_as_refused(
    house: House,
) -> None:
    """The customer has no address. A refusal that nobody saw is replayed, looked into, and had anew under a new key."""
    answer = house.gateway().send(
        Request("POST", "/v1/customers", "name=Test", key="nobody-to-write-to"),
        Budget(boot_clock() + 5, boot_clock() + 10),
    )
    customer = str(answer.data["id"])  # type: ignore[union-attr, index]

    def ask() -> str:
        return house.ask_for_invoice(customer)

    died = _die_everywhere(house, ask, "invoices")
    for charged in (True, False):
        died[f"in the call, done={charged}"] = _die_in_the_call(house, ask, "invoices", "/v1/invoices", charged=charged)
    print(f"refused invoice: {len(died)} crash points: {', '.join(died)}")
    assert len(died) >= 8
    assert set(house.settle(*died.values())) == {"refused"}
    for operation in died.values():
        assert [topic for topic in house.topics(operation) if topic == "refused"] == ["refused"]
        _told_without_a_gap(house, operation)
    assert house.effects("invoice.created") == []


def test_a_worker_that_mints_a_fresh_key_per_attempt_is_found_out(house: House) -> None:
    """The control of the tests above: with this mutant at work they fail."""
    customer = house.customer()
    operation = house.ask_for_invoice(customer)
    house.plan()
    assert reap(fork_worker(house, "invoices", at="send.after:1", mutate=fresh_key_per_attempt)) == KILLED
    assert reap(_resumed(house, "invoices", at="send.after:2")) == KILLED
    eventually(lambda: _finished(house, operation), "the mutant is done")
    with pytest.raises(AssertionError):
        _one_invoice(house, operation)


def _resumed(house: House, queue: str, at: str = "") -> int:
    """Wait until the dead worker's lease is over, and let another mutant take the work up."""

    def taken_back() -> bool:
        house.relay.round()
        return house.states_of_work()["ready"] == 1

    eventually(taken_back, "the dead worker's work is ready again")
    return fork_worker(house, queue, at=at, mutate=fresh_key_per_attempt)


def _finished(house: House, operation: str) -> bool:
    house.relay.round()
    reap(fork_worker(house, "invoices", mutate=fresh_key_per_attempt))
    status = house.status(operation)
    return status.final or status.state == "conflict"


def _one_invoice(house: House, operation: str) -> None:
    """Exactly one draft survived; it was finalized and sent once, with the right lines and the right key history."""
    invoice = house.row(Invoice, operation)
    made = {effect["id"] for effect in house.effects("invoice.created") if _is_of(effect, operation)}
    deleted = {effect["id"] for effect in house.effects("invoice.deleted")}
    assert made - deleted == {invoice.stripe_invoice}
    for kind in ("invoice.lines_added", "invoice.finalized", "invoice.sent"):
        assert len(house.effects(kind, invoice.stripe_invoice)) == 1, kind
    assert house.effects("invoice.finalized", invoice.stripe_invoice)[0]["amount"] == 13_500 // 3 + 1


def _is_of(effect: dict, operation: str) -> bool:  # type: ignore[type-arg]
    return effect["metadata"].get("billing_operation") == operation


def _told_without_a_gap(house: House, operation: str) -> None:
    facts = house.facts(operation)
    assert [fact.entity_version for fact in facts] == list(range(1, len(facts) + 1))
    row = house.row(Capture if operation.startswith("cap_") else Invoice, operation)
    assert row.version == len(facts)
