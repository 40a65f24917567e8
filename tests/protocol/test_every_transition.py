"""Every transition that billing/states draws is walked here on real servers, by whom it says, and no other is."""

from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

from compared import differences, open_classes, reconcile, settled
from mailing import ask_for_email
from protocol_model import error, intent, response
from reports import delivery_report, feedback_report
from service import Service, Through
from sqlalchemy.orm import Session
from transitions import DECLARED, DRAWN, walks
from undecided_charge import undecided_first_charge

import billing
from archive.format.manifests import Source
from archive.policy import retention_file
from archive.writing.batch_size import BatchSize
from archive.writing.writer import Writer
from billing import database, documents, inbox
from billing.calls import Call
from billing.email_notices import event_of as event_of_notice
from billing.events import event_of
from billing.gateway import Answer, NotSent, Request, Response
from billing.learned import Learned
from billing.schedules import SCHEDULES
from billing.steps import LookResult
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import Capture, Invoice, Refund
from billing.tables.invoice_actions import InvoiceAction
from jobs.email.reports import read as read_report
from jobs.local.seaweed import SeaweedFS
from jobs.reconciliation import differences as by_hand
from jobs.road import concluding, housekeeping, quarantine, ticks
from jobs.schedules.functions import Functions, Invocation

DAY_S = 24 * 3600


def test_every_transition_that_is_drawn_is_walked_by_a_scenario() -> None:
    assert DECLARED == DRAWN, (sorted(DRAWN - DECLARED), sorted(DECLARED - DRAWN))


# What happens between one transaction and the next.


def later(service: Service, *ids: str, seconds: float = 60) -> None:
    """So much time passes for these."""
    for each in ids:
        service.age(each, seconds)
    service.execute("UPDATE billing.work SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")


def relay(service: Service, *sweeps: Callable[[Session], int]) -> None:
    for sweep in sweeps:
        with database.transaction(service.engines["relay"]) as session:
            sweep(session)


def silent(service: Service, *captures: str) -> dict[str, Call]:
    """Their calls are prepared by a worker that is silent from then on; a minute later they are ready again."""
    service.plan()
    calls = service.prepared(most=len(captures))
    later(service, *captures)
    relay(service, housekeeping.rescue_lapsed)
    return calls


def success(call: Call, **changes: object) -> Answer:
    return response(200, intent(**{"id": call.request.path.split("/")[3], **changes}))


def sent_into(service: Service, fault: str, count: int = 1) -> list[str]:
    """Captures whose first send met this fault."""
    service.standin.add_fault(fault, path="/capture$", times=count)
    captures = [service.ask_for_capture(each) for each in service.intents(count)]
    service.plan()
    service.work_off()
    return captures


def state_of(service: Service, *ids: str) -> list[str]:
    return [service.work(each).state for each in ids]


def captured_by_hand(service: Service, capture: str, amount: int) -> None:
    payment_intent = service.row(Capture, capture).payment_intent
    service.by_hand(f"/v1/payment_intents/{payment_intent}/capture", f"amount_to_capture={amount}")


def refuse_answers(service: Service, *captures: str) -> None:
    """Postgres refuses to store what calls and looks of these bring."""
    service.execute(
        "ALTER TABLE billing.facts ADD CONSTRAINT refused CHECK (NOT (topic IN ('capture.attempted', 'capture.looked')"
        f" AND entity_id = ANY ('{{{','.join(captures)}}}'))) NOT VALID"
    )


def set_version(service: Service, version: int, *captures: str) -> None:
    """As if a relay of another version had planned their work."""
    service.execute(
        "UPDATE billing.work SET version = :version WHERE entity_id = ANY (:ids)", version=version, ids=list(captures)
    )


# Captures.


@walks(
    "capture requested → captured",
    "record planned, in_doubt → sent",
    "record sent → planned, in_doubt, answered",
    "work ready → running",
    "work running → waiting, done",
    "work waiting → ready by relay",
)
def test_a_call_that_was_throttled_or_lost_is_sent_again(service: Service) -> None:
    captures = [*sent_into(service, "429_rate"), *sent_into(service, "drop_before")]
    later(service)
    relay(service, housekeeping.make_due_ready)
    service.work_off()
    assert state_of(service, *captures) == ["done", "done"]


