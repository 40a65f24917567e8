"""Invoices go from draft to open, and from there to paid, void or uncollectible; what is final stays as it is.

docs.stripe.com/invoicing/integration/workflow-transitions
"""

import pytest
import stripe


@pytest.fixture
def draft(client, customer, label):
    """The id of a draft of 30.00 USD in two lines, to be paid within 30 days."""
    params = {"customer": customer, "currency": "usd", "metadata": {"label": label}}
    params |= {"collection_method": "send_invoice", "days_until_due": 30}
    made = client.v1.invoices.create(params=params).id
    lines = [{"amount": 1000, "description": "one"}, {"amount": 2000, "description": "two"}]
    client.v1.invoices.add_lines(made, params={"lines": lines})
    return made


@pytest.fixture
def opened(client, draft):
    """The id of a final invoice of 30.00 USD."""
    return client.v1.invoices.finalize_invoice(draft).id


def refused(call, *asked, **more):
    with pytest.raises(stripe.StripeError) as caught:
        call(*asked, **more)
    return caught.value.error


def attached(client, customer, card):
    return client.v1.payment_methods.attach(card, params={"customer": customer}).id


def test_a_draft_does_not_advance_by_itself(client, customer):
    invoice = client.v1.invoices.create(params={"customer": customer})
    assert (invoice.status, invoice.auto_advance, invoice.total) == ("draft", False, 0)
    assert (invoice.collection_method, invoice.status_transitions.finalized_at) == ("charge_automatically", None)


def test_a_draft_takes_lines(client, draft):
    invoice = client.v1.invoices.retrieve(draft)
    assert (invoice.status, invoice.total, invoice.amount_due) == ("draft", 3000, 3000)
    assert {(line.amount, line.description) for line in invoice.lines.data} == {(1000, "one"), (2000, "two")}
    assert len(client.v1.invoices.line_items.list(draft).data) == 2


def test_a_sent_invoice_needs_a_due_date(client, customer):
    params = {"customer": customer, "collection_method": "send_invoice"}
    assert refused(client.v1.invoices.create, params=params).type == "invalid_request_error"


def test_a_final_invoice_has_a_number_and_a_page(client, draft):
    invoice = client.v1.invoices.finalize_invoice(draft)
    assert (invoice.status, invoice.amount_remaining, invoice.amount_paid) == ("open", 3000, 0)
    assert invoice.number
    assert invoice.hosted_invoice_url
    assert invoice.status_transitions.finalized_at >= invoice.created


def test_an_invoice_is_finalized_once(client, opened):
    error = refused(client.v1.invoices.finalize_invoice, opened)
    assert (error.type, getattr(error, "code", None)) == ("invalid_request_error", None)


def test_a_final_invoice_takes_metadata_and_no_lines(client, opened, label):
    assert client.v1.invoices.update(opened, params={"metadata": {"more": label}}).metadata["more"] == label
    error = refused(client.v1.invoices.add_lines, opened, params={"lines": [{"amount": 1}]})
    assert (error.type, error.code) == ("invalid_request_error", "invoice_not_editable")
    assert client.v1.invoices.retrieve(opened).total == 3000


def test_a_draft_that_is_sent_is_final(client, draft):
    assert client.v1.invoices.send_invoice(draft).status == "open"
    assert refused(client.v1.invoices.finalize_invoice, draft).type == "invalid_request_error"


def test_a_draft_can_be_deleted_and_a_final_invoice_cannot(client, draft, customer):
    other = client.v1.invoices.create(params={"customer": customer}).id
    assert client.v1.invoices.delete(other).deleted is True
    assert refused(client.v1.invoices.retrieve, other).code == "resource_missing"
    client.v1.invoices.finalize_invoice(draft)
    assert refused(client.v1.invoices.delete, draft).type == "invalid_request_error"
    assert client.v1.invoices.retrieve(draft).status == "open"


def test_an_invoice_can_be_voided_once(client, opened):
    invoice = client.v1.invoices.void_invoice(opened)
    assert (invoice.status, invoice.status_transitions.voided_at >= invoice.created) == ("void", True)
    assert refused(client.v1.invoices.void_invoice, opened).type == "invalid_request_error"
    assert refused(client.v1.invoices.pay, opened).type == "invalid_request_error"


