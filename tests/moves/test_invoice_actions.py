"""What is done with an invoice on request: each at most once, and of two that exclude each other one."""

from collections.abc import Callable
from typing import Any

import pytest
from service import Service, Through
from undecided_charge import undecided_charge

import billing
from billing import database
from billing.gateway import Answer, NoAnswer, Request, Response
from billing.tables.entities import Invoice
from billing.tables.invoice_actions import InvoiceAction
from jobs.road import concluding

DECLINES, CONFIRMS = "pm_card_chargeCustomerFail", "pm_card_authenticationRequired"
CHARGE = billing.ChargeAutomatically()
ENDS = {
    "pay_invoice": "paid",
    "mark_invoice_paid": "paid",
    "void_invoice": "voided",
    "mark_invoice_uncollectible": "uncollectible",
}
ALREADY = {"paid": "already_paid", "voided": "already_voided", "uncollectible": "already_uncollectible"}
PATHS = {
    "pay_invoice": "pay",
    "mark_invoice_paid": "pay",
    "void_invoice": "void",
    "mark_invoice_uncollectible": "mark_uncollectible",
}


def open_invoice(service: Service, card: str = "pm_card_visa") -> str:
    """One that was sent, to a customer who has a payment method."""
    customer, _ = service.payer(card)
    service.by_hand(f"/v1/customers/{customer}", "email=test%40example.com")
    invoice = service.ask_for_invoice(customer)
    assert service.settle(invoice) == ["sent"]
    return invoice


def at_stripe(service: Service, invoice: str) -> str:
    return str(service.row(Invoice, invoice).stripe_invoice)


def state(service: Service, entity: str) -> tuple[str, str | None]:
    status = service.status(entity)
    return status.state, status.reason


def paid_money(service: Service) -> list[int]:
    return [effect["amount"] for effect in service.effects("capture")]


@pytest.mark.parametrize("action", ENDS)
def test_each_action_is_carried_out_once_and_moves_the_invoice_in_the_same_transaction(
    service: Service, action: str
) -> None:
    invoice = open_invoice(service)
    asked = service.act_on(invoice, action)
    assert service.settle(asked) == ["done"]
    assert service.status(invoice).state == ENDS[action], "nobody had to notice it"
    assert len(service.posts(f"/{PATHS[action]}")) == 1
    assert paid_money(service) == ([4501] if action == "pay_invoice" else [])
    (told,) = [fact.payload for fact in service.facts(invoice) if fact.topic == f"invoice.{ENDS[action]}"]
    assert told["minor"] == 4501
    assert service.topics(asked)[0] == "requested"
    assert service.topics(asked)[-1] == "done"


def test_a_named_payment_method_is_charged(service: Service) -> None:
    invoice = open_invoice(service, DECLINES)
    customer = service.row(Invoice, invoice).customer
    method = service.by_hand("/v1/payment_methods/pm_card_mastercard/attach", f"customer={customer}")
    assert service.settle(service.act_on(invoice, "pay_invoice", payment_method=method)) == ["done"]
    assert paid_money(service) == [4501]


@pytest.mark.parametrize(("card", "reason"), [(DECLINES, "generic_decline"), (CONFIRMS, "requires_action")])
def test_a_charge_that_fails_is_declined_and_the_invoice_stays_and_tells_the_attempt(
    service: Service, card: str, reason: str
) -> None:
    invoice = open_invoice(service, card)
    asked = service.act_on(invoice, "pay_invoice")
    assert service.settle(asked) == ["declined"]
    assert state(service, asked) == ("declined", reason)
    service.plan()
    service.work_off("invoices")
    assert service.status(invoice).state == "sent"
    assert ("payment_failed" in service.topics(invoice)) == (card == DECLINES)
    assert len(service.posts("/pay")) == 1


