"""Incidents, each made on real servers by a real fault. A function makes one, and returns the id to be explained.

Calls are prepared and reported one by one, as one worker does it, so that each incident stands still at its moment.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from service import Service

import billing
from billing import database, effects, lineage
from billing.calls import Call
from billing.errors import RequestReused
from billing.gateway import Answer, Budget, Request, boot_clock
from billing.stripe_gateway import StripeGateway
from billing.tables.entities import Capture
from jobs.road import housekeeping

DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Incident:
    """`cause` and `command`: what the advice must be. `says`: words that the printed text must contain."""

    make: Callable[[Service], str]
    cause: str
    command: str | None
    says: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.make.__name__


INCIDENTS: list[Incident] = []


def incident(cause: str, command: str | None, *says: str) -> Callable[[Callable[[Service], str]], Callable[..., str]]:
    def listed(make: Callable[[Service], str]) -> Callable[[Service], str]:
        INCIDENTS.append(Incident(make, cause, command, says))
        return make

    return listed


# What a worker and a relay do, one turn at a time.


def prepared(service: Service, capture: str) -> Call:
    service.plan()
    return service.prepared()[capture]


def sent_into(service: Service, fault: str, path: str = "/capture$") -> str:
    """A capture whose first call met this fault."""
    service.standin.add_fault(fault, path=path, times=1)
    capture = service.ask_for_capture()
    service.report(prepared(service, capture))
    return capture


def later(service: Service, capture: str, seconds: float = 30) -> None:
    """So much time has passed for it, and a relay has come by."""
    older(service, capture, seconds)
    service.execute("UPDATE billing.work SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")
    relay(service)


def older(service: Service, capture: str, seconds: float) -> None:
    """All of this capture, its open call among it, is so much older."""
    service.age(capture, seconds)
    for table, column, of in _WHEN:
        service.execute(
            f"UPDATE billing.{table} SET {column} = {column} - make_interval(secs => :seconds) WHERE {of} = :id",
            seconds=seconds,
            id=capture,
        )


_WHEN = (
    ("captures", "requested_at", "id"),
    ("captures", "state_since", "id"),
    ("facts", "happened_at", "entity_id"),
    ("work", "created_at", "entity_id"),
)


def relay(service: Service) -> None:
    sweeps = (
        housekeeping.rescue_lapsed,
        housekeeping.hold,
        housekeeping.make_due_ready,
        housekeeping.park_unknown,
        housekeeping.look_at_stopped,
    )
    for sweep in sweeps:
        with database.transaction(service.engines["relay"]) as session:
            sweep(session)


def minutes_ago(service: Service, table: str, *columns: str) -> None:
    earlier = ", ".join(f"{column} = {column} - interval '10 minutes'" for column in columns)
    service.execute(f"UPDATE billing.{table} SET {earlier}")


def intent_of(service: Service, capture: str) -> str:
    return str(service.row(Capture, capture).payment_intent)


def by_hand(service: Service, capture: str, verb: str, body: str = "") -> None:
    service.by_hand(f"/v1/payment_intents/{intent_of(service, capture)}/{verb}", body)


def success_of(service: Service, capture: str) -> Answer:
    """What Stripe answers to this capture, under another key than ours."""
    path = f"/v1/payment_intents/{intent_of(service, capture)}/capture"
    body = f"amount_to_capture=1999&metadata[billing_operation]={capture}"
    return service.gateway().send(Request("POST", path, body, key="late"), Budget(boot_clock() + 5, boot_clock() + 10))


# Answers that were lost, or say nothing.


@incident(
    "in_doubt",
    None,
    "may have had its effect",
    "the same bytes are sent under the same key",
    "not charge again",
)
def a_lost_answer(service: Service) -> str:
    return sent_into(service, "drop_after_commit")


@incident("looked_at", None, "its key must not be sent again", "a worker asks Stripe for pi_", "replayed True")
def a_saved_500(service: Service) -> str:
    capture = sent_into(service, "500_saved")
    later(service, capture)
    service.report(prepared(service, capture))
    return capture


@incident("worker_silent", None, "it died, or hangs; Stripe may have done it", "the same bytes under the same key")
def a_worker_killed_between_call_and_settle(service: Service) -> str:
    capture = service.ask_for_capture()
    effects.call(service.gateway(), prepared(service, capture), Budget(boot_clock() + 10, boot_clock() + 20))
    older(service, capture, 10)
    return capture


@incident("in_flight", None, "a worker is making the call capture g1", "nothing: wait for its answer")
def a_call_in_flight(service: Service) -> str:
    capture = service.ask_for_capture()
    prepared(service, capture)
    return capture


@incident("undecided", None, "could not decide whether it had its effect", "in Stripe's dashboard", "not charge again")
def in_doubt_for_more_than_23_hours(service: Service) -> str:
    capture = sent_into(service, "drop_before")
    service.standin.add_fault("502_html", method="GET")
    later(service, capture, 23 * 3600 + 60)
    # It is too old to be sent: a look is planned. Seven of them were made in the meantime.
    assert service.prepared() == {}
    service.execute("UPDATE billing.idempotency_records SET looks = 7")
    service.report(service.prepared()[capture])
    return capture


@incident("look_unanswered", "billing doctor", "another account answered", "whether our key is of the right account")
def a_key_of_another_account(service: Service) -> str:
    capture = service.ask_for_capture()
    service.standin.set_keys(accounts={"sk_test_house": "acct_another00000000"})
    service.report(prepared(service, capture))
    service.report(service.prepared()[capture])
    return capture


@incident("throttled", None, "Stripe limits the rate", "did not carry out the last one", "the same key is sent again")
def rate_limited(service: Service) -> str:
    return sent_into(service, "429_rate")


@incident("not_sent", None, "nothing of capture g1 was sent: no connection", "it is tried again")
def stripe_cannot_be_reached(service: Service) -> str:
    capture = service.ask_for_capture()
    away = StripeGateway(lambda: "sk_test_house", "http://127.0.0.1:9", livemode=False, connections=1)
    call = prepared(service, capture)
    service.report(call, effects.call(away, call, Budget(boot_clock() + 10, boot_clock() + 20)).came_back)
    return capture


# What ended, and how.


@incident("ended", None, "capture.captured: the money was taken", "nothing: the money is taken")
def a_capture_that_went_well(service: Service) -> str:
    capture = service.ask_for_capture()
    service.report(prepared(service, capture))
    return capture


@incident("ended", None, "the card's issuer declined it: card_declined", "no money was taken")
def declined(service: Service) -> str:
    return sent_into(service, "402_declined")


@incident("ended", None, "the authorization lapsed before it was captured", "has to authorize it anew")
def lapsed(service: Service) -> str:
    capture = service.ask_for_capture()
    service.standin.advance(8 * DAY_S)
    service.report(prepared(service, capture))
    return capture


@incident("ended", None, "the money was taken: already_done", "nothing: the money is taken")
def captured_in_the_dashboard(service: Service) -> str:
    capture = service.ask_for_capture()
    by_hand(service, capture, "capture", "amount_to_capture=1999")
    service.report(prepared(service, capture))
    service.report(service.prepared()[capture])
    return capture


@incident("ended", None, "the authorization was canceled", "somebody canceled the authorization at Stripe")
def canceled_in_the_dashboard(service: Service) -> str:
    capture = service.ask_for_capture()
    by_hand(service, capture, "cancel")
    service.report(prepared(service, capture))
    return capture


@incident("ended", None, "more_than_authorized", "correct what the reason names, and ask under another request id")
def more_than_authorized(service: Service) -> str:
    capture = service.ask_for_capture(service.intents(amount=1500)[0], authorization=None)
    service.report(prepared(service, capture))
    return capture


@incident("ended", None, "order-1", "repeated with other parameters, it is refused", "19.99 USD")
def the_request_id_of_another_amount(service: Service) -> str:
    capture = service.ask_for_capture()
    with pytest.raises(RequestReused), database.transaction(service.engines["application"]) as session:
        billing.request_capture(
            session,
            payment_intent=intent_of(service, capture),
            amount=billing.Money(1998, "USD"),
            request_id="order-1",
        )
    service.report(prepared(service, capture))
    return "order-1"


@incident("ended", "billing invoice reopen {id} --reason WHY", "lines_differ", "a new draft is made under a new key")
def an_invoice_whose_total_differs(service: Service) -> str:
    invoice = service.ask_for_invoice()
    service.standin.add_fault("other_amount", path="/add_lines$", times=1)
    service.plan()
    service.work_off("invoices")
    return invoice


# What needs a decision.


@incident(
    "conflict",
    "billing quarantine show {work}",
    "expected 1999, found 500",
    "settle it there",
    "not charge again",
)
def another_amount_was_captured_in_the_dashboard(service: Service) -> str:
    capture = service.ask_for_capture()
    by_hand(service, capture, "capture", "amount_to_capture=500")
    service.report(prepared(service, capture))
    service.report(service.prepared()[capture])
    return capture


@incident("late_success", "billing quarantine replay {work} --reason WHY", "late_success", "may have moved after all")
def a_late_answer_contradicts_a_decline(service: Service) -> str:
    capture = service.ask_for_capture()
    first = prepared(service, capture)
    later(service, capture)
    service.standin.add_fault("402_declined", path="/capture$", times=1)
    service.report(service.prepared()[capture])
    service.report(first, success_of(service, capture))
    return capture


@incident("quarantined", "billing quarantine show {work}", "unfit", "XXX", "nothing is sent for it")
def a_row_that_fits_no_call(service: Service) -> str:
    capture = service.ask_for_capture()
    service.execute("UPDATE billing.captures SET currency = 'XXX'")
    service.plan()
    assert service.prepared() == {}
    return capture


@incident("quarantined", "billing quarantine show {work}", "5 workers or attempts failed on it", "discard if nothing")
def five_workers_died_of_it(service: Service) -> str:
    capture = service.ask_for_capture()
    for _ in range(5):
        prepared(service, capture)
        later(service, capture)
    assert service.prepared() == {}
    return capture


@incident("unsettled", "billing quarantine show {work}", "Postgres refused to store it", "not charge again")
def an_answer_that_cannot_be_stored(service: Service) -> str:
    service.execute(
        "ALTER TABLE billing.facts ADD CONSTRAINT no_answers CHECK (topic <> 'capture.attempted') NOT VALID"
    )
    capture = service.ask_for_capture()
    service.plan()
    service.work_off()
    return capture


# What is stopped, or waits for what is missing.


@incident("held", "billing switch release captures --reason WHY", "captures, pulled by anna: a drill", "ask anna first")
def a_pulled_switch(service: Service) -> str:
    service.pull("captures")
    capture = service.ask_for_capture()
    service.plan()
    relay(service)
    return capture


@incident(
    "held", "billing switch release captures --reason WHY", "a drill", "its call is in doubt, and Stripe is asked"
)
def a_switch_pulled_on_a_call_in_doubt(service: Service) -> str:
    capture = sent_into(service, "drop_after_commit")
    service.pull("captures")
    later(service, capture)
    return capture


@incident(
    "credentials", "billing doctor", "Stripe refuses our key", "correct BILLING_STRIPE_KEY", "a probe then releases"
)
def a_refused_key(service: Service) -> str:
    service.standin.add_fault("401")
    capture = service.ask_for_capture()
    service.plan()
    service.work_off()
    return capture


@incident("restored", "billing recover", "this database was restored", "a dump was restored", "--apply")
def a_restored_database(service: Service) -> str:
    capture = service.ask_for_capture()
    with database.transaction(service.engines["relay"]) as session:
        lineage.note(session, lineage.ANOTHER)
        lineage.stop(session, lineage.ANOTHER)
    service.plan()
    relay(service)
    return capture


@incident("unknown_contract", "billing contracts list", "version 99 of the contract take_capture", "start workers")
def work_of_a_newer_version(service: Service) -> str:
    capture = service.ask_for_capture()
    service.plan()
    service.execute("UPDATE billing.work SET version = 99")
    relay(service)
    return capture


@incident("set_aside", "billing doctor", "does not fit its contract", "correct what wrote it")
def a_fact_that_cannot_be_planned(service: Service) -> str:
    capture = service.ask_for_capture()
    service.execute("UPDATE billing.facts SET payload = jsonb_set(payload, '{capture_before}', '7')")
    service.plan()
    return capture


@incident("not_planned", "billing doctor", "no relay has planned it", "start a relay: probably none runs")
def no_relay_runs(service: Service) -> str:
    capture = service.ask_for_capture()
    minutes_ago(service, "captures", "state_since", "requested_at")
    minutes_ago(service, "facts", "happened_at")
    return capture


@incident("not_claimed", "billing doctor", "no worker of the queue captures has claimed it", "Redis")
def redis_was_flushed_and_nobody_rings(service: Service) -> str:
    capture = service.ask_for_capture()
    service.plan()
    service.redis.flushall()
    minutes_ago(service, "work", "state_since", "created_at")
    return capture