@walks(
    "record planned, in_doubt → answered, disproved, conflict, unsettled",
    "record conflict, unsettled → in_doubt by operator",
    "work ready → waiting",
    "work waiting → ready, done, quarantined",
    "work quarantined → ready by operator",
)
def test_a_day_later_a_call_is_looked_at_whatever_became_of_it(service: Service) -> None:
    throttled, in_doubt = sent_into(service, "429_rate", 4), sent_into(service, "drop_before", 4)
    for _, done, otherwise, _ in (throttled, in_doubt):
        captured_by_hand(service, done, 1999)
        captured_by_hand(service, otherwise, 500)
    refuse_answers(service, throttled[3], in_doubt[3])
    later(service, *throttled, *in_doubt, seconds=DAY_S)
    relay(service, housekeeping.make_due_ready)
    service.work_off()
    for captures in (throttled, in_doubt):
        assert state_of(service, *captures) == ["done", "done", "quarantined", "quarantined"]
    service.replay(*throttled[2:], *in_doubt[2:])


@walks(
    "capture requested → declined, expired, canceled, refused",
    "capture declined, expired, canceled, refused → requested by operator",
    "record answered → conflict",
    "work running → ready by relay",
    "work done → quarantined",
)
def test_a_late_success_contradicts_a_refusal_and_a_person_has_it_looked_at(service: Service) -> None:
    unconfirmed = service.by_hand("/v1/payment_intents", "amount=1999&currency=usd&capture_method=manual")
    declined, expired, canceled = service.intents(3)
    captures = [service.ask_for_capture(each) for each in (declined, expired, canceled, unconfirmed)]
    first = silent(service, *captures)
    service.standin.add_fault("402_declined", path=f"{declined}/capture$")
    service.by_hand(f"/v1/payment_intents/{canceled}/cancel")
    service.standin.advance(8 * DAY_S)
    service.work_off()
    assert [service.status(each).state for each in captures] == ["declined", "expired", "canceled", "refused"]
    for call in first.values():
        service.report(call, success(call))
    service.replay(*captures)


@walks("record conflict → answered by operator", "work ready → done")
def test_a_late_mismatch_after_a_success_is_history_once_a_person_says_so(service: Service) -> None:
    capture = service.ask_for_capture()
    first = silent(service, capture)[capture]
    service.work_off()
    service.report(first, success(first, amount_received=1))
    service.replay(capture)
    service.work_off()
    assert state_of(service, capture) == ["done"]


@walks(
    "record disproved → conflict",
    "record conflict → disproved by operator",
    "record planned, sent → in_doubt by operator",
    "record in_doubt → planned",
    "work ready, running → quarantined",
)
def test_a_late_success_of_a_disproved_key_has_its_successor_looked_at(service: Service) -> None:
    captures = planned, sent = [service.ask_for_capture(each) for each in service.intents(2)]
    first = silent(service, *captures)
    later(service, *captures, seconds=DAY_S)
    assert service.prepared(most=2) == {}, "they are too old to be sent"
    for look in service.prepared(most=2).values():
        service.report(look)
    service.report(first[planned], success(first[planned]))
    second = service.prepared()[sent]
    service.report(first[sent], success(first[sent]))
    later(service, sent)
    service.replay(*captures)
    service.report(second, NotSent("too late"))


@walks(
    "record sent → conflict, unsettled",
    "record conflict → unsettled",
    "record unsettled → conflict",
)
def test_an_answer_that_cannot_be_stored_is_kept_and_may_be_contradicted(service: Service) -> None:
    captures = contradicted, kept = [service.ask_for_capture(each) for each in service.intents(2)]
    first = silent(service, *captures)
    refuse_answers(service, *captures)

    def before(request: Request) -> None:
        if request.path == first[contradicted].request.path:
            service.report(first[contradicted], success(first[contradicted], amount_received=1))

    service.work_off(gateway=Through(service, before=before))
    assert [service.record(each).state for each in captures] == ["unsettled", "unsettled"]
    service.report(first[kept], success(first[kept], amount_received=1))


# What stops work, and what is found out meanwhile.


@walks(
    "switch pulled → released by operator",
    "work ready, waiting → held by relay",
    "work held → done, quarantined",
    "work held → ready by relay",
    "work ready → parked",
)
def test_what_a_switch_holds_is_looked_at_and_goes_on_when_it_is_released(service: Service) -> None:
    untouched, done, otherwise = sent_into(service, "drop_before", 3)
    ready = service.ask_for_capture()
    service.plan()
    captured_by_hand(service, done, 1999)
    captured_by_hand(service, otherwise, 500)
    service.pull("captures")
    relay(service, housekeeping.hold, housekeeping.look_at_stopped)
    sent = len(service.posts("/capture"))
    service.work_off()
    assert state_of(service, untouched, done, otherwise, ready) == ["held", "done", "quarantined", "held"]
    assert len(service.posts("/capture")) == sent
    service.release("captures")
    relay(service, housekeeping.release_held)
    # A look of it is due, and this worker may not be the newest.
    set_version(service, 99, untouched)
    later(service, untouched)
    service.work_off()
    assert state_of(service, untouched, ready) == ["parked", "done"]


