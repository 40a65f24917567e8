"""Credit notes: they reduce an open invoice, or give back money of a paid one, never too much; sums must match."""

import pytest
import stripe


@pytest.fixture
def invoice(client, customer):
    """Open, over 10.00 USD in two lines, 700 and 300."""
    draft = client.v1.invoices.create(params={"customer": customer})
    client.v1.invoices.add_lines(draft.id, params={"lines": [{"amount": 700, "description": "a"}, {"amount": 300}]})
    return client.v1.invoices.finalize_invoice(draft.id)


@pytest.fixture
def paid(client, invoice):
    return client.v1.invoices.pay(invoice.id, params={"payment_method": "pm_card_visa"})


def credit(client, invoice, **asked):
    return client.v1.credit_notes.create(params={"invoice": invoice.id, **asked})


def intent_of(client, invoice):
    payment = client.v1.invoice_payments.list(params={"invoice": invoice.id}).data[0]
    return client.v1.payment_intents.retrieve(payment.payment.payment_intent)


def test_a_credit_note_reduces_an_open_invoice(client, control, invoice):
    note = credit(client, invoice, amount=400, memo="sorry", reason="order_change", metadata={"a": "b"})
    assert (note.type, note.pre_payment_amount, note.post_payment_amount, note.status) == (
        "pre_payment",
        400,
        0,
        "issued",
    )
    assert note.number == f"{invoice.number}-CN-01"
    less = client.v1.invoices.retrieve(invoice.id)
    assert (less.total, less.amount_due, less.amount_remaining, less.pre_payment_credit_notes_amount) == (
        1000,
        600,
        600,
        400,
    )
    assert intent_of(client, invoice).amount == 600
    done = client.v1.invoices.pay(invoice.id, params={"payment_method": "pm_card_visa"})
    assert (done.amount_paid, done.amount_remaining) == (600, 0)
    assert [each["amount"] for each in control.effects("capture")] == [600]
    assert [each["amount"] for each in control.effects("credit_note.created")] == [400]


def test_an_invoice_that_was_credited_whole_is_paid(client, control, invoice):
    credit(client, invoice, amount=1000)
    done = client.v1.invoices.retrieve(invoice.id)
    assert (done.status, done.amount_due, done.amount_paid) == ("paid", 0, 0)
    assert intent_of(client, invoice).status == "canceled"
    assert control.effects("capture") == []


def test_a_paid_invoice_gives_money_back(client, control, paid):
    note = credit(client, paid, amount=250, refund_amount=250, reason="duplicate")
    assert (note.type, note.pre_payment_amount, note.post_payment_amount) == ("post_payment", 0, 250)
    [entry] = note.refunds
    refund = client.v1.refunds.retrieve(entry.refund)
    assert (refund.amount, entry.amount_refunded, refund.reason) == (250, 250, "duplicate")
    after = client.v1.invoices.retrieve(paid.id)
    assert (after.status, after.amount_paid, after.post_payment_credit_notes_amount) == ("paid", 1000, 250)
    assert [each["amount"] for each in control.effects("refund")] == [250]


def test_what_was_paid_is_given_back_in_three_ways(client, control, customer, paid):
    note = credit(client, paid, amount=600, refund_amount=100, credit_amount=200, out_of_band_amount=300)
    assert note.out_of_band_amount == 300
    [change] = client.v1.customers.balance_transactions.list(customer).data
    assert (change.id, change.amount, change.type) == (note.customer_balance_transaction, -200, "credit_note")
    assert change.credit_note == note.id
    assert client.v1.customers.retrieve(customer).balance == -200
    assert [each["amount"] for each in control.effects("refund")] == [100]


@pytest.mark.parametrize(
    "asked",
    [
        {"amount": 600, "refund_amount": 500},
        {"amount": 600},
        {"amount": 600, "refund_amount": 300, "credit_amount": 200, "out_of_band_amount": 200},
        {"amount": 1001, "refund_amount": 1001},
    ],
)
def test_sums_that_do_not_match_give_nothing_back(client, control, paid, asked):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        credit(client, paid, **asked)
    assert (refused.value.http_status, refused.value.code) == (400, None)
    assert (control.effects("refund"), control.effects("credit_note.created")) == ([], [])


