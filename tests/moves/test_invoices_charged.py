"""Invoices that Stripe charges: paid or unpaid, each at most once, whatever happens to the answers."""

from dataclasses import replace
from typing import Any

import pytest
from service import Service, Through
from sqlalchemy import text

import billing
from billing import database
from billing.gateway import Answer, NoAnswer, Request, Response
from billing.tables.entities import Invoice

DECLINES = "pm_card_chargeCustomerFail"
"""It can be attached, and every charge of it is declined."""
CONFIRMS = "pm_card_authenticationRequired"
CHARGE = billing.ChargeAutomatically()


def charged(service: Service, card: str = "pm_card_visa", **more: Any) -> str:
    customer, _ = service.payer(card)
    return service.ask_for_invoice(customer, collect=CHARGE, **more)


def at_stripe(service: Service, invoice: str) -> str:
    return str(service.row(Invoice, invoice).stripe_invoice)


def paid_money(service: Service) -> list[int]:
    """What was really taken for invoices."""
    return [effect["amount"] for effect in service.effects("capture")]


def told(service: Service, invoice: str, topic: str) -> list[dict[str, Any]]:
    return [fact.payload for fact in service.facts(invoice) if fact.topic == f"invoice.{topic}"]


def test_an_invoice_is_charged_once_and_is_paid_and_nothing_is_sent(service: Service) -> None:
    invoice = charged(service)
    assert service.settle(invoice) == ["paid"]
    assert paid_money(service) == [4501]
    assert service.effects("invoice.sent") == []
    row = service.row(Invoice, invoice)
    assert (row.paid_minor, row.attempts, row.reason, row.days_until_due) == (4501, 1, None, None)
    (paid,) = told(service, invoice, "paid")
    assert (paid["minor"], paid["currency"], paid["out_of_band"]) == (4501, "EUR", False)
    assert [fact.payload["charged"] for fact in service.facts(invoice) if fact.topic == "invoice.requested"] == [True]


def test_the_payment_method_that_is_named_is_charged_and_not_the_customers_default(service: Service) -> None:
    customer, _ = service.payer(DECLINES)
    named = service.by_hand("/v1/payment_methods/pm_card_mastercard/attach", f"customer={customer}")
    invoice = service.ask_for_invoice(customer, collect=billing.ChargeAutomatically(named))
    assert service.settle(invoice) == ["paid"]
    assert paid_money(service) == [4501]


def test_a_payment_method_of_somebody_else_is_refused_before_a_draft_is_made(service: Service) -> None:
    _, foreign = service.payer()
    customer, _ = service.payer()
    invoice = service.ask_for_invoice(customer, collect=billing.ChargeAutomatically(foreign))
    assert service.settle(invoice) == ["refused"]
    assert service.effects("invoice.created") == []


def test_a_decline_ends_it_as_unpaid_with_the_issuers_code_and_it_is_not_tried_again(service: Service) -> None:
    invoice = charged(service, DECLINES)
    assert service.settle(invoice) == ["unpaid"]
    status = service.status(invoice)
    assert (status.reason, status.final, status.needs_decision) == ("generic_decline", True, False)
    assert len(service.posts("/pay")) == 1
    assert paid_money(service) == []
    assert [fact["why"] for fact in told(service, invoice, "unpaid")] == ["generic_decline"]
    service.notice(invoice)
    service.plan()
    service.work_off("invoices")
    assert service.status(invoice).state == "unpaid"


def test_a_payment_that_the_customer_must_confirm_ends_it_as_unpaid(service: Service) -> None:
    invoice = charged(service, CONFIRMS)
    assert service.settle(invoice) == ["unpaid"]
    assert service.status(invoice).reason == "requires_action"
    assert paid_money(service) == []


def test_a_customer_without_a_payment_method_ends_it_as_unpaid_after_one_call(service: Service) -> None:
    invoice = service.ask_for_invoice(collect=CHARGE)
    assert service.settle(invoice) == ["unpaid"]
    assert (service.status(invoice).reason or "").startswith("refused_by_stripe: has the customer")
    assert len(service.posts("/pay")) == 1


def test_a_total_of_nothing_is_paid_without_a_charge(service: Service) -> None:
    lines = [billing.Line("a", billing.Money(500, "EUR")), billing.Line("b", billing.Money(500, "EUR"), credit=True)]
    invoice = charged(service, lines=lines)
    assert service.settle(invoice) == ["paid"]
    assert service.posts("/pay") == []


FAULTS = ["drop_before", "drop_after_commit", "truncate_body", "502_html", "409_in_use", "429_rate", "429_lock_saved"]
FAULTS += ["500_saved", "500_no_effect", "500_with_effect", "424"]