@walks("work ready → parked by relay", "work parked → ready by relay", "work parked → done, quarantined")
def test_work_of_an_unknown_contract_is_looked_at_and_goes_on_when_it_is_known(service: Service) -> None:
    captures = untouched, done, otherwise = sent_into(service, "drop_before", 3)
    captured_by_hand(service, done, 1999)
    captured_by_hand(service, otherwise, 500)
    later(service)
    relay(service, housekeeping.make_due_ready)
    set_version(service, 99, *captures)
    relay(service, housekeeping.park_unknown, housekeeping.look_at_stopped)
    service.work_off()
    assert state_of(service, *captures) == ["parked", "done", "quarantined"]
    set_version(service, 1, untouched)
    relay(service, housekeeping.park_unknown)
    assert state_of(service, untouched) == ["ready"]


@walks("work waiting → running", "work ready, waiting → held", "work running, waiting → parked")
def test_a_worker_stops_what_the_relay_has_not_seen_yet(service: Service) -> None:
    held, parked = sent_into(service, "drop_before", 2)
    service.standin.add_fault("502_html", method="GET")
    unread = service.ask_for_capture(authorization=None)
    service.plan()
    later(service, held, parked, seconds=DAY_S)
    relay(service, housekeeping.make_due_ready)
    service.work_off()
    assert state_of(service, held, parked, unread) == ["waiting"] * 3, "the looks were not answered"
    service.standin.clear_faults()
    ready = service.ask_for_capture()
    service.plan()
    set_version(service, 99, parked, unread)
    service.pull("captures")
    later(service, held, parked, unread)
    service.work_off()
    assert state_of(service, ready, held, parked, unread) == ["held", "held", "parked", "parked"]


@walks("switch pulled → released by relay")
def test_a_relay_records_that_the_time_of_a_switch_is_over(service: Service) -> None:
    service.pull("captures")
    service.execute("UPDATE billing.switches SET expires_at = clock_timestamp()")
    relay(service, housekeeping.release_expired)


@walks("work running → held", "switch pulled → released")
def test_refused_credentials_hold_work_until_a_probe_is_accepted(service: Service) -> None:
    (capture,) = sent_into(service, "401")
    assert state_of(service, capture) == ["held"]
    service.plan()
    service.work_off()


@walks("record sent → in_doubt", "work ready → quarantined", "work quarantined → done")
def test_a_call_that_five_workers_died_of_is_looked_at_and_found_done(service: Service) -> None:
    """[63]"""
    capture = service.ask_for_capture()
    for _ in range(5):
        silent(service, capture)
    captured_by_hand(service, capture, 1999)
    service.work_off()
    assert state_of(service, capture) == ["done"]
    assert len(service.posts("/capture")) == 1, "none but the one by hand"


@walks(
    "capture requested → refused by operator",
    "void requested → refused by operator",
    "invoice requested → refused by operator",
    "record planned → disproved by operator",
    "work quarantined → done by operator",
)
def test_what_nothing_was_sent_for_is_discarded(service: Service) -> None:
    capture, void, invoice = service.ask_for_capture(), service.ask_for_void(), service.ask_for_invoice()
    service.plan()
    service.report(service.prepared()[capture], NotSent("too late"))
    later(service, capture)
    relay(service, housekeeping.make_due_ready)
    service.execute("UPDATE billing.work SET attempts = 5")
    service.work_off()
    service.work_off("invoices")
    assert state_of(service, capture, void, invoice) == ["quarantined"] * 3
    service.discard(capture, void, invoice)
    assert [service.status(each).state for each in (capture, void, invoice)] == ["refused"] * 3
    assert service.posts("/capture") == service.posts("/cancel") == []


# Voids.


@walks("void requested → voided, refused, expired", "void refused, expired → requested by operator")
def test_a_late_success_contradicts_a_void_that_failed_and_a_person_has_it_looked_at(service: Service) -> None:
    assert service.settle(service.ask_for_void()) == ["voided"]
    captured, lapsed = service.intents(2)
    voids = [service.ask_for_void(each) for each in (captured, lapsed)]
    # What is held is known, so the next call is the cancel.
    service.execute("UPDATE billing.voids SET held_minor = 1999, currency = 'USD'")
    first = silent(service, *voids)
    service.by_hand(f"/v1/payment_intents/{captured}/capture")
    service.standin.advance(8 * DAY_S)
    service.work_off()
    assert [service.status(each).state for each in voids] == ["refused", "expired"]
    for call in first.values():
        service.report(call, success(call, status="canceled", amount_received=0))
    service.replay(*voids)


