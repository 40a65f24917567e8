"""A worker killed at every boundary of an invoice, by enumeration: in the end one invoice, and all told.

An invoice that was being made is looked for, and a look waits until nothing can arrive any more. So all of them die
first, and then they wait together. `test_every_death.py` does the same for moves that need no such wait.
"""

import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, product

import pytest
from deaths import BOUNDARIES, told_without_a_gap
from enumerated import ALL, SEED, documented
from invoice_deaths import CASES, SENT, Case, handed_on, one_invoice
from keeping import archive_bucket, keeping, objects, row_of, store
from mail_server import MailServer
from mailing import certificate, mail, mailing
from service import Service, eventually
from worker import KILLED, fork_worker, fresh_key_per_attempt, reap

from archive.s3.store import Store

__all__ = ["archive_bucket", "certificate", "mail", "store"]

SOME_PAIRS, MANY_PAIRS = 2, 24
"""Of each case, in every run and in `make chaos`: the second worker dies as it takes up what the first has left."""
SOME_DEATHS = 6
"""Of a case that takes long, in every run."""

Ask = Callable[[], str]


def _set_the_others_aside(service: Service) -> None:
    """Those that died before: the next worker to die has no other work. In the hands of one dying worker after the
    other they would be quarantined."""
    service.execute("UPDATE billing.work SET queue = 'refunds' WHERE queue = 'invoices'")


def _take_them_up_again(service: Service) -> None:
    service.execute("UPDATE billing.work SET queue = 'invoices' WHERE queue = 'refunds'")


def _die_here_and_there(service: Service, ask: Ask, calls: int) -> Iterator[tuple[str, str]]:
    """As `_die_everywhere`, at some of the boundaries that a worker without other work comes to, by the seed."""
    boundaries = [f"{name}:{count}" for name in BOUNDARIES for count in range(1, calls + 1)]
    for boundary in random.Random(SEED).sample(boundaries, SOME_DEATHS):
        operation = ask()
        service.plan()
        assert reap(fork_worker(service, "invoices", at=boundary)) == KILLED
        # What it has not begun: the next worker to die has no other work.
        service.work_off("invoices")
        yield boundary, operation


def _die_everywhere(service: Service, ask: Ask) -> Iterator[tuple[str, str]]:
    """One operation per boundary, each with a worker killed there: boundary, operation. Ends when one survives."""
    for name in BOUNDARIES:
        for count in range(1, 100):
            _set_the_others_aside(service)
            operation = ask()
            service.plan()
            code = reap(fork_worker(service, "invoices", at=f"{name}:{count}"))
            if code != KILLED:
                assert code == 0
                assert service.status(operation).final
                break
            yield f"{name}:{count}", operation


def _die_in_the_call(service: Service, ask: Ask, path: str, *, charged: bool) -> str:
    _set_the_others_aside(service)
    operation = ask()
    service.plan()
    fault = "hold_after" if charged else "hold_before"
    service.standin.add_fault(fault, path=f"{path}$", method="POST", key=operation, times=1)
    pid = fork_worker(service, "invoices")
    try:
        eventually(service.standin.held, f"a call held on {path}")
    finally:
        # Also if it holds none: it would go on for ever.
        os.kill(pid, signal.SIGKILL)
        ended = reap(pid)
    assert ended == KILLED
    service.standin.release()
    service.standin.clear_faults()
    return operation


def _die_twice(service: Service, ask: Ask, calls: int) -> Iterator[tuple[str, str]]:
    """Some pairs, by the seed. The second death is one that every recovery comes to."""
    firsts = [f"{name}:{count}" for name in BOUNDARIES for count in range(1, calls + 1)]
    pairs = list(product(firsts, [f"{name}:1" for name in BOUNDARIES]))
    for first, second in random.Random(SEED).sample(pairs, min(len(pairs), MANY_PAIRS if ALL else SOME_PAIRS)):
        _set_the_others_aside(service)
        operation = ask()
        service.plan()
        assert reap(fork_worker(service, "invoices", at=first)) == KILLED

        def dies_again(operation: str = operation, at: str = second) -> bool:
            service.age(operation, service.timing.lease_s)
            service.relay.round()
            return reap(fork_worker(service, "invoices", at=at)) == KILLED or service.status(operation).final

        eventually(dies_again, f"{first} then {second}")
        yield f"{first} then {second}", operation


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_a_worker_killed_at_any_boundary_of_an_invoice_leaves_one_as_asked_or_none(
    service: Service, case: Case, request: pytest.FixtureRequest
) -> None:
    """[48, 49, 54, 189, 190]"""
    arguments = case.prepare(service)

    def ask() -> str:
        return case.ask(service, **arguments)

    some = case.takes_long and not ALL
    died = dict(_die_here_and_there(service, ask, len(case.calls)) if some else _die_everywhere(service, ask))
    for path in case.calls:
        for charged in (True, False):
            died[f"in {path}, done={charged}"] = _die_in_the_call(service, ask, path, charged=charged)
    died |= _die_twice(service, ask, len(case.calls))
    print(f"{case.name}: {len(died)} deaths, seed {SEED}: {', '.join(died)}")
    alone, pairs = documented(case.name)
    assert len(died) >= (SOME_DEATHS if some else alone) + (pairs if ALL else SOME_PAIRS)
    _take_them_up_again(service)
    assert set(service.settle(*died.values())) == {case.end}
    for operation in died.values():
        case.holds(service, operation)
        told_without_a_gap(service, operation)
    for path in case.never:
        assert service.posts(path) == []
    if case.hands_on:
        each_is_sent_and_kept_once(
            service, request.getfixturevalue("mail"), request.getfixturevalue("store"), list(died.values())
        )


def each_is_sent_and_kept_once(service: Service, mail: MailServer, store: Store, invoices: Sequence[str]) -> None:
    """How workers die at these, `test_killed_emails.py` and `document_deaths.py` go through."""
    emails, documents = zip(*(handed_on(service, invoice) for invoice in invoices), strict=True)
    emails, documents = list(chain(*emails)), list(chain(*documents))
    assert set(service.settle(*emails, gateway=mailing(service, mail))) == {"sent"}
    assert [len(mail.of(each)) for each in emails] == [1] * len(invoices)
    assert set(service.settle(*documents, gateway=keeping(service, store))) == {"stored"}
    assert set(objects(store)) >= {str(row_of(service, each).object_key) for each in documents}
    assert len(set(objects(store))) == len(objects(store))


def test_a_worker_that_mints_a_fresh_key_per_attempt_is_found_out(service: Service) -> None:
    """The control of the tests above: with this mutant at work they fail."""
    customer = service.customer()
    operation = service.ask_for_invoice(customer)
    service.plan()
    assert reap(fork_worker(service, "invoices", at="send.after:1", mutate=fresh_key_per_attempt)) == KILLED
    assert reap(_resumed(service, "invoices", at="send.after:2")) == KILLED
    eventually(lambda: _finished(service, operation), "the mutant is done")
    with pytest.raises(AssertionError):
        one_invoice(service, operation, ends=SENT, total=4501)


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
