"""Refunds of what was paid for an invoice, on real servers: by the payment that Stripe shows, and never more."""

import threading
from typing import Any

import pytest
from service import Service, eventually

import billing
from billing import database
from billing.refund_steps import PAID_OUTSIDE
from billing.tables.entities import Invoice, Refund

TOTAL = 4501


def returned(service: Service, invoice: str) -> int:
    return int(service.row(Invoice, invoice).returned_minor)


def payment_of(service: Service, invoice: str) -> str:
    """The payment intent that paid it, as Stripe shows it."""
    at_stripe = service.row(Invoice, invoice).stripe_invoice
    (payment,) = service.read_list("/v1/invoice_payments", invoice=at_stripe)
    return str(payment["payment"]["payment_intent"])


def test_a_refund_of_an_invoice_is_one_of_the_payment_that_paid_it(service: Service) -> None:
    invoice = service.paid_invoice()
    refund = service.refund_invoice(invoice, reason="requested_by_customer")
    assert returned(service, invoice) == 500
    assert service.settle(refund) == ["succeeded"]
    row = service.row(Refund, refund)
    assert (row.payment_intent, row.invoice_id, row.capture_id) == (payment_of(service, invoice), invoice, None)
    assert service.refunded(refund) == [500]
    assert service.topics(refund) == ["requested", "looked", "attempted", "succeeded"]
    assert [fact.payload.get("invoice") for fact in service.facts(refund)][::3] == [invoice, invoice]


def test_without_an_amount_all_that_is_left_of_it_is_given_back(service: Service) -> None:
    invoice = service.paid_invoice()
    refunds = [service.refund_invoice(invoice), service.refund_invoice(invoice, None)]
    assert service.settle(*refunds) == ["succeeded"] * 2
    assert [service.refunded(refund) for refund in refunds] == [[500], [TOTAL - 500]]
    assert returned(service, invoice) == TOTAL
    with pytest.raises(billing.MoreThanInvoiced, match="nothing is left of it") as refused:
        service.refund_invoice(invoice, None)
    assert (refused.value.invoice_id, refused.value.asked, refused.value.left) == (invoice, None, 0)


def test_more_than_is_left_is_refused_with_what_is_left(service: Service) -> None:
    invoice = service.paid_invoice()
    service.refund_invoice(invoice, 4000)
    with pytest.raises(billing.MoreThanInvoiced, match="501 EUR are left of it, not 502") as refused:
        service.refund_invoice(invoice, 502)
    assert (refused.value.asked, refused.value.left, refused.value.currency) == (502, 501, "EUR")


def test_of_two_at_once_for_the_last_of_it_one_is_refused(service: Service) -> None:
    invoice = service.paid_invoice()
    ended: list[str] = []
    together = threading.Barrier(2)

    def ask(number: int) -> None:
        with database.transaction(service.engines["application"]) as session:
            together.wait()
            try:
                amount = billing.Money(2251, "EUR")
                billing.request_refund(session, invoice=invoice, amount=amount, request_id=f"at-once-{number}")
            except billing.MoreThanInvoiced:
                ended.append("refused")
            else:
                ended.append("asked")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(ended) == ["asked", "refused"]
    assert returned(service, invoice) == 2251


