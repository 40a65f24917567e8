"""What changes at Stripe by itself is noticed by a fact, and then looked at: Stripe's present state alone counts."""

import pytest
from service import Service, Through
from sqlalchemy import select
from structlog.testing import capture_logs

from billing import database
from billing.gateway import NoAnswer, Request
from billing.invoice_observing import OBSERVE
from billing.learned import Learned
from billing.states import INVOICE, InvoiceState
from billing.steps import LoadedOperation
from billing.tables.entities import Capture, Invoice
from billing.tables.work import Work
from jobs.road import housekeeping


def sent_invoice(service: Service) -> tuple[str, str]:
    """One of ours, and Stripe's id of it."""
    invoice = service.ask_for_invoice()
    assert service.settle(invoice) == ["sent"]
    return invoice, str(service.row(Invoice, invoice).stripe_invoice)


def observed(service: Service, queue: str = "invoices") -> list[Request]:
    """What a worker asks Stripe for, of all that was noticed."""
    gateway = Through(service)
    service.plan()
    service.work_off(queue, gateway)
    return gateway.asked


def observers(service: Service, entity_id: str) -> list[tuple[str, str | None]]:
    """State and reason of the work that observes it."""
    with database.transaction(service.engine) as session:
        mine = select(Work).where(Work.entity_id == entity_id, Work.contract.startswith("observe_")).order_by(Work.id)
        return [(work.state, work.reason) for work in session.scalars(mine)]


def test_an_invoice_that_its_customer_pays_after_it_was_sent_becomes_paid(service: Service) -> None:
    invoice, at_stripe = sent_invoice(service)
    service.by_hand(f"/v1/invoices/{at_stripe}/pay", "paid_out_of_band=true")
    service.notice(invoice)
    (asked,) = observed(service)
    assert (asked.method, asked.path.partition("?")[0]) == ("GET", f"/v1/invoices/{at_stripe}")
    assert service.status(invoice).state == "paid"
    assert service.topics(invoice)[-3:] == ["noticed", "looked", "paid"]


def test_it_is_final_before_and_after_so_nobody_waits_for_the_customer(service: Service) -> None:
    invoice, at_stripe = sent_invoice(service)
    assert service.status(invoice).final
    service.by_hand(f"/v1/invoices/{at_stripe}/pay", "paid_out_of_band=true")
    service.notice(invoice)
    observed(service)
    assert service.status(invoice).final


def test_what_is_noticed_often_late_or_for_nothing_changes_nothing(service: Service) -> None:
    """[22, 23] Two events for one change, and events in any order, lead to the same state."""
    invoice, at_stripe = sent_invoice(service)
    service.notice(invoice)
    observed(service)
    assert service.status(invoice).state == "sent"
    service.by_hand(f"/v1/invoices/{at_stripe}/pay", "paid_out_of_band=true")
    service.notice(invoice)
    service.notice(invoice)
    observed(service)
    service.execute("UPDATE billing.work SET state = 'ready', due_at = NULL WHERE state = 'waiting'")
    observed(service)
    service.notice(invoice)
    assert observed(service) == [], "a paid invoice does not change any more"
    assert service.topics(invoice).count("paid") == 1
    assert {state for state, _ in observers(service, invoice)} == {"done"}


SHOWN = {"paid": "paid", "void": "voided", "uncollectible": "uncollectible", "open": None, "draft": None, "new": None}


@pytest.mark.parametrize("status", SHOWN)
@pytest.mark.parametrize("state", InvoiceState)
def test_what_stripe_shows_never_moves_an_invoice_backward(state: InvoiceState, status: str) -> None:
    """[23] It is found in this status by two looks, of which one is settled late."""
    row = Invoice(id="inv_1", state=state, version=1, total_minor=300, currency="USD", stripe_invoice="in_1")
    shown = {"status": status, "total": 300, "currency": "usd"}
    facts = OBSERVE.apply(LoadedOperation(row, [], "wrk_1", "invoices"), Learned.SUCCEEDED, shown, "")
    legal = INVOICE.may_change(state) and (state, SHOWN[status]) in INVOICE.legal
    assert row.state == (SHOWN[status] if legal else state)
    assert len(facts) == (row.state != state)


def shown(status: str, paid: int = 0, attempts: int = 0) -> dict[str, object]:
    return {"status": status, "total": 300, "currency": "usd", "amount_paid": paid, "attempt_count": attempts}


def test_payments_in_part_and_failed_attempts_are_told_once_each_and_only_grow() -> None:
    row = Invoice(id="inv_1", state="unpaid", version=1, total_minor=300, currency="USD", stripe_invoice="in_1")

    def told(status: str, paid: int = 0, attempts: int = 0) -> list[str]:
        loaded = LoadedOperation(row, [], "wrk_1", "invoices")
        facts = OBSERVE.apply(loaded, Learned.SUCCEEDED, shown(status, paid, attempts), "")
        return [fact.topic.partition(".")[2] for fact in facts]

    assert told("open") == []
    assert told("open", 100, 2) == ["partly_paid", "payment_failed"]
    assert told("open", 100, 2) == []
    assert told("open", 40, 1) == [], "an older answer"
    assert (row.paid_minor, row.attempts) == (100, 2)
    assert told("uncollectible", 200, 2) == ["partly_paid", "uncollectible"]
    assert told("open", 200, 2) == [], "it is never open again"
    assert told("paid", 300, 3) == ["paid"]
    assert (row.state, row.paid_minor, row.attempts) == ("paid", 300, 3)
    assert told("void", 300, 4) == []


