"""A captured payment is invoiced once: at once, or with all that its customer paid in a period."""

import threading
from dataclasses import replace
from typing import Any

import pytest
from service import Service
from sqlalchemy import text

import billing
from billing import database, explain
from billing.periods import Calendars
from billing.tables.entities import Invoice
from billing.tables.invoiced_captures import InvoicedCapture
from jobs.schedules import invoicing

MONTHS = Calendars()


def ask(service: Service, capture: str, customer: str, description: str = "an order", **more: Any) -> Any:
    with database.transaction(service.engines["application"]) as session:
        return billing.invoice_capture(session, capture=capture, customer=customer, description=description, **more)


def run(service: Service, calendars: Calendars = MONTHS, left_s: float = 60) -> dict[str, Any]:
    return invoicing.invoice_captures(service.engines["worker"], calendars, lambda: left_s).as_result()


def row(service: Service, capture: str) -> InvoicedCapture:
    with database.transaction(service.engine) as session:
        return session.get_one(InvoicedCapture, capture)


def lines(service: Service, invoice: str) -> list[tuple[str, int]]:
    statement = "SELECT description, amount_minor FROM billing.invoice_lines WHERE invoice_id = :id ORDER BY position"
    with service.engine.connect() as connection:
        return [tuple(each) for each in connection.execute(text(statement), {"id": invoice})]


def months_ago(service: Service, *captures: str, days: int = 40) -> None:
    """As if these captures had been taken so many days before."""
    service.execute(
        "UPDATE billing.captures SET state_since = state_since - make_interval(days => :days) WHERE id = ANY (:ids)",
        days=days,
        ids=list(captures),
    )
    service.execute(
        "UPDATE billing.idempotency_records SET first_sent_at = first_sent_at - make_interval(days => :days)"
        " WHERE operation_id = ANY (:ids)",
        days=days,
        ids=list(captures),
    )


def test_at_once_a_capture_is_on_an_invoice_that_is_paid(service: Service) -> None:
    customer = service.customer()
    capture = service.ask_for_capture()
    receipt = ask(service, capture, customer, "3 seats", when="at_once")
    assert receipt.new
    assert service.settle(capture, receipt.invoice_id) == ["captured", "paid"]
    (shown,) = service.read_list("/v1/invoices")
    assert (shown["status"], shown["total"], shown["amount_remaining"]) == ("paid", 1999, 0)
    assert shown["metadata"]["billing_collect"] == "already_paid"
    assert lines(service, receipt.invoice_id) == [("3 seats", 1999)]
    assert ask(service, capture, customer, "3 seats", when="at_once").invoice_id == receipt.invoice_id
    assert run(service)["ended"] == 1
    (told,) = [fact.payload for fact in service.facts(capture) if fact.topic == "capture.invoiced"]
    assert told["invoice"] == receipt.invoice_id
    assert run(service)["ended"] == 0
    with database.transaction(service.engines["operator"]) as session:
        assert explain.explain_one(session, capture).request["invoice"] == receipt.invoice_id
        assert explain.explain_one(session, receipt.invoice_id).request["captures"] == [capture]


def test_an_invoice_that_is_asked_for_with_its_capture_waits_for_it(service: Service) -> None:
    capture = service.ask_for_capture()
    receipt = ask(service, capture, service.customer(), when="at_once")
    service.plan()
    service.work_off("invoices")
    assert service.read_list("/v1/invoices") == []
    assert service.status(receipt.invoice_id).state == "requested"
    assert service.settle(capture, receipt.invoice_id) == ["captured", "paid"]


def test_a_capture_that_ends_without_the_money_is_on_no_invoice(service: Service) -> None:
    customer = service.customer()
    first, second = (service.ask_for_capture(intent) for intent in service.intents(2))
    receipt = ask(service, first, customer, when="at_once")
    ask(service, second, customer)
    for each in (first, second):
        service.compensate(each)
    assert service.settle(first, second, receipt.invoice_id) == ["refused", "refused", "refused"]
    assert service.row(Invoice, receipt.invoice_id).reason == "nothing_taken"
    assert run(service)["ended"] == 2
    assert [row(service, each).left_out for each in (first, second)] == ["nothing_taken", "nothing_taken"]
    assert service.read_list("/v1/invoices") == []
    assert ask(service, second, customer).new is False
    (third,) = service.intents()
    refused = service.ask_for_capture(third)
    service.compensate(refused)
    service.settle(refused)
    with pytest.raises(billing.NotCaptured, match="nothing to give back or to invoice"):
        ask(service, refused, customer)