# Invoices.


def touched(service: Service, path_end: str, hand: Callable[[str], Answer | None]) -> str:
    """An invoice that is carried out while this is done with its draft just before the call on this path."""
    invoice = service.ask_for_invoice()

    def before(request: Request) -> Answer | None:
        ours = request.method == "POST" and request.path.endswith(path_end)
        return hand(service.row(Invoice, invoice).stripe_invoice) if ours else None

    service.settle(invoice, gateway=Through(service, before=before))
    return invoice


@walks(
    "invoice requested → drafted",
    "invoice drafted → lines_added",
    "invoice lines_added → finalized",
    "invoice finalized → sent",
)
def test_an_invoice_is_drafted_filled_finalized_and_sent(service: Service) -> None:
    assert service.settle(service.ask_for_invoice()) == ["sent"]


@walks("invoice requested → refused", "invoice refused → requested by operator", "work done → ready by operator")
def test_an_invoice_that_stripe_refuses_to_make_is_reopened(service: Service) -> None:
    invoice = service.ask_for_invoice("cus_nobody")
    service.settle(invoice)
    service.reopen(invoice)


@walks(
    "invoice drafted → lines_differ, refused",
    "invoice lines_added → lines_differ, refused",
    "invoice lines_differ → refused",
)
def test_a_draft_that_other_hands_touched_is_deleted_or_gone(service: Service) -> None:
    def edit(draft: str) -> None:
        service.by_hand(f"/v1/invoices/{draft}/add_lines", "lines[0][amount]=77&lines[0][description]=by hand")

    def delete(draft: str) -> None:
        service.by_hand(f"/v1/invoices/{draft}", method="DELETE")

    invoices = [touched(service, "/add_lines", edit), touched(service, "/finalize", lambda _draft: error(400))]
    invoices += [touched(service, path, delete) for path in ("/add_lines", "/finalize")]
    assert {service.status(each).state for each in invoices} == {"refused"}


@walks(
    "invoice finalized → paid, refused, voided, uncollectible",
    "invoice refused → finalized by operator",
)
def test_other_hands_end_an_open_invoice_before_it_is_sent(service: Service) -> None:
    def pay(invoice: str) -> None:
        service.by_hand(f"/v1/invoices/{invoice}/pay", "paid_out_of_band=true")

    def void(invoice: str) -> None:
        service.by_hand(f"/v1/invoices/{invoice}/void")

    def give_up(invoice: str) -> None:
        service.by_hand(f"/v1/invoices/{invoice}/mark_uncollectible")

    hands = (pay, void, give_up)
    assert [service.status(touched(service, "/send", hand)).state for hand in hands] == [
        *("paid", "voided", "uncollectible")
    ]
    refused = touched(service, "/send", lambda _invoice: error(400))
    service.reopen(refused)
    assert service.status(refused).state == "finalized"


@walks("invoice finalized → paid, unpaid")
def test_an_invoice_is_charged_or_not(service: Service) -> None:
    charge = billing.ChargeAutomatically()
    customer, _ = service.payer()
    invoices = [service.ask_for_invoice(each, collect=charge) for each in (customer, service.customer())]
    assert service.settle(*invoices) == ["paid", "unpaid"]


@walks(
    "invoice sent, unpaid → paid, voided, uncollectible",
    "invoice uncollectible → paid, voided",
)
def test_what_happens_to_an_open_invoice_at_stripe_is_looked_at_once_it_is_noticed(service: Service) -> None:
    def observed(invoice: str, *verbs: str) -> list[str]:
        states = []
        for verb in verbs:
            form = "paid_out_of_band=true" if verb == "pay" else ""
            service.by_hand(f"/v1/invoices/{service.row(Invoice, invoice).stripe_invoice}/{verb}", form)
            service.notice(invoice)
            service.plan()
            service.work_off("invoices")
            states.append(service.status(invoice).state)
        return states

    for collect in (billing.SendInvoice(14), billing.ChargeAutomatically()):
        for verbs in (["pay"], ["void"], ["mark_uncollectible", "pay"], ["mark_uncollectible", "void"]):
            invoice = service.ask_for_invoice(collect=collect)
            service.settle(invoice)
            ends = {"pay": "paid", "void": "voided", "mark_uncollectible": "uncollectible"}
            assert observed(invoice, *verbs) == [ends[verb] for verb in verbs]


# What is done with an invoice on request.


