"""A process that dies at any boundary of any move, and one that dies as it goes on: one effect, nothing lost or stuck.

docs/failures.md says how many deaths these are. `make chaos` goes through all of them; other runs go through those of
the moves that change something, and through some of all else.
"""

import inspect

import pytest
from deaths import MOVES, Move, every_death, every_pair, some
from document_deaths import document
from enumerated import ALL, SEED, documented
from invoice_deaths import INVOICES, SENT, invoice_that_we_e_mail_and_keep, one_invoice
from keeping import archive_bucket, store
from mailing import certificate, mail
from service import Service, eventually
from worker import KILLED, fork_worker, fresh_key_per_attempt, reap

__all__ = ["archive_bucket", "certificate", "mail", "store"]

SOME_DEATHS, SOME_PAIRS = 4, 1


@pytest.fixture(
    params=[*MOVES, *INVOICES, invoice_that_we_e_mail_and_keep, document],
    ids=lambda move: getattr(move, "name", getattr(move, "__name__", "")).replace(" ", "-").replace("_", "-"),
)
def move(request: pytest.FixtureRequest) -> Move:
    """Each of them; with a mail server and a bucket for those that need them."""
    if isinstance(request.param, Move):
        return request.param
    found: Move = request.param(*map(request.getfixturevalue, inspect.signature(request.param).parameters))
    return found


def test_a_process_that_dies_anywhere_in_a_move_is_followed_by_one_that_does_it_once(
    service: Service, move: Move
) -> None:
    """[1, 2, 3, 21, 31, 48, 49, 54, 66, 70, 76, 189, 190]"""
    complete = ALL or (move.paths and not move.takes_long)
    died = list(every_death(service, move) if complete else some(service, move, SOME_DEATHS, deaths=1))
    print(f"{move.name}: {len(died)} deaths, seed {SEED}: {', '.join(death for (death,) in died)}")
    assert len(died) >= (documented(move.name)[0] if complete else SOME_DEATHS)


def test_a_process_that_dies_in_the_recovery_from_a_death_is_followed_by_one_that_does_it_once(
    service: Service, move: Move
) -> None:
    """[2, 3, 48, 54]"""
    died = list(every_pair(service, move) if ALL else some(service, move, SOME_PAIRS, deaths=2))
    print(f"{move.name}: {len(died)} pairs of deaths, seed {SEED}")
    assert len(died) >= (documented(move.name)[1] if ALL else SOME_PAIRS)


def test_a_worker_that_mints_a_fresh_key_per_attempt_is_found_out(service: Service) -> None:
    """The control of the tests above: with this mutant at work they fail."""
    operation = service.ask_for_invoice()
    service.plan()
    assert reap(fork_worker(service, "invoices", at="send.after:1", mutate=fresh_key_per_attempt)) == KILLED
    service.age(operation, service.timing.lease_s)
    service.relay.round()
    assert reap(fork_worker(service, "invoices", at="send.after:2", mutate=fresh_key_per_attempt)) == KILLED
    service.age(operation, service.timing.lease_s)

    def finished() -> bool:
        service.relay.round()
        reap(fork_worker(service, "invoices", mutate=fresh_key_per_attempt))
        status = service.status(operation)
        return status.final or status.state == "conflict"

    eventually(finished, "the mutant is done")
    with pytest.raises(AssertionError):
        one_invoice(service, operation, ends=SENT, total=4501)