def test_a_month_of_a_customer_is_one_invoice(service: Service) -> None:
    anna, boris = service.customer(), service.customer()
    captures = [service.captured_one() for _ in range(3)]
    for number, capture in enumerate(captures):
        ask(service, capture, boris if number == 2 else anna, f"order {number}")
    assert run(service)["invoices"] == 0
    service.execute("UPDATE billing.invoiced_captures SET captured_at = NULL, period_start = NULL, period_end = NULL")
    service.execute("TRUNCATE billing.invoice_periods")
    months_ago(service, *captures)
    assert run(service) == {
        "minor": {"USD": 3 * 1999},
        "ended": 3,
        "invoices": 2,
        "captures": 3,
        "waiting": 0,
        "busy": 0,
        "failed": 0,
        "complete": True,
    }
    invoices = {row(service, capture).invoice_id for capture in captures}
    assert len(invoices) == 2
    assert service.settle(*invoices) == ["paid", "paid"]
    of_anna = row(service, captures[0]).invoice_id
    assert lines(service, of_anna) == [("order 0", 1999), ("order 1", 1999)]
    assert sorted(shown["total"] for shown in service.read_list("/v1/invoices")) == [1999, 2 * 1999]
    assert run(service)["invoices"] == 0


def test_what_is_paid_already_is_not_handed_to_our_own_email_either(service: Service) -> None:
    """It would ask for the money."""
    service.call_settings = replace(service.call_settings, mails_invoices=lambda _account: True)
    capture = service.ask_for_capture()
    receipt = ask(service, capture, service.customer(), when="at_once")
    assert service.settle(capture, receipt.invoice_id) == ["captured", "paid"]
    assert "invoice.sent" not in [fact.topic for fact in service.facts(receipt.invoice_id)]


@pytest.mark.parametrize(
    ("wrong", "error", "problem"),
    [
        ({"capture": "cap_0"}, billing.UnknownEntity, "nothing here has the id"),
        ({"account": "acct_2"}, billing.InvalidRequest, "is not the one of the capture"),
        ({"customer": "anna"}, billing.InvalidText, "customer"),
        ({"description": ""}, billing.InvalidText, "description"),
        ({"description": "x" * 501}, billing.InvalidText, "description"),
        ({"when": "later"}, billing.InvalidRequest, "at_once"),
        ({"terms": billing.InvoiceTerms(memo="Thank you")}, billing.InvalidRequest, "belongs to when='at_once'"),
        (
            {"when": "at_once", "terms": billing.InvoiceTerms(discounts=["co_1"])},
            billing.InvalidRequest,
            "must have no discounts",
        ),
        (
            {"when": "at_once", "terms": billing.InvoiceTerms(total_minor=1)},
            billing.InvalidAmount,
            "the lines come to 1999",
        ),
    ],
)
def test_what_cannot_be_invoiced_is_refused_and_nothing_is_written(
    service: Service, wrong: dict[str, Any], error: type[Exception], problem: str
) -> None:
    arguments = {"capture": service.ask_for_capture(), "customer": "cus_anna", **wrong}
    with pytest.raises(error, match=problem):
        ask(service, **arguments)
    assert count_rows(service, "invoiced_captures") == count_rows(service, "invoices") == 0


@pytest.mark.parametrize(
    ("now", "differs"),
    [
        ({"customer": "cus_boris"}, "customer: first 'cus_anna', now 'cus_boris'"),
        ({"when": "at_once"}, "when: first 'period', now 'at_once'"),
        ({"description": "another order"}, "description: first 'a text', now 'another text'"),
    ],
)
def test_a_capture_is_not_invoiced_a_second_time_in_another_way(
    service: Service, now: dict[str, Any], differs: str
) -> None:
    first = {"capture": service.ask_for_capture(), "customer": "cus_anna", "description": "an order"}
    assert ask(service, **first).new
    with pytest.raises(billing.InvoicedOtherwise, match=differs):
        ask(service, **{**first, **now})
    assert not ask(service, **first).new
    assert count_rows(service, "invoices") == 0


