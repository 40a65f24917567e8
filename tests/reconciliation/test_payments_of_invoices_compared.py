"""What was paid of an invoice at Stripe, and what was given back of it there, is compared with our row."""

from datetime import timedelta

import pytest
from compared import differences, open_classes, reconcile
from service import Service

from billing.tables.entities import Invoice
from jobs.reconciliation.classes import BY_NAME


def at_stripe(service: Service, invoice: str) -> str:
    return str(service.row(Invoice, invoice).stripe_invoice)


def pay_in_part(service: Service, invoice: str, amount: int) -> str:
    """As finance does in Stripe's dashboard: a payment of the customer is attached. Returns its intent."""
    customer = service.row(Invoice, invoice).customer
    method = service.by_hand("/v1/payment_methods/pm_card_visa/attach", f"customer={customer}")
    intent = service.by_hand(
        "/v1/payment_intents",
        f"amount={amount}&currency=eur&customer={customer}&payment_method={method}&confirm=true"
        "&automatic_payment_methods[enabled]=true&automatic_payment_methods[allow_redirects]=never",
    )
    service.by_hand(f"/v1/invoices/{at_stripe(service, invoice)}/attach_payment", f"payment_intent={intent}")
    return intent


def observe(service: Service) -> None:
    service.relay.round()
    service.work_off("invoices")


def reading_payments_alone(service: Service) -> None:
    """The next pass as if all but the events of payments had been compared long ago, and none of these."""
    moved = "UPDATE billing.stripe_cursors SET {0} = {0} {1} interval '1 day' WHERE list {2} 'invoice_payments'"
    service.execute(moved.format("covered_until", "+", "<>"))
    service.execute(moved.format("compared_until", "+", "<>"))
    service.execute(moved.format("compared_until", "-", "="))


def test_a_payment_in_part_that_no_webhook_told_is_noticed_and_settled(service: Service) -> None:
    invoice = service.sent_invoice()
    reconcile(service)
    pay_in_part(service, invoice, 1000)
    report = reconcile(service)
    (found,) = differences(service)
    assert (found.kind, found.subject, found.amount_minor) == ("state", invoice, 1000)
    assert found.what == "0 EUR of it paid here, 1000 at Stripe"
    assert report.counted.noticed == 1
    observe(service)
    assert service.row(Invoice, invoice).paid_minor == 1000
    assert service.topics(invoice)[-1] == "partly_paid"
    reconcile(service)
    assert open_classes(service) == {}
    # The rest, too, and then it is paid.
    pay_in_part(service, invoice, 3501)
    reconcile(service)
    observe(service)
    assert (service.status(invoice).state, service.row(Invoice, invoice).paid_minor) == ("paid", 4501)
    reconcile(service)
    assert open_classes(service) == {}


def test_it_is_found_by_the_events_of_payments_alone(service: Service) -> None:
    """An invoice is listed by when it was made, and has not ended."""
    invoice = service.sent_invoice()
    reconcile(service)
    pay_in_part(service, invoice, 1000)
    reading_payments_alone(service)
    reconcile(service, going_on=True, ahead=timedelta(seconds=40))
    assert open_classes(service) == {"state": invoice}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("state = 'paid', paid_minor = 900", "paid here with 900 EUR paid through Stripe, 1000 at Stripe"),
        ("state = 'voided'", "voided here with 0 EUR paid through Stripe, 1000 at Stripe"),
        ("state = 'refused'", "refused here with 0 EUR paid through Stripe, 1000 at Stripe"),
        ("paid_minor = 1500", "sent here with 1500 EUR paid through Stripe, 1000 at Stripe"),
        (
            """state = 'paid', paid_minor = 4501, terms = '{"collect": "already_paid"}'""",
            "paid here with 0 EUR paid through Stripe, 1000 at Stripe",
        ),
    ],
    ids=["paid-less-here", "voided", "refused", "paid-more-here", "paid-by-captures-before"],
)
def test_a_payment_that_our_row_does_not_know_is_for_finance(service: Service, change: str, what: str) -> None:
    invoice = service.sent_invoice()
    pay_in_part(service, invoice, 1000)
    service.execute(
        f"UPDATE billing.invoices SET {change}, state_since = state_since - interval '5 minutes' WHERE id = :id",
        id=invoice,
    )
    service.execute("UPDATE billing.facts SET happened_at = happened_at - interval '5 minutes'")
    reconcile(service)
    found = {each.kind: each for each in differences(service)}["payment"]
    assert (found.subject, found.what) == (invoice, what)
    assert (BY_NAME["payment"].owner, "give it back" in BY_NAME["payment"].next_step) == ("finance", True)