def finalized(service: Service, card: str = "pm_card_visa") -> str:
    """An invoice that is not paid, of a customer who has this card by now."""
    customer, _ = service.payer(card)
    invoice = service.ask_for_invoice(customer, collect=billing.ChargeAutomatically())
    service.settle(invoice, gateway=Through(service, before=lambda each: error(402) if "/pay" in each.path else None))
    return invoice


@walks(
    "invoice_action requested → done, declined, refused",
    "invoice unpaid → paid",
    "invoice_action requested → refused by operator",
)
def test_an_action_is_carried_out_declined_or_too_late(service: Service) -> None:
    paid, declined, discarded = finalized(service), finalized(service, "pm_card_chargeCustomerFail"), finalized(service)
    actions = [service.act_on(each, "pay_invoice") for each in (paid, declined, paid)]
    assert service.settle(*actions) == ["done", "declined", "refused"]
    action = service.act_on(discarded, "void_invoice")
    service.plan()
    service.report(service.prepared("invoices")[action], NotSent("too late"))
    later(service, action)
    relay(service, housekeeping.make_due_ready)
    service.execute("UPDATE billing.work SET attempts = 5")
    service.work_off("invoices")
    service.discard(action)


@walks("invoice_action requested → refused, declined by operator")
def test_an_undecided_charge_on_request_is_concluded_by_an_operator(service: Service) -> None:
    for it_happened, state in ((True, "declined"), (False, "refused")):
        action = service.act_on(finalized(service, "pm_card_chargeCustomerFail"), "pay_invoice")
        # Somebody else's attempt: whether ours was made, too, nothing shows.
        attempted_by_hand(service, service.row(InvoiceAction, action).stripe_invoice)
        service.plan()
        service.prepared("invoices")
        later(service, action, seconds=2 * DAY_S)
        relay(service, housekeeping.rescue_lapsed)
        service.work_off("invoices")
        with database.transaction(service.engines["operator"]) as session:
            concluding.conclude(session, action, actor="anna", reason="Stripe's log", it_happened=it_happened)
        assert service.status(action).state == state


@walks("invoice finalized → unpaid by operator")
def test_an_undecided_charge_of_an_invoice_is_concluded_by_an_operator(service: Service) -> None:
    for it_happened in (True, False):
        invoice = undecided_first_charge(service)
        with database.transaction(service.engines["operator"]) as session:
            concluding.conclude(session, invoice, actor="anna", reason="Stripe's log", it_happened=it_happened)
        assert service.status(invoice).state == "unpaid"


def attempted_by_hand(service: Service, at_stripe: str) -> None:
    with suppress(AssertionError):  # a 402
        service.by_hand(f"/v1/invoices/{at_stripe}/pay")


@walks("invoice_action declined, refused → requested by operator")
def test_an_action_that_a_late_success_contradicts_is_set_back(service: Service) -> None:
    invoices = unpaid, paid = [finalized(service, "pm_card_chargeCustomerFail"), finalized(service)]
    asked = [service.act_on(unpaid, "pay_invoice"), service.act_on(paid, "void_invoice")]
    service.plan()
    first = service.prepared("invoices", most=2)
    later(service, *asked)
    relay(service, housekeeping.rescue_lapsed)
    there = [service.row(Invoice, each).stripe_invoice for each in invoices]
    service.by_hand(f"/v1/invoices/{there[1]}/pay", "paid_out_of_band=true")
    assert service.settle(*asked) == ["declined", "refused"]
    for action, at_stripe, status in zip(asked, there, ("paid", "void"), strict=True):
        shown = {"id": at_stripe, "object": "invoice", "livemode": False, "currency": "eur", "total": 4501}
        service.report(first[action], response(200, {**shown, "status": status}))
    assert state_of(service, *asked) == ["quarantined", "quarantined"]
    service.replay(*asked)


# Events.


@walks("event received → matched, unknown, ignored by relay")
def test_an_event_is_matched_or_after_an_hour_somebody_elses(service: Service) -> None:
    capture = service.ask_for_capture()
    subjects = (service.row(Capture, capture).payment_intent, "pi_of_nobody", "cus_1")
    said = {"object": "event", "type": "a.b", "livemode": False, "created": 1_790_000_000}
    read = [
        event_of({**said, "id": f"evt_{id_}", "data": {"object": {"id": id_}}}, source="webhook") for id_ in subjects
    ]
    with database.transaction(service.engines["web"]) as session:
        inbox.put(session, [each for each in read if each is not None])
    service.execute("UPDATE billing.received_events SET received_at = received_at - interval '2 hours'")
    relay(service, housekeeping.match_events)


# Refunds.