def test_a_bad_debt_can_still_be_voided(client, opened):
    invoice = client.v1.invoices.mark_uncollectible(opened)
    assert (invoice.status, invoice.status_transitions.marked_uncollectible_at >= invoice.created) == (
        "uncollectible",
        True,
    )
    assert client.v1.invoices.void_invoice(opened).status == "void"


def test_an_invoice_is_paid_once(client, opened, customer):
    card = attached(client, customer, "pm_card_visa")
    invoice = client.v1.invoices.pay(opened, params={"payment_method": card})
    assert (invoice.status, invoice.amount_paid, invoice.amount_remaining) == ("paid", 3000, 0)
    assert invoice.status_transitions.paid_at >= invoice.created
    (paid,) = client.v1.invoice_payments.list(params={"invoice": opened}).data
    assert (paid.status, paid.amount_paid) == ("paid", 3000)
    intent = client.v1.payment_intents.retrieve(paid.payment.payment_intent)
    assert (intent.status, intent.amount_received, intent.customer) == ("succeeded", 3000, customer)
    assert refused(client.v1.invoices.pay, opened).type == "invalid_request_error"
    assert refused(client.v1.invoices.void_invoice, opened).type == "invalid_request_error"


def test_a_draft_is_finalized_by_paying_it(client, draft, customer):
    card = attached(client, customer, "pm_card_visa")
    invoice = client.v1.invoices.pay(draft, params={"payment_method": card})
    assert (invoice.status, invoice.amount_paid) == ("paid", 3000)
    assert invoice.number


def test_a_declined_invoice_stays_open(client, opened, customer):
    card = attached(client, customer, "pm_card_chargeCustomerFail")
    error = refused(client.v1.invoices.pay, opened, params={"payment_method": card})
    assert (error.type, error.code) == ("card_error", "card_declined")
    invoice = client.v1.invoices.retrieve(opened)
    assert (invoice.status, invoice.amount_paid, invoice.amount_remaining) == ("open", 0, 3000)
    assert (invoice.attempted, invoice.attempt_count) == (True, 1)


def test_an_invoice_can_be_settled_elsewhere(client, opened):
    invoice = client.v1.invoices.pay(opened, params={"paid_out_of_band": True})
    assert (invoice.status, invoice.amount_remaining) == ("paid", 0)


def test_pending_items_wait_until_they_are_asked_for(client, customer):
    item = client.v1.invoice_items.create(params={"customer": customer, "amount": 500, "currency": "usd"}).id
    assert client.v1.invoices.create(params={"customer": customer}).total == 0
    params = {"customer": customer, "pending_invoice_items_behavior": "include"}
    invoice = client.v1.invoices.create(params=params)
    assert invoice.total == 500
    assert client.v1.invoice_items.retrieve(item).invoice == invoice.id


def test_a_credit_note_lowers_what_is_due(client, opened):
    note = client.v1.credit_notes.create(params={"invoice": opened, "amount": 1000})
    assert (note.invoice, note.total, note.status) == (opened, 1000, "issued")
    assert client.v1.invoices.retrieve(opened).amount_remaining == 2000
    assert refused(client.v1.credit_notes.create, params={"invoice": opened, "amount": 2001}).type == (
        "invalid_request_error"
    )


def test_an_invoice_of_nothing(client, customer, unknown):
    made = client.v1.invoices.create(params={"customer": customer, "currency": "usd"}).id
    unknown("an invoice without lines when it is finalized", "paid", client.v1.invoices.finalize_invoice(made).status)


def test_a_bad_debt_that_is_paid_after_all(client, opened, customer, unknown):
    client.v1.invoices.mark_uncollectible(opened)
    card = attached(client, customer, "pm_card_visa")
    try:
        found = client.v1.invoices.pay(opened, params={"payment_method": card}).status
    except stripe.InvalidRequestError:
        found = "refused"
    unknown("paying an uncollectible invoice", "paid", found)


def test_a_charged_invoice_is_sent(client, customer, unknown):
    made = client.v1.invoices.create(params={"customer": customer, "currency": "usd"}).id
    client.v1.invoices.add_lines(made, params={"lines": [{"amount": 1000}]})
    try:
        found = client.v1.invoices.send_invoice(made).status
    except stripe.InvalidRequestError:
        found = "refused"
    unknown("sending an invoice that charges automatically", "refused", found)