@pytest.mark.parametrize(("verb", "state"), [("void", "voided"), ("mark_uncollectible", "uncollectible")])
def test_an_invoice_that_was_ended_at_stripe_ends_here(service: Service, verb: str, state: str) -> None:
    invoice, at_stripe = sent_invoice(service)
    service.by_hand(f"/v1/invoices/{at_stripe}/{verb}")
    service.notice(invoice)
    assert len(observed(service)) == 1
    assert service.status(invoice).state == state
    assert [state for state, _ in observers(service, invoice)] == ["done"]


def test_a_customer_whose_card_is_declined_on_stripes_page_is_told_as_a_failed_attempt(service: Service) -> None:
    customer = service.customer()
    invoice = service.ask_for_invoice(customer)
    assert service.settle(invoice) == ["sent"]
    declined = service.by_hand("/v1/payment_methods/pm_card_chargeCustomerFail/attach", f"customer={customer}")
    with pytest.raises(AssertionError):  # a 402
        service.by_hand(
            f"/v1/invoices/{service.row(Invoice, invoice).stripe_invoice}/pay", f"payment_method={declined}"
        )
    service.notice(invoice)
    observed(service)
    assert service.status(invoice).state == "sent"
    (failed,) = [fact.payload for fact in service.facts(invoice) if fact.topic == "invoice.payment_failed"]
    assert (failed["attempts"], failed["minor"]) == (1, 4501)


def test_a_captured_capture_is_not_asked_for_again(service: Service) -> None:
    """Stripe sends a webhook for each capture of ours; it costs no request."""
    capture = service.ask_for_capture()
    service.settle(capture)
    service.notice(capture)
    assert observed(service, "captures") == []
    assert [state for state, _ in observers(service, capture)] == ["done"]
    assert service.status(capture).state == "captured"


def test_a_capture_in_doubt_is_looked_at_as_soon_as_something_is_noticed(service: Service) -> None:
    """[21] The webhook is faster than the answer, which never comes."""
    capture = service.ask_for_capture()
    service.standin.add_fault("500_with_effect", path="/capture$", times=1)
    service.plan()
    service.work_off()
    service.execute("UPDATE billing.idempotency_records SET look_at = clock_timestamp() + interval '1 hour'")
    service.execute("UPDATE billing.work SET state = 'waiting', due_at = NULL WHERE state <> 'done'")
    service.work_off()
    assert service.status(capture).state == "in_doubt"
    service.notice(capture)
    observed(service, "captures")
    assert service.status(capture).state == "captured"
    assert service.captured(capture) == {1999: 1}
    assert observers(service, capture) == [("done", "capture g1 is open, and is looked at now")]


def test_an_authorization_that_is_canceled_while_its_capture_waits_ends_the_capture(service: Service) -> None:
    capture = service.ask_for_capture()
    service.standin.add_fault("429_rate", path="/capture$", times=1)
    service.plan()
    service.work_off()
    service.execute("UPDATE billing.work SET due_at = clock_timestamp() + interval '1 hour'")
    service.by_hand(f"/v1/payment_intents/{service.row(Capture, capture).payment_intent}/cancel")
    service.notice(capture)
    asked = observed(service, "captures")
    assert service.status(capture).state == "canceled"
    assert [request.method for request in asked] == ["GET"]


def test_own_work_and_work_that_observes_are_claimed_together_and_both_end(service: Service) -> None:
    captures = [service.ask_for_capture() for _ in range(3)]
    service.notice(*captures)
    assert service.settle(*captures) == ["captured"] * 3
    with database.transaction(service.engines["relay"]) as session:
        housekeeping.make_due_ready(session)
    service.settle(*captures)
    for capture in captures:
        service.execute("UPDATE billing.work SET state = 'ready', due_at = NULL WHERE state = 'waiting'")
        service.work_off()
        assert [state for state, _ in observers(service, capture)] == ["done"]
        assert service.captured(capture) == {1999: 1}


def test_while_stripe_does_not_answer_it_is_looked_at_again_and_nobody_is_woken(service: Service) -> None:
    invoice, at_stripe = sent_invoice(service)
    service.by_hand(f"/v1/invoices/{at_stripe}/pay", "paid_out_of_band=true")
    service.notice(invoice)
    service.plan()
    with capture_logs() as lines:
        service.work_off("invoices", Through(service, before=lambda _request: NoAnswer("away")))
        service.execute("UPDATE billing.idempotency_records SET looks = 20")
        service.age(invoice, 3600)
        service.work_off("invoices", Through(service, before=lambda _request: NoAnswer("away")))
    assert [line for line in lines if line["log_level"] == "error"] == []
    assert service.status(invoice).state == "sent"
    service.age(invoice, 3600)
    service.work_off("invoices")
    assert service.status(invoice).state == "paid"


def test_what_needs_a_decision_is_left_to_it_and_comes_into_quarantine_once(service: Service) -> None:
    capture = service.ask_for_capture()
    service.by_hand(
        f"/v1/payment_intents/{service.row(Capture, capture).payment_intent}/capture", "amount_to_capture=5"
    )
    service.plan()
    service.work_off()
    assert service.status(capture).state == "conflict"
    service.notice(capture)
    assert observed(service, "captures") == []
    assert [state for state, _ in observers(service, capture)] == ["done"]
    assert service.states_of_work()["quarantined"] == 1


def test_the_status_of_an_operation_is_that_of_its_own_work(service: Service) -> None:
    capture = service.ask_for_capture()
    service.pull("captures")
    service.plan()
    with database.transaction(service.engines["relay"]) as session:
        housekeeping.hold(session)
    service.notice(capture)
    service.release("captures")
    service.plan()
    assert service.status(capture).work == "held"