def test_what_was_paid_since_the_list_was_read_is_no_difference(service: Service) -> None:
    invoice = service.sent_invoice()
    reconcile(service)
    service.execute("UPDATE billing.invoices SET paid_minor = 1500 WHERE id = :id", id=invoice)
    reconcile(service)
    assert differences(service) == []


def test_a_row_of_an_older_version_that_kept_no_amount_is_no_difference(service: Service) -> None:
    invoice = service.paid_invoice()
    service.execute("UPDATE billing.invoices SET paid_minor = NULL")
    reconcile(service)
    assert differences(service) == [], invoice


def test_a_refund_by_hand_of_an_invoices_payment_is_found_and_names_the_invoice(service: Service) -> None:
    invoice, other = service.paid_invoice(), service.paid_invoice()
    reconcile(service)
    assert differences(service) == []
    (payment,) = service.read_list("/v1/invoice_payments", invoice=at_stripe(service, invoice), status="paid")
    refund = service.by_hand("/v1/refunds", f"payment_intent={payment['payment']['payment_intent']}&amount=700")
    # One that was asked for here is none of them.
    assert service.settle(service.refund_invoice(invoice), service.refund_invoice(other)) == ["succeeded"] * 2
    reconcile(service)
    (found,) = differences(service)
    assert (found.kind, found.subject, found.stripe_id, found.amount_minor) == ("refund", invoice, refund, 700)
    assert found.what == "700 EUR of its payment refunded at Stripe, not asked for here"


def test_a_refund_is_found_long_after_its_payment_was_compared(service: Service) -> None:
    invoice = service.paid_invoice()
    reconcile(service)
    (payment,) = service.read_list("/v1/invoice_payments", invoice=at_stripe(service, invoice), status="paid")
    service.standin.advance(24 * 3600)
    service.by_hand("/v1/refunds", f"payment_intent={payment['payment']['payment_intent']}")
    reconcile(service, going_on=True, ahead=timedelta(days=2))
    assert open_classes(service) == {"refund": invoice}


def test_payments_that_both_sides_know_and_invoices_of_others_make_no_difference(service: Service) -> None:
    """In part, by two payments, by a card, out of band, by captures before; and one that is none of ours."""
    partly, by_two = service.sent_invoice(), service.sent_invoice()
    pay_in_part(service, partly, 1000)
    pay_in_part(service, by_two, 4000)
    pay_in_part(service, by_two, 501)
    service.notice(partly, by_two)
    observe(service)
    assert [service.status(each).state for each in (partly, by_two)] == ["sent", "paid"]
    service.paid_invoice()
    service.paid_invoice("paid_out_of_band=true")
    # The rest of what was paid in part, out of band.
    rest = service.sent_invoice()
    pay_in_part(service, rest, 1000)
    assert service.settle(service.act_on(rest, "mark_invoice_paid")) == ["done"]
    of_capture = service.ask_for_invoice_of_capture(service.captured_one(), service.customer())
    assert service.settle(of_capture) == ["paid"]
    customer = service.customer()
    theirs = service.by_hand("/v1/invoices", f"customer={customer}&collection_method=send_invoice&days_until_due=14")
    service.by_hand(f"/v1/invoices/{theirs}/add_lines", "lines[0][amount]=700&lines[0][description]=theirs")
    service.by_hand(f"/v1/invoices/{theirs}/pay", "payment_method=pm_card_visa")
    (payment,) = service.read_list("/v1/invoice_payments", invoice=theirs, status="paid")
    service.by_hand("/v1/refunds", f"payment_intent={payment['payment']['payment_intent']}")
    for _ in range(2):
        reconcile(service)
        assert differences(service) == []