@pytest.mark.parametrize("state", ["requested", "sent"])
def test_what_is_not_paid_is_not_given_back(service: Service, state: str) -> None:
    invoice = service.ask_for_invoice()
    if state == "sent":
        assert service.settle(invoice) == ["sent"]
    with pytest.raises(billing.NotPaid, match=f"{invoice} is {state}, not paid") as refused:
        service.refund_invoice(invoice)
    assert (refused.value.invoice_id, refused.value.invoice_state) == (invoice, state)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"amount": billing.Money(500, "USD")}, "cannot be given back of an invoice in EUR"),
        ({"capture": "cap_1"}, "one of the four"),
        ({"account": "acct_1"}, "is not the one of the invoice"),
        ({"reason": "because"}, "must be one of"),
        ({"invoice": "in 1"}, "invoice"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(service: Service, changed: dict[str, Any], what: str) -> None:
    invoice = service.paid_invoice()
    asked = {"invoice": invoice, "request_id": "return-1", **changed}
    with database.transaction(service.engines["application"]) as session:
        with pytest.raises(billing.InvalidRequest, match=what):
            billing.request_refund(session, **asked)
        with pytest.raises(billing.UnknownEntity):
            billing.request_refund(session, invoice="inv_" + "0" * 32, request_id="return-1")
    assert returned(service, invoice) == 0


def test_an_invoice_that_was_paid_outside_of_stripe_has_nothing_to_refund_there(service: Service) -> None:
    invoice = service.paid_invoice("paid_out_of_band=true")
    refund = service.refund_invoice(invoice)
    assert service.settle(refund) == ["refused"]
    assert service.status(refund).reason == PAID_OUTSIDE
    assert (returned(service, invoice), service.posts("/v1/refunds")) == (0, [])


def test_what_somebody_gave_back_at_stripe_is_not_given_back_again(service: Service) -> None:
    invoice = service.paid_invoice()
    service.by_hand("/v1/refunds", f"payment_intent={payment_of(service, invoice)}&amount=4400")
    refund = service.refund_invoice(invoice)
    assert service.settle(refund) == ["refused"]
    assert service.status(refund).reason == "no_payment_of_so_much"
    assert returned(service, invoice) == 0


@pytest.mark.parametrize("fault", ["drop_after_commit", "502_html", "500_with_effect"])
def test_a_lost_answer_gives_nothing_back_twice(service: Service, fault: str) -> None:
    refund = service.refund_invoice(service.paid_invoice())
    service.standin.add_fault(fault, path="/v1/refunds$", method="POST", times=1)
    assert service.settle(refund) == ["succeeded"]
    assert service.refunded(refund) == [500]
    assert len({post["key"] for post in service.posts("/v1/refunds")}) == 1


def test_payments_that_cannot_be_read_keep_the_refund_waiting(service: Service) -> None:
    refund = service.refund_invoice(service.paid_invoice())
    service.standin.add_fault("502_html", path="/v1/invoice_payments$", method="GET", times=2)
    assert service.settle(refund) == ["succeeded"]
    assert service.refunded(refund) == [500]


def test_a_refund_that_fails_frees_its_amount(service: Service) -> None:
    invoice = service.paid_invoice("payment_method=pm_card_refundFail")
    refund = service.refund_invoice(invoice, None)
    assert service.settle(refund)[0] in ("succeeded", "failed")
    service.standin.advance(60)
    service.notice(refund)
    eventually(lambda: service.settle(refund) == ["failed"], "the bank has returned it")
    assert returned(service, invoice) == 0
    assert service.refund_invoice(invoice, None)


# An invoice that was paid in several payments.


def paid_in_two(service: Service, first: int) -> tuple[str, list[str]]:
    """An invoice that a payment of so much was attached to, and whose rest was charged; with both payments."""
    customer, method = service.payer()
    service.by_hand(f"/v1/customers/{customer}", "email=test%40example.com")
    invoice = service.sent_invoice(customer=customer)
    at_stripe = service.row(Invoice, invoice).stripe_invoice
    attached = service.by_hand(
        "/v1/payment_intents",
        f"amount={first}&currency=eur&customer={customer}&payment_method={method}&confirm=true"
        "&automatic_payment_methods[enabled]=true&automatic_payment_methods[allow_redirects]=never",
    )
    service.by_hand(f"/v1/invoices/{at_stripe}/attach_payment", f"payment_intent={attached}")
    service.by_hand(f"/v1/invoices/{at_stripe}/pay", f"payment_method={method}")
    service.notice(invoice)
    eventually(lambda: service.settle(invoice) == ["paid"], f"{invoice} is paid")
    paid = service.read_list("/v1/invoice_payments", invoice=at_stripe, status="paid")
    return invoice, sorted((each["payment"]["payment_intent"] for each in paid), key=lambda one: one != attached)


def test_two_refunds_at_once_of_an_invoice_of_two_payments_take_a_payment_each_that_has_enough(
    service: Service,
) -> None:
    """Each of the two payments has enough for one of them, and none for both."""
    invoice, payments = paid_in_two(service, 2001)
    refunds = [service.refund_invoice(invoice, amount) for amount in (1500, 1900)]
    assert service.settle(*refunds) == ["succeeded"] * 2
    assert [service.refunded(each) for each in refunds] == [[1500], [1900]]
    assert sorted(service.row(Refund, each).payment_intent for each in refunds) == sorted(payments)
    assert returned(service, invoice) == 3400
    rest = [service.refund_invoice(invoice, amount) for amount in (1000, 101)]
    assert service.settle(*rest) == ["succeeded"] * 2
    assert sum(effect["amount"] for effect in service.effects("refund")) == TOTAL


def test_while_one_refund_has_chosen_its_payment_and_is_not_made_no_other_of_its_invoice_chooses(
    service: Service,
) -> None:
    invoice = service.paid_invoice()
    refunds = sorted(service.refund_invoice(invoice, amount) for amount in (1500, 1900))
    service.plan()
    chosen = service.prepared("refunds", most=2)
    (first,) = chosen
    assert first == refunds[0], "the one that was asked for first"
    service.plan()
    assert service.prepared("refunds", most=2) == {}
    (other,) = set(refunds) - {first}
    assert first in str(service.work(other).reason)
    service.report(chosen[first])
    assert (service.row(Refund, first).payment_intent, service.records(other)) == (payment_of(service, invoice), [])
    assert service.settle(*refunds) == ["succeeded"] * 2


def test_a_refund_does_not_wait_for_the_lock_of_an_application_and_goes_on_after_it(service: Service) -> None:
    """An application that asks for a refund in a long transaction of its own has the invoice locked."""
    invoice = service.paid_invoice()
    refund = service.refund_invoice(invoice)
    with database.transaction(service.engines["application"]) as session:
        billing.request_refund(session, invoice=invoice, amount=billing.Money(1, "EUR"), request_id="slow")
        service.plan()
        assert service.prepared("refunds") == {}
        assert invoice in str(service.work(refund).reason)
    assert service.settle(refund) == ["succeeded"]
