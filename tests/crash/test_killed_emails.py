"""A worker killed around the sending of an e-mail: one e-mail, or it is recorded that nobody knows.

Each victim finds nothing in its queue but its own e-mail, so a boundary means the same each time:

    commit.before:1   nothing is prepared          commit.after:1, send.before:1   prepared, and not handed over
    commit.before:2   sent, and not written down   commit.after:2                  all is written down
"""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from deaths import BOUNDARIES, told_without_a_gap
from enumerated import ALL, SEED, documented
from mail_server import MailServer
from mailing import ask_for_email, certificate, mail, mailing, time_passes, turn, undecided
from service import Service
from worker import KILLED, fork_worker, reap

from billing import database
from billing.tables.entities import Invoice
from jobs.road import concluding

__all__ = ["certificate", "mail"]

SENT, UNKNOWN = "sent", "in_doubt"
SOME_PAIRS = 5
ENDS = {
    "commit.before:1": (SENT, 1),
    "commit.before:2": (UNKNOWN, 1),
    "send.before:1": (UNKNOWN, 0),
    "send.after:1": (UNKNOWN, 1),
    "commit.after:1": (UNKNOWN, 0),
    "commit.after:2": (SENT, 1),
    "in RCPT": (UNKNOWN, 0),
    "in DATA": (UNKNOWN, 1),
}
"""Where a worker dies: what becomes of its e-mail, and how often it came."""


def one_or_a_recorded_unknown(service: Service, mail: MailServer, email: str) -> tuple[str, int]:
    gateway = mailing(service, mail)
    for _ in range(3):
        time_passes(service, email)
        turn(service, gateway)
    status, came = service.status(email), len(mail.of(email))
    if status.final:
        assert (status.state, came) == (SENT, 1)
    else:
        assert status.state == UNKNOWN
        assert email in undecided(service)
        assert came <= 1
        # A person reads the server's log; afterwards nothing of it waits in the queue for the next victim.
        with database.transaction(service.engines["operator"]) as session:
            concluding.conclude(session, email, actor="anna", reason="the server's log", it_happened=came == 1)
    told_without_a_gap(service, email)
    return status.state, came


def dies(service: Service, mail: MailServer, at: str) -> bool:
    """Whether a worker dies there, with what it has of its e-mail."""
    command = at.removeprefix("in ")
    if command == at:
        code = reap(fork_worker(service, "emails", at=at, gateway=mailing(service, mail)))
        assert code in (0, KILLED)
        return code == KILLED
    mail.hold = command
    pid = fork_worker(service, "emails", gateway=mailing(service, mail))
    assert mail.held.wait(60)
    os.kill(pid, signal.SIGKILL)
    assert reap(pid) == KILLED
    mail.be_well()
    return True


def carry_out(service: Service, mail: MailServer, customer: str, *deaths: str, **shows: Any) -> tuple[str, int] | None:
    """What becomes of an e-mail whose workers die there, one after the other; None if the last of them comes to its
    end."""
    email = ask_for_email(service, customer, **shows)
    died = True
    for at in deaths:
        service.relay.round()
        died = died and dies(service, mail, at)
        # What it has left is taken up by the next one without waiting until its lease is over.
        time_passes(service, email, service.timing.lease_s)
    ended = one_or_a_recorded_unknown(service, mail, email)
    return ended if died else None


def every_death(
    service: Service, mail: MailServer, customer: str, *before: str, **shows: Any
) -> Iterator[tuple[str, tuple[str, int]]]:
    for name in BOUNDARIES:
        for count in range(1, 20):
            at = f"{name}:{count}"
            if (ended := carry_out(service, mail, customer, *before, at, **shows)) is None:
                break
            yield at, ended


def an_invoice(service: Service, customer: str) -> dict[str, Any]:
    invoice = service.ask_for_invoice(customer)
    assert service.settle(invoice) == ["sent"]
    return {"template": "invoice", "data": {"invoice": service.row(Invoice, invoice).stripe_invoice}}


SHOWS: dict[str, Callable[[Service, str], dict[str, Any]]] = {
    "e-mail": lambda _service, _customer: {},
    "e-mail of an invoice": an_invoice,
}
"""What an e-mail shows: what was passed, or an invoice that is read at Stripe right before."""


@pytest.mark.parametrize("what", SHOWS)
def test_a_worker_killed_at_any_boundary_of_an_email_sends_one_or_leaves_a_recorded_unknown(
    service: Service, mail: MailServer, what: str
) -> None:
    customer = service.customer()
    shows = SHOWS[what](service, customer)
    found = dict(every_death(service, mail, customer, **shows))
    for at in ("in RCPT", "in DATA"):
        ended = carry_out(service, mail, customer, at, **shows)
        assert ended is not None
        found[at] = ended
    assert found == ENDS
    assert len(found) >= documented(what)[0]
    assert set(mail.mailbox.values()) <= {1}


@pytest.mark.parametrize("what", SHOWS)
def test_a_worker_killed_in_the_recovery_from_a_crash_sends_no_second_email(
    service: Service, mail: MailServer, what: str
) -> None:
    """A look of an e-mail calls nobody, so where nothing is sent any more there is no boundary in a call."""
    customer = service.customer()
    shows = SHOWS[what](service, customer)
    pairs = 0
    for n, first in enumerate(at for at in ENDS if not at.startswith("in ")):
        if not ALL and (SEED + n) % 3:
            # The others, by other seeds and by `make chaos`.
            found = {"commit.before:1": carry_out(service, mail, customer, first, "commit.before:1", **shows)}
        else:
            found = dict(every_death(service, mail, customer, first, **shows))
        pairs += sum(ended is not None for ended in found.values())
        print(f"{what}, {first}, seed {SEED}: {found}")
        again = found.pop("commit.before:1", None)
        assert again == (None if first == "commit.after:2" else ENDS[first])
        if first == "commit.before:1":
            # Nothing was done by the first one, so it is as if the second were the first.
            assert all(ENDS[at] == ended for at, ended in found.items())
        else:
            assert set(found.values()) <= {ENDS[first]}
    assert pairs >= (documented(what)[1] if ALL else SOME_PAIRS)
    assert set(mail.mailbox.values()) <= {1}