def test_two_that_ask_at_once_for_different_things_do_not_both_get_them(service: Service) -> None:
    """The second waits for the first, and then writes no invoice beside it."""
    capture, asked = service.ask_for_capture(), threading.Event()
    raised: list[Exception] = []

    def second() -> None:
        asked.set()
        try:
            ask(service, capture, "cus_anna", when="at_once")
        except billing.InvoicedOtherwise as error:
            raised.append(error)

    thread = threading.Thread(target=second)
    with database.transaction(service.engines["application"]) as session:
        billing.invoice_capture(session, capture=capture, customer="cus_anna", description="an order")
        thread.start()
        assert asked.wait(10)
    thread.join()
    assert len(raised) == 1
    assert count_rows(service, "invoices") == 0


def test_what_is_given_back_as_a_whole_before_its_draft_is_not_invoiced(service: Service) -> None:
    capture = service.captured_one()
    receipt = ask(service, capture, service.customer(), when="at_once")
    refund = service.ask_for_refund(capture, None)
    assert service.settle(refund, receipt.invoice_id) == ["succeeded", "refused"]
    assert service.row(Invoice, receipt.invoice_id).reason == "given_back"


def test_only_what_is_left_of_a_capture_is_invoiced(service: Service) -> None:
    capture = service.captured_one()
    service.settle(service.ask_for_refund(capture, 500))
    receipt = ask(service, capture, service.customer(), when="at_once")
    assert service.settle(receipt.invoice_id) == ["paid"]
    assert lines(service, receipt.invoice_id) == [("an order", 1499)]


def count_rows(service: Service, table: str) -> int:
    with service.engine.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM billing.{table}")).scalar_one())


# Where Stripe would move the customer's balance (docs.stripe.com/billing/customer/balance).


def balance_of(service: Service, customer: str) -> int:
    return int(service.standin_object(f"/v1/customers/{customer}")["balance"])


@pytest.mark.parametrize(
    ("balance", "what"), [(-300, "a credit of 300 USD"), (300, "a debt of 300 USD"), (-9999, "a credit of 9999 USD")]
)
@pytest.mark.parametrize("fault", [None, "drop_after_commit", "500_with_effect"])
def test_a_customer_with_a_balance_gets_no_invoice_of_what_was_captured_and_keeps_the_balance(
    service: Service, balance: int, what: str, fault: str | None
) -> None:
    customer = service.customer()
    service.by_hand(f"/v1/customers/{customer}/balance_transactions", f"amount={balance}&currency=usd")
    receipt = ask(service, service.captured_one(), customer, when="at_once")
    if fault is not None:
        service.standin.add_fault(fault, path="/add_lines$", times=1)
    assert service.settle(receipt.invoice_id) == ["refused"]
    assert service.status(receipt.invoice_id).reason == f"customer_has_a_balance: {what}"
    assert balance_of(service, customer) == balance
    assert (service.effects("invoice.finalized"), service.read_list("/v1/invoices")) == ([], [])
    # Once it is used up, or paid back, an operator has it tried again.
    service.by_hand(f"/v1/customers/{customer}/balance_transactions", f"amount={-balance}&currency=usd")
    service.reopen(receipt.invoice_id)
    assert service.settle(receipt.invoice_id) == ["paid"]
    assert balance_of(service, customer) == 0


@pytest.mark.parametrize(("back", "state"), [(1949, "paid"), (1950, "refused")])
def test_what_is_left_of_a_capture_may_be_too_small_for_an_invoice(service: Service, back: int, state: str) -> None:
    """Stripe would mark it as paid, and ask for it with the next invoice."""
    customer, capture = service.customer(), service.captured_one()
    assert service.settle(service.ask_for_refund(capture, back)) == ["succeeded"]
    invoice = ask(service, capture, customer, when="at_once").invoice_id
    assert service.settle(invoice) == [state]
    reason = "below_the_least_charge: 49 USD, and the least is 50" if state == "refused" else None
    assert service.status(invoice).reason == reason
    assert balance_of(service, customer) == 0


def test_an_invoice_that_is_to_be_paid_uses_the_balance_as_ever(service: Service) -> None:
    customer = service.customer()
    service.by_hand(f"/v1/customers/{customer}/balance_transactions", "amount=-9999&currency=eur")
    invoice = service.ask_for_invoice(customer)
    assert service.settle(invoice) == ["paid"]
    assert balance_of(service, customer) == -9999 + 4501
