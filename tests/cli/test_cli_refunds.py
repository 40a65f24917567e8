"""A refund from a shell: asked for once, followed to its end, and ended by a person where no machine may."""

import re

import pytest
from command import Run
from service import Service, eventually

from billing import database
from billing.tables.entities import Capture
from jobs.road import quarantine


def test_a_refund_is_asked_for_once_and_its_status_follows(run: Run, service: Service) -> None:
    capture = service.captured_one()
    intent = service.row(Capture, capture).payment_intent
    asked = ("refund", "--payment-intent", intent, "--amount", "500", "--currency", "usd", "--request-id", "return-1")
    first = run(*asked, "--refund-reason", "duplicate")
    assert first.status == 0, first.err
    assert f": 5.00 USD of {intent}\n" in first.out
    again = run(*asked, "--refund-reason", "duplicate")
    assert "asked for before" in again.out
    refund = first.out.partition(":")[0]
    assert service.settle(refund) == ["succeeded"]
    told = run("status", "return-1", "--wait")
    assert (told.status, f"{refund}: succeeded, since " in told.out) == (0, True)
    assert run("status", capture, "--json").json["refunds_minor"] == 500
    rest = run("refund", "--capture", capture, "--request-id", "return-2")
    assert f": 14.99 USD of {capture}\n" in rest.out
    story = run("explain", refund)
    assert (story.status, intent in story.out) == (0, True)


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (("--amount", "2000", "--currency", "USD"), "1999 USD are left of it, not 2000"),
        (("--amount", "5"), "--amount and --currency belong together"),
        (("--currency", "USD"), "--amount and --currency belong together"),
        (("--refund-reason", "regret"), "must be one of duplicate, fraudulent, requested_by_customer"),
        (("--charge", "ch_1"), "one of the four"),
        (("--amount", "5", "--currency", "EUR"), "cannot be given back of a capture in USD"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_cannot_be_given_back_is_refused_in_one_line(
    run: Run, service: Service, asked: tuple[str, ...], problem: str
) -> None:
    capture = service.captured_one()
    ran = run("refund", "--capture", capture, "--request-id", "return-1", *asked)
    assert (ran.status, problem in ran.err, ran.err.count("\n")) == (2, True, 1), ran.err
    assert service.row(Capture, capture).refunds_minor == 0


def undecided(service: Service) -> str:
    """A refund that Stripe answered with a saved 500."""
    refund = service.ask_for_refund(service.captured_one())
    service.standin.add_fault("500_saved", path="/v1/refunds$", method="POST", times=1)

    def parked() -> bool:
        service.relay.round()
        service.work_off("refunds")
        with database.transaction(service.engine) as session:
            return bool(quarantine.undecided(session))

    eventually(parked, "it is undecided")
    return refund


def look_again(service: Service, refund: str) -> None:
    """It is looked at once more."""
    service.execute("UPDATE billing.idempotency_records SET look_at = now() WHERE look_at IS NOT NULL")
    looks = service.record(refund).looks

    def looked() -> bool:
        service.relay.round()
        service.work_off("refunds")
        return service.record(refund).looks > looks

    eventually(looked, "it is looked at")


def test_an_undecided_refund_is_listed_and_a_person_concludes_it_a_day_later(run: Run, service: Service) -> None:
    """[69, 70]"""
    refund = undecided(service)
    capture = run("explain", refund, "--json").json["operations"][0]["request"]["capture"]
    assert refund in run("quarantine", "list", "--undecided").out
    conclude = ("quarantine", "conclude", refund, "--reason", "Stripe's support: nothing, INC-12")
    early = run(*conclude)
    assert (early.status, "may still be carried out; not before" in early.err) == (2, True), early.err
    service.age(refund, 25 * 3600)
    service.execute("UPDATE billing.idempotency_records SET looked_at = looked_at - interval '25 hours'")
    assert "was not looked at since" in run(*conclude).err
    look_again(service, refund)
    assert service.status(refund).state == "in_doubt"
    done = run(*conclude, "--actor", "grace")
    assert (done.status, f"{refund} is refused: refund g1 is concluded to have done nothing" in done.out) == (0, True)
    assert service.status(refund).state == "refused"
    assert service.row(Capture, capture).refunds_minor == 0
    assert service.facts(refund)[-1].actor == "grace"
    assert service.facts(refund)[-1].payload["why"] == "ruled_out"
    assert "has no undecided call" in run(*conclude).err
    assert len({post["key"] for post in service.posts("/v1/refunds")}) == 1
    again = service.ask_for_refund(capture)
    assert service.settle(again) == ["succeeded"]


def test_what_a_look_decides_no_person_concludes(run: Run, service: Service) -> None:
    """A capture is proven absent; and an operation that nobody knows is none."""
    capture = service.ask_for_capture()
    service.standin.add_fault("drop_before", path="/capture$", times=1)
    service.plan()
    service.work_off()
    refused = run("quarantine", "conclude", capture, "--reason", "INC-12")
    assert (refused.status, "has no undecided call" in refused.err) == (2, True)
    service.execute("UPDATE billing.idempotency_records SET state = 'in_doubt', parked_at = now()")
    refused = run("quarantine", "conclude", capture, "--reason", "INC-12")
    assert "is decided by looks at Stripe" in refused.err
    assert run("quarantine", "conclude", "ref_1", "--reason", "INC-12").status == 2


# What undoes a capture.


def test_a_capture_is_undone_by_any_id_that_leads_to_it_and_both_say_so(run: Run, service: Service) -> None:
    capture = service.captured_one()
    row = service.row(Capture, capture)
    first = run("compensate", row.payment_intent, "--reason", "OPS-7", "--actor", "grace")
    assert first.status == 0, first.err
    refund = first.out.partition(":")[0]
    assert f"{refund}: 19.99 USD of {capture}, once it is captured\n" in first.out
    assert "asked for before" in run("compensate", row.request_id, "--reason", "OPS-7").out
    assert service.facts(refund)[0].actor == "grace"
    assert service.settle(refund) == ["succeeded"]
    assert f"compensated_by: {refund}" in run("explain", capture).out
    told = run("explain", refund).out
    assert f"compensates: {capture}" in told
    assert "do: nothing: the money is given back" in told


def test_a_compensation_that_waits_says_for_which_capture(run: Run, service: Service) -> None:
    capture = service.ask_for_capture()
    service.plan()
    service.prepared()
    refund = service.compensate(capture)
    service.plan()
    service.work_off("refunds")
    told = run("explain", refund).out
    assert re.search(rf"^why: it waits until .* UTC \({capture} must be over first\)$", told, re.MULTILINE), told
    assert "do: nothing: a worker goes on by itself" in told


def test_what_nothing_undoes_says_why_and_what_is_not_clear_is_named(run: Run, service: Service) -> None:
    void = service.ask_for_void()
    ran = run("compensate", void, "--reason", "OPS-7")
    assert (ran.status, f"{void} is a void; what undoes it: nothing: what was held is free again" in ran.err) == (
        2,
        True,
    )
    captures = [service.ask_for_capture(correlation_id="basket-7") for _ in range(2)]
    ran = run("compensate", "basket-7", "--reason", "OPS-7")
    assert (ran.status, all(each in ran.err for each in captures)) == (2, True)
    ran = run("compensate", captures[0], "--reason", "OPS-7", "--refund-reason", "regret")
    assert (ran.status, "must be one of duplicate, fraudulent" in ran.err) == (2, True)