def test_an_open_invoice_gives_nothing_back(client, invoice):
    with pytest.raises(stripe.InvalidRequestError, match="must equal"):
        credit(client, invoice, amount=100, refund_amount=100)


def test_no_invoice_is_credited_twice(client, control, paid):
    credit(client, paid, amount=600, refund_amount=600)
    with pytest.raises(stripe.InvalidRequestError):
        credit(client, paid, amount=401, refund_amount=401)
    client.v1.refunds.create(params={"payment_intent": intent_of(client, paid).id, "amount": 100})
    with pytest.raises(stripe.InvalidRequestError):
        credit(client, paid, amount=301, out_of_band_amount=301)
    credit(client, paid, amount=300, refund_amount=300)
    assert sum(each["amount"] for each in control.effects("refund")) == 1000


def test_money_that_came_from_elsewhere_cannot_be_refunded(client, invoice):
    client.v1.invoices.pay(invoice.id, params={"paid_out_of_band": True})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        credit(client, invoice, amount=100, refund_amount=100)
    assert refused.value.param == "refund_amount"
    assert credit(client, invoice, amount=100, out_of_band_amount=100).status == "issued"


def test_a_note_is_about_a_refund_that_was_made_before(client, control, paid):
    refund = client.v1.refunds.create(params={"payment_intent": intent_of(client, paid).id})
    note = credit(client, paid, amount=400, refunds=[{"refund": refund.id, "amount_refunded": 400}])
    [entry] = note.refunds
    assert (entry.refund, entry.amount_refunded, entry.type) == (refund.id, 400, "refund")
    assert (note.pre_payment_amount, note.post_payment_amount) == (0, 400)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        credit(client, paid, amount=601, refunds=[{"refund": refund.id, "amount_refunded": 601}])
    assert refused.value.param == "refunds[0][amount_refunded]"
    assert credit(client, paid, amount=600, refunds=[{"refund": refund.id, "amount_refunded": 600}]).status == "issued"
    assert [each["amount"] for each in control.effects("refund")] == [1000]
    assert client.v1.invoices.retrieve(paid.id).post_payment_credit_notes_amount == 1000


def test_without_an_amount_a_note_is_about_the_whole_refund(client, paid):
    refund = client.v1.refunds.create(params={"payment_intent": intent_of(client, paid).id, "amount": 300})
    with pytest.raises(stripe.InvalidRequestError, match="must equal"):
        credit(client, paid, amount=200, refunds=[{"refund": refund.id}])
    note = credit(client, paid, amount=500, refunds=[{"refund": refund.id}], out_of_band_amount=200)
    assert [each.amount_refunded for each in note.refunds] == [300]


def test_a_refund_of_another_payment_is_none_of_this_invoice(client, paid):
    other = client.v1.payment_intents.create(
        params={"amount": 500, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}
    )
    refund = client.v1.refunds.create(params={"payment_intent": other.id})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        credit(client, paid, amount=500, refunds=[{"refund": refund.id}])
    assert refused.value.param == "refunds[0][refund]"


def test_lines_are_credited_by_amount_by_units_or_on_their_own(client, invoice):
    first, second = (line.id for line in invoice.lines.data)
    note = credit(
        client,
        invoice,
        lines=[
            {"type": "invoice_line_item", "invoice_line_item": first, "amount": 50},
            {"type": "invoice_line_item", "invoice_line_item": second, "quantity": 1},
            {"type": "custom_line_item", "description": "goodwill", "unit_amount_decimal": "2.5", "quantity": 3},
        ],
    )
    assert [(line.amount, line.type, line.description) for line in note.lines.data] == [
        (50, "invoice_line_item", "a"),
        (300, "invoice_line_item", None),
        (8, "custom_line_item", "goodwill"),
    ]
    assert note.amount == 358
    assert [line.id for line in client.v1.credit_notes.line_items.list(note.id).data] == [
        each.id for each in note.lines.data
    ]
    with pytest.raises(stripe.InvalidRequestError, match="its own amount"):
        credit(client, invoice, lines=[{"type": "invoice_line_item", "invoice_line_item": second, "amount": 1}])