@pytest.mark.parametrize("card", ["pm_card_visa", DECLINES, CONFIRMS])
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_happens_to_the_answer_it_is_charged_at_most_once(service: Service, card: str, fault: str) -> None:
    """[1, 2] And what was declined, or needs the customer, is not charged again under another key."""
    invoice = charged(service, card)
    service.standin.add_fault(fault, path="/pay$", times=1)
    end = service.settle(invoice)
    events = [event["type"] for event in service.read_list("/v1/events")]
    assert events.count("invoice.payment_failed") == (card == DECLINES)
    if card == "pm_card_visa":
        assert (end, paid_money(service)) == (["paid"], [4501])
    else:
        assert (end, paid_money(service)) == (["unpaid"], [])
        assert service.status(invoice).reason == ("requires_action" if card == CONFIRMS else "generic_decline")


def test_a_charge_whose_answers_are_all_lost_is_found_by_a_look(service: Service) -> None:
    invoice = charged(service)
    lost = Through(service, lambda request, answer: NoAnswer("lost") if request.path.endswith("/pay") else answer)
    service.plan()
    service.work_off("invoices", lost)
    assert service.status(invoice).state == "in_doubt"
    service.age(invoice, 24 * 3600)
    service.execute("UPDATE billing.work SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")
    assert service.settle(invoice) == ["paid"]
    assert len(service.posts("/pay")) == 1


def test_one_that_somebody_paid_meanwhile_is_paid_and_not_charged(service: Service) -> None:
    invoice = charged(service)

    def paid_by_hand(request: Request) -> Answer | None:
        if request.path.endswith("/pay"):
            service.by_hand(f"/v1/invoices/{at_stripe(service, invoice)}/pay", "paid_out_of_band=true")
        return None

    assert service.settle(invoice, gateway=Through(service, before=paid_by_hand)) == ["paid"]
    assert paid_money(service) == []
    (paid,) = told(service, invoice, "paid")
    assert (paid["out_of_band"], paid["minor"]) == (True, 4501)


@pytest.mark.parametrize(("verb", "state"), [("void", "voided"), ("mark_uncollectible", "uncollectible")])
def test_one_that_somebody_ended_before_it_was_charged_ends_so(service: Service, verb: str, state: str) -> None:
    invoice = service.ask_for_invoice(collect=CHARGE)

    def ended_by_hand(request: Request) -> Answer | None:
        if request.path.endswith("/pay"):
            service.by_hand(f"/v1/invoices/{at_stripe(service, invoice)}/{verb}")
        return None

    assert service.settle(invoice, gateway=Through(service, before=ended_by_hand)) == [state]
    assert paid_money(service) == []


def test_a_success_about_another_total_needs_a_decision(service: Service) -> None:
    invoice = charged(service)

    def lie(request: Request, answer: Answer) -> Answer:
        if request.path.endswith("/pay") and isinstance(answer, Response):
            return replace(answer, data={**(answer.data or {}), "total": 4500})
        return answer

    service.plan()
    service.work_off("invoices", Through(service, lie))
    assert service.status(invoice).state == "conflict"


def test_the_same_request_with_another_way_of_collecting_is_refused(service: Service) -> None:
    customer, method = service.payer()
    line = billing.Line("3 seats", billing.Money(4500, "EUR"))

    def ask(collect: Any) -> bool:
        with database.transaction(service.engines["application"]) as session:
            asked = {"customer": customer, "lines": [line], "request_id": "r1"}
            return billing.issue_invoice(session, collect=collect, **asked).new

    assert ask(billing.ChargeAutomatically(method))
    assert not ask(billing.ChargeAutomatically(method))
    for other in (CHARGE, billing.SendInvoice(14)):
        with pytest.raises(billing.RequestReused, match="payment_method"):
            ask(other)


@pytest.mark.parametrize("wrong", ["cus_1", "", 5, "pm_1_secret_2", "pm_" + "4242" * 4])
def test_what_is_no_payment_method_is_refused_before_anything_is_written(service: Service, wrong: Any) -> None:
    with pytest.raises(billing.InvalidRequest, match="payment_method"):
        billing.ChargeAutomatically(wrong)


def test_what_else_is_no_way_of_collecting_is_refused(service: Service) -> None:
    with pytest.raises(billing.InvalidRequest, match=r"ChargeAutomatically or billing\.AlreadyPaid, not str"):
        service.ask_for_invoice(collect="charge_automatically")  # type: ignore[arg-type]


def test_terms_that_another_program_wrote_send_nothing(service: Service) -> None:
    invoice = charged(service)
    with database.transaction(service.engine) as session:
        session.execute(
            text("UPDATE billing.invoices SET terms = jsonb_set(terms, '{collect}', '\"both\"') WHERE id = :id"),
            {"id": invoice},
        )
    service.plan()
    service.work_off("invoices")
    assert service.work(invoice).state == "quarantined"
    assert service.effects("invoice.created") == []
