"""A worker killed at every boundary between its side effects, by enumeration: in the end one effect, and all told."""

import os
import signal
from itertools import product

import pytest
from service import Service, eventually
from worker import KILLED, fork_worker, fresh_key_per_attempt, reap

import billing
from billing.operations import operation_of
from billing.tables.entities import Invoice, Void

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


def _capture(service: Service, capture: str) -> str:
    """With no round of the relay: it would take back what died before, and the next victim would go on with that."""
    service.plan()
    service.work_off("captures")
    assert service.status(capture).state == "captured"
    return capture


def test_a_worker_killed_at_any_boundary_of_a_capture_takes_the_money_once(service: Service) -> None:
    """[1, 2, 3, 54]"""
    died = _die_everywhere(service, service.ask_for_capture, "captures")
    for charged in (True, False):
        died[f"in the call, charged={charged}"] = _die_in_the_call(
            service, service.ask_for_capture, "captures", "/capture", charged=charged
        )
    print(f"capture: {len(died)} crash points: {', '.join(died)}")
    assert len(died) >= 8
    assert set(service.settle(*died.values())) == {"captured"}
    for operation in died.values():
        assert service.captured(operation) == {1999: 1}
        assert len({record.key for record in service.records(operation)}) == 1
        _told_without_a_gap(service, operation)


def test_a_worker_killed_at_any_boundary_of_a_void_gives_the_authorization_back_once(service: Service) -> None:
    """[1, 2, 3, 54] It reads what is held, and cancels."""
    died = _die_everywhere(service, service.ask_for_void, "captures")
    for done in (True, False):
        died[f"in the call, done={done}"] = _die_in_the_call(
            service, service.ask_for_void, "captures", "/cancel", charged=done
        )
    print(f"void: {len(died)} crash points: {', '.join(died)}")
    assert len(died) >= 12
    assert set(service.settle(*died.values())) == {"voided"}
    for operation in died.values():
        row = service.row(Void, operation)
        assert (row.held_minor, row.currency, row.reason) == (1999, "USD", None)
        assert [each["amount"] for each in service.effects("payment_intent.canceled", row.payment_intent)] == [1999]
        keys = {record.key for record in service.records(operation) if record.step == "void"}
        assert len(keys) == 1
        _told_without_a_gap(service, operation)


def test_a_worker_killed_in_the_recovery_from_a_crash_of_a_void_gives_it_back_once(service: Service) -> None:
    """[54] Both deaths lie around the cancel: the second worker dies as it takes up what the first has left."""
    died = []
    for first, second in product(("send.before:2", "send.after:2"), BOUNDARIES):
        operation = service.ask_for_void()
        service.plan()
        for boundary in (first, f"{second}:1"):
            assert reap(fork_worker(service, "captures", at=boundary)) == KILLED
            service.age(operation, service.timing.lease_s)
            service.relay.round()
        assert service.settle(operation) == ["voided"]
        died.append(operation)
    for operation in died:
        assert len(service.effects("payment_intent.canceled", service.row(Void, operation).payment_intent)) == 1
        assert len({record.key for record in service.records(operation) if record.step == "void"}) == 1


def test_a_worker_killed_at_any_boundary_of_a_second_capture_takes_each_part_once(service: Service) -> None:
    """[1, 2, 3, 31, 54] The first part is captured, and its rest was kept."""
    known = billing.Authorization(1999, "USD", None)

    def ask() -> str:
        intent = service.by_hand(
            "/v1/payment_intents",
            "amount=1999&currency=usd&capture_method=manual&payment_method=pm_card_visa&confirm=true"
            "&payment_method_options[card][request_multicapture]=if_available",
        )
        _capture(service, service.ask_for_capture(intent, 700, remainder="keep", authorization=known))
        return service.ask_for_capture(intent, 1000, remainder="keep", authorization=known)

    died = _die_everywhere(service, ask, "captures")
    for charged in (True, False):
        died[f"in the call, charged={charged}"] = _die_in_the_call(
            service, ask, "captures", "/capture", charged=charged
        )
    print(f"second capture: {len(died)} crash points: {', '.join(died)}")
    assert len(died) >= 8
    assert set(service.settle(*died.values())) == {"captured"}
    for operation in died.values():
        assert service.captured(operation) == {700: 1, 1000: 1}
        assert len({record.key for record in service.records(operation)}) == 1
        _told_without_a_gap(service, operation)


def test_a_worker_killed_at_any_boundary_of_a_refund_gives_the_money_back_once(service: Service) -> None:
    """[66, 70] Each of its own payment: a call whose worker died holds the others of its payment up."""

    def ask() -> str:
        return service.ask_for_refund(_capture(service, service.ask_for_capture()))

    died = _die_everywhere(service, ask, "refunds")
    for charged in (True, False):
        died[f"in the call, done={charged}"] = _die_in_the_call(service, ask, "refunds", "/v1/refunds", charged=charged)
    print(f"refund: {len(died)} crash points: {', '.join(died)}")
    assert len(died) >= 8
    assert set(service.settle(*died.values())) == {"succeeded"}
    for operation in died.values():
        assert service.refunded(operation) == [500]
        assert len({record.key for record in service.records(operation)}) == 1
        _told_without_a_gap(service, operation)


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
    assert len(died) >= 25
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
    assert len(died) >= 12
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
    assert len(died) >= 8
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