def test_a_preview_changes_nothing(client, control, paid):
    shown = client.v1.credit_notes.preview(params={"invoice": paid.id, "amount": 100, "refund_amount": 100})
    assert (shown.amount, shown.type, shown.refunds) == (100, "post_payment", [])
    assert client.v1.credit_notes.list().data == []
    assert (control.effects("refund"), client.v1.invoices.retrieve(paid.id)) == ([], paid)


def test_a_void_credit_note_is_to_be_paid_again(client, invoice):
    note = credit(client, invoice, amount=400)
    void = client.v1.credit_notes.void_credit_note(note.id)
    assert void.status == "void"
    assert void.voided_at is not None
    whole = client.v1.invoices.retrieve(invoice.id)
    assert (whole.amount_due, whole.pre_payment_credit_notes_amount) == (1000, 0)
    assert intent_of(client, invoice).amount == 1000
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.credit_notes.void_credit_note(note.id)


def test_what_was_given_back_cannot_be_voided(client, paid):
    note = credit(client, paid, amount=100, refund_amount=100)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.credit_notes.void_credit_note(note.id)
    assert client.v1.credit_notes.retrieve(note.id).status == "issued"


def test_a_credit_note_has_metadata_is_listed_and_has_events(client, customer, invoice):
    one, two = credit(client, invoice, amount=1), credit(client, invoice, amount=2)
    changed = client.v1.credit_notes.update(one.id, params={"memo": "m", "metadata": {"a": "b"}})
    assert (changed.memo, changed.metadata["a"]) == ("m", "b")
    client.v1.credit_notes.void_credit_note(two.id)
    listed = lambda **asked: [each.id for each in client.v1.credit_notes.list(params=asked).data]  # noqa: E731
    assert listed(invoice=invoice.id) == listed(customer=customer) == [two.id, one.id]
    assert listed(invoice="in_other") == []
    types = [event.type for event in client.v1.events.list(params={"type": "credit_note.*"}).data]
    assert types == ["credit_note.voided", "credit_note.updated", "credit_note.created", "credit_note.created"]


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"invoice": "in_none", "amount": "1"},
        {"invoice": "INVOICE"},
        {"invoice": "INVOICE", "amount": "0"},
        {"invoice": "INVOICE", "amount": "1", "lines[0][type]": "custom_line_item", "lines[0][unit_amount]": "1"},
        {"invoice": "INVOICE", "lines[0][type]": "custom_line_item"},
        {
            "invoice": "INVOICE",
            "lines[0][type]": "custom_line_item",
            "lines[0][unit_amount]": "1",
            "lines[0][quantity]": "0",
        },
        {"invoice": "INVOICE", "lines[0][type]": "invoice_line_item", "lines[0][invoice_line_item]": "il_none"},
        {"invoice": "INVOICE", "amount": "1", "refunds[0][refund]": "re_1"},
    ],
)
def test_an_impossible_credit_note_is_refused(raw, invoice, form):
    answer = raw("POST", "/v1/credit_notes", {n: invoice.id if v == "INVOICE" else v for n, v in form.items()})
    assert answer.status == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert raw("GET", "/v1/credit_notes").json()["data"] == []


def test_drafts_and_void_invoices_cannot_be_credited(client, customer, invoice):
    draft = client.v1.invoices.create(params={"customer": customer})
    client.v1.invoices.void_invoice(invoice.id)
    for each in (draft, invoice):
        with pytest.raises(stripe.InvalidRequestError, match="open or a paid"):
            credit(client, each, amount=1)