def refund_at_stripe(service: Service, refund: str, status: str) -> dict[str, object]:
    """This refund as Stripe shows it."""
    row = service.row(Refund, refund)
    named = {"id": f"re_{refund[4:]}", "object": "refund", "payment_intent": row.payment_intent}
    metadata = {"billing_operation": refund}
    return {**named, "amount": row.amount_minor, "currency": "usd", "status": status, "metadata": metadata}


def answered(service: Service, capture: str, status: str) -> str:
    """A refund whose call Stripe has answered so. Its payment is free again for the next one."""
    refund = service.ask_for_refund(capture, 100)
    service.plan()
    (call,) = service.prepared("refunds").values()
    service.report(call, response(200, refund_at_stripe(service, refund, status)))
    return refund


def observed(service: Service, refund: str, *statuses: str) -> None:
    """Its looks show these, one after the other."""
    for status in statuses:
        later(service, refund)
        relay(service, housekeeping.rescue_lapsed)
        (call,) = service.prepared("refunds").values()
        service.report(call, LookResult(Learned.SUCCEEDED, refund_at_stripe(service, refund, status)))


@walks("refund requested → pending, requires_action, succeeded, failed, canceled, refused")
def test_a_refund_is_what_stripe_answers(service: Service) -> None:
    capture = service.captured_one()
    for status in ("succeeded", "failed", "canceled"):
        refund = answered(service, capture, status)
        assert service.status(refund).state == status
    refused = service.ask_for_refund(capture, 100)
    service.plan()
    service.report(service.prepared("refunds")[refused], error(400, code="charge_disputed"))
    assert service.status(refused).state == "refused"
    for status in ("pending", "requires_action"):
        assert service.status(answered(service, service.captured_one(), status)).state == status


@walks(
    "refund pending → requires_action, succeeded, failed, canceled",
    "refund requires_action → pending, succeeded, failed, canceled",
)
def test_a_refund_that_takes_time_is_observed_until_it_has_ended(service: Service) -> None:
    capture = service.captured_one()
    for end in ("succeeded", "failed", "canceled"):
        refund = answered(service, capture, "pending")
        observed(service, refund, "requires_action", "pending", end)
        assert service.status(refund).state == end
        refund = answered(service, capture, "requires_action")
        observed(service, refund, end)
        assert service.status(refund).state == end


@walks("refund succeeded → failed")
def test_a_refund_whose_money_the_bank_returned_is_looked_at_once_that_is_noticed(service: Service) -> None:
    capture = service.captured_one(card="pm_card_refundFail")
    refund = service.ask_for_refund(capture)
    assert service.settle(refund) == ["succeeded"]
    service.standin.advance(60)
    service.notice(refund)
    service.plan()
    service.work_off("refunds")
    status = service.status(refund)
    assert (status.state, status.reason) == ("failed", "expired_or_canceled_card")
    # The amount may be asked for again.
    assert service.status(capture).refunds_minor == 0


@walks("refund requested → refused by operator")
def test_a_refund_for_which_nothing_was_sent_is_discarded(service: Service) -> None:
    refund = service.ask_for_refund(service.captured_one())
    service.plan()
    service.execute("UPDATE billing.work SET attempts = 5 WHERE entity_id = :id", id=refund)
    service.work_off("refunds")
    service.discard(refund)
    assert service.status(refund).state == "refused"


@walks(
    "record in_doubt → disproved by operator",
    "refund requested → refused by operator",
    "work waiting → done by operator",
)
def test_a_refund_that_no_look_can_decide_is_concluded_by_an_operator(service: Service) -> None:
    refund = service.ask_for_refund(service.captured_one())
    service.plan()
    service.prepared("refunds")
    later(service, refund, seconds=2 * DAY_S)
    relay(service, housekeeping.rescue_lapsed)
    service.work_off("refunds")
    with database.transaction(service.engines["operator"]) as session:
        concluding.conclude(session, refund, actor="anna", reason="nothing at Stripe")
    assert service.status(refund).state == "refused"


@walks("refund refused → requested by operator")
def test_a_refund_that_a_late_success_contradicts_is_looked_at_after_a_replay(service: Service) -> None:
    capture = service.captured_one()
    refund = service.ask_for_refund(capture)
    service.plan()
    (late,) = service.prepared("refunds").values()
    later(service, refund)
    relay(service, housekeeping.rescue_lapsed)
    (call,) = service.prepared("refunds").values()
    service.execute("UPDATE billing.idempotency_records SET unanswered = 1")
    service.report(call, error(400, code="charge_disputed"))
    assert (service.status(refund).state, service.status(capture).refunds_minor) == ("refused", 0)
    service.report(late)
    assert service.status(refund).state == "conflict"
    service.replay(refund)
    assert service.status(capture).refunds_minor == 500
    later(service, refund)
    assert service.settle(refund) == ["succeeded"]
    assert service.refunded(refund) == [500]