def test_an_invoice_that_was_not_paid_is_paid_by_another_request(service: Service) -> None:
    customer, _ = service.payer(DECLINES)
    invoice = service.ask_for_invoice(customer, collect=CHARGE)
    assert service.settle(invoice) == ["unpaid"]
    assert service.settle(service.act_on(invoice, "pay_invoice")) == ["declined"]
    method = service.by_hand("/v1/payment_methods/pm_card_visa/attach", f"customer={customer}")
    assert service.settle(service.act_on(invoice, "pay_invoice", payment_method=method)) == ["done"]
    assert state(service, invoice) == ("paid", None)
    assert paid_money(service) == [4501]


def test_a_customer_without_a_payment_method_ends_a_charge_as_refused_also_after_an_attempt(service: Service) -> None:
    customer, method = service.payer(DECLINES)
    invoice = service.ask_for_invoice(customer, collect=CHARGE)
    assert service.settle(invoice) == ["unpaid"]
    service.by_hand(f"/v1/payment_methods/{method}/detach")
    asked = service.act_on(invoice, "pay_invoice")
    assert service.settle(asked) == ["refused"]
    assert (service.status(asked).reason or "").startswith("refused_by_stripe")


@pytest.mark.parametrize("action", ["pay_invoice", "mark_invoice_paid", "void_invoice"])
def test_what_was_given_up_may_still_be_paid_or_voided(service: Service, action: str) -> None:
    invoice = open_invoice(service)
    assert service.settle(service.act_on(invoice, "mark_invoice_uncollectible")) == ["done"]
    assert service.settle(service.act_on(invoice, action)) == ["done"]
    assert service.status(invoice).state == ENDS[action]


# Whatever happens to the answer.

FAULTS = ["drop_before", "drop_after_commit", "502_html", "409_in_use", "429_lock_saved", "500_saved", "500_no_effect"]
FAULTS += ["500_with_effect", "truncate_body"]


