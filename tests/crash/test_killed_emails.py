"""A worker killed around the sending of an e-mail: one e-mail, or it is recorded that nobody knows."""

import os
import signal
from itertools import product

from mail_server import MailServer
from mailing import ask_for_email, certificate, mail, mailing, time_passes, turn, undecided
from service import Service
from worker import KILLED, fork_worker, reap

__all__ = ["certificate", "mail"]

BOUNDARIES = ("commit.before", "send.before", "send.after", "commit.after")


def one_or_a_recorded_unknown(service: Service, mail: MailServer, email: str) -> None:
    gateway = mailing(service, mail)
    for _ in range(3):
        time_passes(service, email)
        turn(service, gateway)
    status, came = service.status(email), len(mail.of(email))
    if status.final:
        assert (status.state, came) == ("sent", 1)
    else:
        assert status.state == "in_doubt"
        assert email in undecided(service)
        assert came <= 1
    told = service.facts(email)
    assert [fact.entity_version for fact in told] == list(range(1, len(told) + 1))


def test_a_worker_killed_at_any_boundary_of_an_email_sends_one_or_leaves_a_recorded_unknown(
    service: Service, mail: MailServer
) -> None:
    customer, died = service.customer(), {}
    for name in BOUNDARIES:
        for count in range(1, 20):
            email = ask_for_email(service, customer)
            service.plan()
            code = reap(fork_worker(service, "emails", at=f"{name}:{count}", gateway=mailing(service, mail)))
            if code != KILLED:
                assert (code, service.status(email).state) == (0, "sent")
                break
            died[f"{name}:{count}"] = email
    for command in ("RCPT", "DATA"):
        email = ask_for_email(service, customer)
        service.plan()
        mail.hold = command
        pid = fork_worker(service, "emails", gateway=mailing(service, mail))
        assert mail.held.wait(60)
        os.kill(pid, signal.SIGKILL)
        assert reap(pid) == KILLED
        mail.be_well()
        died[f"in {command}"] = email
    print(f"email: {len(died)} crash points: {', '.join(died)}")
    assert len(died) >= 8
    for email in died.values():
        one_or_a_recorded_unknown(service, mail, email)
    ended = {name: (service.status(email).state, len(mail.of(email))) for name, email in died.items()}
    print(ended)
    assert (ended["in RCPT"], ended["in DATA"]) == (("in_doubt", 0), ("in_doubt", 1))
    assert ("sent", 1) in ended.values()


def test_a_worker_killed_in_the_recovery_from_a_crash_sends_no_second_email(service: Service, mail: MailServer) -> None:
    """A look of an e-mail calls nobody, so it has no boundary in the call."""
    customer = service.customer()
    for first, second in product(("send.before:1", "send.after:1"), ("commit.before:1", "commit.after:1")):
        email = ask_for_email(service, customer)
        for boundary in (first, second):
            service.relay.round()
            assert reap(fork_worker(service, "emails", at=boundary, gateway=mailing(service, mail))) == KILLED
            time_passes(service, email, service.timing.lease_s)
        one_or_a_recorded_unknown(service, mail, email)
    assert set(mail.mailbox.values()) <= {1}