# Credit notes.


@walks("credit_note requested → issued, refused", "credit_note issued → voided")
def test_a_credit_note_is_issued_or_refused_and_may_be_voided_at_stripe(service: Service) -> None:
    invoice = service.sent_invoice()
    note = service.credit(invoice, 500)
    assert service.settle(note) == ["issued"]
    service.by_hand(f"/v1/credit_notes/{service.row(CreditNote, note).stripe_credit_note}/void")
    service.notice(note)
    service.plan()
    service.work_off("invoices")
    assert service.status(note).state == "voided"
    service.by_hand(f"/v1/invoices/{service.row(Invoice, invoice).stripe_invoice}/void")
    assert service.settle(service.credit(invoice, 500)) == ["refused"]


@walks("credit_note requested → refused by operator")
def test_a_credit_note_for_which_nothing_was_sent_is_discarded(service: Service) -> None:
    note = service.credit(service.sent_invoice(), 500)
    service.plan()
    service.execute("UPDATE billing.work SET attempts = 5 WHERE entity_id = :id", id=note)
    service.work_off("invoices")
    service.discard(note)
    assert service.status(note).state == "refused"


@walks("credit_note refused → requested by operator")
def test_a_credit_note_that_a_late_success_contradicts_is_looked_at_after_a_replay(service: Service) -> None:
    invoice = service.sent_invoice()
    note = service.credit(invoice, 500)
    service.plan()
    (late,) = service.prepared("invoices").values()
    later(service, note)
    relay(service, housekeeping.rescue_lapsed)
    (call,) = service.prepared("invoices").values()
    service.execute("UPDATE billing.idempotency_records SET unanswered = 1 WHERE operation_id = :id", id=note)
    service.report(call, error(400, param="amount"))
    assert (service.status(note).state, service.row(Invoice, invoice).credited_minor) == ("refused", 0)
    service.report(late)
    assert service.status(note).state == "conflict"
    service.replay(note)
    assert service.row(Invoice, invoice).credited_minor == 500
    later(service, note)
    assert service.settle(note) == ["issued"]
    assert service.credited(note) == [500]


# E-mails.


def prepared_email(service: Service) -> tuple[str, Call]:
    email = ask_for_email(service, "cus_1")
    service.plan()
    return email, service.prepared("emails")[email]


def undecided_email(service: Service) -> tuple[str, Call]:
    """Its worker is silent, and a look a minute later shows nothing."""
    email, call = prepared_email(service)
    for _ in range(2):
        later(service, email, seconds=120)
        relay(service, housekeeping.rescue_lapsed)
        service.work_off("emails")
    return email, call


ACCEPTED = Response(200, b"{}", {"id": "4XyZ1", "livemode": False}, "4XyZ1", replayed=False)


@walks("email requested → sent, refused")
def test_an_email_is_what_the_mail_server_answers(service: Service) -> None:
    accepted, call = prepared_email(service)
    service.report(call, ACCEPTED)
    refused, call = prepared_email(service)
    service.report(call, error(400, code="smtp_550"))
    assert [service.status(each).state for each in (accepted, refused)] == ["sent", "refused"]


@walks(
    "email requested → sent, refused by operator",
    "record in_doubt → answered, disproved by operator",
    "work waiting → done by operator",
)
def test_an_undecided_email_is_concluded_by_an_operator(service: Service) -> None:
    for it_happened, state in ((True, "sent"), (False, "refused")):
        email, _ = undecided_email(service)
        with database.transaction(service.engines["operator"]) as session:
            concluding.conclude(session, email, actor="anna", reason="the server's log", it_happened=it_happened)
        assert service.status(email).state == state


def told(service: Service, *messages: bytes) -> None:
    """They come, and are matched and read."""
    notices = [notice for raw in messages if (notice := read_report(raw)) is not None]
    with database.transaction(service.engines["operator"]) as session:
        inbox.put(session, [event_of_notice(each, livemode=False) for each in notices])
    for _ in range(2):
        service.relay.round()
        service.work_off("emails")


@walks("email sent → bounced, complained", "email bounced → complained")
def test_an_email_comes_back_or_is_complained_about(service: Service) -> None:
    first, call = prepared_email(service)
    service.report(call, ACCEPTED)
    second, call = prepared_email(service)
    service.report(call, ACCEPTED)
    told(service, delivery_report(first), feedback_report(second))
    assert [service.status(each).state for each in (first, second)] == ["bounced", "complained"]
    told(service, feedback_report(first))
    assert service.status(first).state == "complained"