@pytest.mark.parametrize("action", ENDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_happens_to_the_answer_it_is_done_once(service: Service, action: str, fault: str) -> None:
    """[1, 2]"""
    invoice = open_invoice(service)
    asked = service.act_on(invoice, action)
    service.standin.add_fault(fault, path=f"/{PATHS[action]}$", times=1)
    assert service.settle(asked) == ["done"]
    assert service.status(invoice).state == ENDS[action]
    assert paid_money(service) == ([4501] if action == "pay_invoice" else [])


@pytest.mark.parametrize("action", ENDS)
def test_an_answer_that_never_came_is_looked_up_a_day_later(service: Service, action: str) -> None:
    invoice = open_invoice(service)
    asked = service.act_on(invoice, action)
    ours = f"/{PATHS[action]}"
    lost = Through(service, lambda request, answer: NoAnswer("lost") if request.path.endswith(ours) else answer)
    service.plan()
    service.work_off("invoices", lost)
    assert service.status(asked).state == "in_doubt"
    service.age(asked, 24 * 3600)
    service.execute("UPDATE billing.work SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")
    assert service.settle(asked) == ["done"]
    assert service.status(invoice).state == ENDS[action]
    assert len(service.posts(ours)) == 1


def test_a_later_charge_whose_effect_nothing_shows_is_never_made_under_another_key(service: Service) -> None:
    """Stripe counts no attempt by hand after the first one, so nothing proves that there was none."""
    invoice, asked = undecided_charge(service)
    assert service.status(asked).state == "in_doubt"
    assert len(service.records(asked)) == 1
    assert service.record(asked).parked_at is not None
    # What is settled at Stripe, the next look finds.
    service.by_hand(f"/v1/invoices/{at_stripe(service, invoice)}/void")
    service.age(asked, 24 * 3600)
    service.relay.round()
    service.work_off("invoices")
    assert state(service, asked) == ("refused", "already_voided")
    assert service.status(invoice).state == "voided"


@pytest.mark.parametrize(("it_happened", "end"), [(False, "refused"), (True, "declined")])
def test_an_undecided_charge_is_concluded_by_a_person_and_the_next_request_charges_once(
    service: Service, it_happened: bool, end: str
) -> None:
    """[69, 70]"""
    invoice, asked = undecided_charge(service)
    with database.transaction(service.engines["operator"]) as session:
        concluding.conclude(session, asked, actor="anna", reason="Stripe's log of req_1", it_happened=it_happened)
    assert state(service, asked) == (end, "seen_by_an_operator" if it_happened else "ruled_out")
    (told,) = [fact for fact in service.facts(asked) if fact.topic == f"invoice_action.{end}"]
    assert (told.actor, told.payload["reason"]) == ("anna", "Stripe's log of req_1")
    assert service.status(invoice).state == "unpaid"
    customer = service.row(Invoice, invoice).customer
    method = service.by_hand("/v1/payment_methods/pm_card_visa/attach", f"customer={customer}")
    assert service.settle(service.act_on(invoice, "pay_invoice", payment_method=method)) == ["done"]
    assert paid_money(service) == [4501]


def test_a_charge_that_took_the_money_is_found_by_a_look_and_not_concluded(service: Service) -> None:
    invoice, asked = undecided_charge(service)
    method = service.by_hand(
        "/v1/payment_methods/pm_card_visa/attach", f"customer={service.row(Invoice, invoice).customer}"
    )
    service.by_hand(f"/v1/invoices/{at_stripe(service, invoice)}/pay", f"payment_method={method}")
    service.age(asked, 24 * 3600)
    service.relay.round()
    service.work_off("invoices")
    assert state(service, asked) == ("refused", "already_paid")
    with (
        database.transaction(service.engines["operator"]) as session,
        pytest.raises(billing.InvalidRequest, match="has no undecided call"),
    ):
        concluding.conclude(session, asked, actor="anna", reason="INC-12", it_happened=True)


# What excludes each other.


@pytest.mark.parametrize("other", ["pay", "void", "mark_uncollectible"])
@pytest.mark.parametrize("action", ENDS)
def test_an_action_that_somebody_at_stripe_was_faster_than_is_told_so(
    service: Service, action: str, other: str
) -> None:
    invoice = open_invoice(service)
    asked = service.act_on(invoice, action)

    def first(request: Request) -> Answer | None:
        if request.method == "POST" and "/invoices/in_" in request.path:
            form = "paid_out_of_band=true" if other == "pay" else ""
            service.by_hand(f"/v1/invoices/{at_stripe(service, invoice)}/{other}", form)
        return None

    end = service.settle(asked, gateway=Through(service, before=first))
    there = {"pay": "paid", "void": "voided", "mark_uncollectible": "uncollectible"}[other]
    if there == "uncollectible" and action != "mark_invoice_uncollectible":
        assert end == ["done"], "what was given up may still be paid or voided"
        assert service.status(invoice).state == ENDS[action]
    else:
        assert (end, service.status(asked).reason) == (["refused"], ALREADY[there])
        assert service.status(invoice).state == there
    assert len(paid_money(service)) == (end == ["done"] and action == "pay_invoice")


def test_of_two_that_were_asked_for_at_once_the_later_waits_and_loses(service: Service) -> None:
    invoice = open_invoice(service)
    asked = [service.act_on(invoice, action) for action in ("void_invoice", "pay_invoice", "void_invoice")]
    assert service.settle(*asked) == ["done", "refused", "refused"]
    assert [service.status(each).reason for each in asked] == [None, "already_voided", "already_voided"]
    assert service.posts("/pay") == []


def test_an_action_waits_for_the_invoices_own_work(service: Service) -> None:
    customer, _ = service.payer()
    invoice = service.ask_for_invoice(customer, collect=CHARGE)
    held: list[str] = []

    def while_it_is_charged(request: Request) -> Answer | None:
        if request.path.endswith("/pay") and not held:
            held.append(service.act_on(invoice, "void_invoice"))
            service.plan()
            service.work_off("invoices", crew=1)
            assert service.status(held[0]).state == "requested"
        return None

    assert service.settle(invoice, gateway=Through(service, before=while_it_is_charged)) == ["paid"]
    service.execute("UPDATE billing.work SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")
    assert service.settle(*held) == ["refused"]
    assert state(service, held[0]) == ("refused", "already_paid")
    assert service.posts("/void") == []


# Requests.


def ask(service: Service, action: str, **more: Any) -> billing.InvoiceActionReceipt:
    with database.transaction(service.engines["application"]) as session:
        receipt: billing.InvoiceActionReceipt = getattr(billing, action)(session, **{"request_id": "r1", **more})
        return receipt


def test_the_same_request_returns_the_same_receipt_also_when_the_invoice_is_paid(service: Service) -> None:
    invoice = open_invoice(service)
    first = ask(service, "pay_invoice", invoice=invoice)
    service.settle(first.action_id)
    again = ask(service, "pay_invoice", invoice=invoice)
    assert (first.new, again.new, again.action_id) == (True, False, first.action_id)
    with pytest.raises(billing.RequestReused, match="action"):
        ask(service, "void_invoice", invoice=invoice)
    with pytest.raises(billing.RequestReused, match="payment_method"):
        ask(service, "pay_invoice", invoice=invoice, payment_method="pm_other1")


@pytest.mark.parametrize("action", ENDS)
def test_what_cannot_be_done_is_refused_before_anything_is_written(service: Service, action: str) -> None:
    with pytest.raises(billing.UnknownEntity):
        ask(service, action, invoice="inv_" + "0" * 32)
    unborn = service.ask_for_invoice()
    with pytest.raises(billing.NotFinalized, match="is requested, and not finalized yet"):
        ask(service, action, invoice=unborn)
    refused = service.ask_for_invoice("cus_nobody")
    service.settle(refused)
    with pytest.raises(billing.NoLongerOpen, match="is refused, so"):
        ask(service, action, invoice=refused)
    for end in ("pay", "void"):
        invoice = open_invoice(service)
        service.settle(service.act_on(invoice, f"{end}_invoice"))
        with pytest.raises(billing.NoLongerOpen, match=f"is {ENDS[f'{end}_invoice']}, so `"):
            ask(service, action, invoice=invoice)
    for wrong in ("", "in_1", 5, None, "inv_1\n"):
        with pytest.raises(billing.BillingError):
            ask(service, action, invoice=wrong)
    with database.transaction(service.engine) as session:
        assert session.query(InvoiceAction).count() == 2


def test_the_account_is_that_of_the_invoice(service: Service) -> None:
    customer = service.by_hand("/v1/customers", "name=T&email=t%40example.com", account="acct_shop1")
    invoice = service.ask_for_invoice(customer, account="acct_shop1")
    assert service.settle(invoice) == ["sent"]
    asked = service.act_on(invoice, "void_invoice")
    assert service.row(InvoiceAction, asked).account == "acct_shop1"
    assert service.settle(asked) == ["done"]
    assert service.status(invoice).state == "voided"


def test_a_switch_of_invoices_stops_actions_too(service: Service) -> None:
    invoice = open_invoice(service)
    service.pull("invoices")
    asked = service.act_on(invoice, "void_invoice")
    service.plan()
    service.work_off("invoices")
    assert service.posts("/void") == []
    assert service.work(asked).state == "held"


def lie(change: Callable[[dict[str, Any]], None], path: str) -> Callable[[Request, Answer], Answer]:
    def lied(request: Request, answer: Answer) -> Answer:
        if request.path.endswith(path) and isinstance(answer, Response) and answer.data:
            data = dict(answer.data)
            change(data)
            return Response(answer.status, answer.kept, data, answer.request_id, answer.replayed)
        return answer

    return lied


@pytest.mark.parametrize("action", ENDS)
def test_a_success_about_something_else_needs_a_decision(service: Service, action: str) -> None:
    invoice = open_invoice(service)
    asked = service.act_on(invoice, action)
    service.plan()
    service.work_off("invoices", Through(service, lie(lambda data: data.update(total=1), f"/{PATHS[action]}")))
    assert service.status(asked).state == "conflict"
    assert service.status(invoice).state == "sent"