@walks("email refused → requested by operator")
def test_an_email_that_a_late_answer_contradicts_is_known_as_sent_after_a_replay(service: Service) -> None:
    email, call = undecided_email(service)
    with database.transaction(service.engines["operator"]) as session:
        concluding.conclude(session, email, actor="anna", reason="the server's log")
    service.report(call, ACCEPTED)
    assert service.status(email).state == "conflict"
    service.replay(email)
    later(service, email)
    assert service.settle(email) == ["sent"]


# Documents.


def prepared_document(service: Service) -> tuple[str, Call]:
    """Of an invoice that an older worker finalized, so that somebody asks for it."""
    invoice = service.ask_for_invoice()
    assert service.settle(invoice) == ["sent"]
    with database.transaction(service.engines["worker"]) as session:
        assert documents.request_missing(session, only=invoice) == (1, "")
        document = billing.document(session, invoice).document_id
    service.plan()
    return document, service.prepared("documents")[document]


STORED = {
    "livemode": False,
    "sha256": "0" * 64,
    "size_bytes": 1000,
    "object_key": "documents/invoice_pdf/doc_1.pdf",
    "object_version": "1",
    "lock_mode": "GOVERNANCE",
    "locked_until": "2036-01-01T00:00:00+00:00",
}


@walks("document requested → stored, refused")
def test_a_document_is_stored_or_is_none(service: Service) -> None:
    stored, call = prepared_document(service)
    service.report(call, Response(200, b"{}", STORED, None, replayed=False))
    refused, call = prepared_document(service)
    service.report(call, error(400, code="not_a_pdf"))
    assert [service.status(each).state for each in (stored, refused)] == ["stored", "refused"]


@walks("document refused → requested by operator", "work done → ready by operator")
def test_a_refused_document_is_fetched_again(service: Service) -> None:
    document, call = prepared_document(service)
    service.report(call, error(400, code="too_large"))
    with database.transaction(service.engines["operator"]) as session:
        quarantine.reopen(session, document, actor="anna", reason="it is real")
    call = service.prepared("documents")[document]
    service.report(call, Response(200, b"{}", STORED, None, replayed=False))
    assert service.status(document).state == "stored"


@walks("document requested → refused by operator")
def test_a_document_for_which_nothing_was_stored_is_discarded(service: Service) -> None:
    document, call = prepared_document(service)
    service.report(call, NotSent("its process has not started yet"))
    later(service, document)
    relay(service, housekeeping.make_due_ready)
    service.execute("UPDATE billing.work SET attempts = 5 WHERE entity_id = :id", id=document)
    service.work_off("documents")
    service.discard(document)
    assert service.status(document).state == "refused"


# Schedules.


@walks("run due → done", "record sent → planned")
def test_a_run_whose_function_fails_first_is_done_by_its_next_try(service: Service) -> None:
    def function(given: Invocation) -> dict[str, int]:
        tries.append(given)
        return {"tries": 1 // (len(tries) - 1)}

    tries: list[Invocation] = []
    with database.transaction(service.engines["operator"]) as session:
        run = ticks.ask_for(session, SCHEDULES[0], actor="anna")
    functions = Functions(service.engines["worker"], livemode=False, functions={SCHEDULES[0].name: function})
    service.plan()
    service.work_off("maintenance", functions)
    later(service)
    relay(service, housekeeping.make_due_ready)
    service.work_off("maintenance", functions)
    assert state_of(service, run.id) == ["done"]


# The archive.


@walks("batch claimed → archived by archiver")
def test_a_batch_is_archived_once_it_was_read_back(service: Service, s3: SeaweedFS) -> None:
    service.ask_for_capture()
    service.plan()
    store = s3.store(f"transitions-{uuid4().hex}")
    store.set_up("test")
    size, source = BatchSize(service.engines["archiver"]), Source("test", "ins_test")
    assert Writer(size, store, retention_file.load(), source, wait_s=0.0, patience_s=0.0).round().archived
    store.close()


# Reconciliation.


@walks("difference open → gone", "difference open → closed by operator", "difference gone, closed → open")
def test_a_difference_is_gone_when_it_is_over_and_closed_when_a_person_says_so(service: Service) -> None:
    (capture,) = settled(service)
    for minor in (1, 1999, 1):
        service.execute("UPDATE billing.captures SET amount_minor = :minor", minor=minor)
        reconcile(service)
    (difference,) = differences(service)
    with database.transaction(service.engines["operator"]) as session:
        assert by_hand.close(session, difference.id, actor="anna", reason="given back")
    service.execute("UPDATE billing.captures SET amount_minor = 2")
    reconcile(service)
    assert open_classes(service) == {"amount": capture}
