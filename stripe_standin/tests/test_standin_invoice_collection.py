"""Collecting an invoice: paid by card or elsewhere, declined, sent, voided, uncollectible; on request and by itself."""

import pytest
import stripe

HOUR = 3600


@pytest.fixture
def payer(client, customer):
    """A customer with a default card."""
    return with_card(client, customer, "pm_card_visa")


def with_card(client, customer, card):
    method = client.v1.payment_methods.attach(card, params={"customer": customer})
    client.v1.customers.update(customer, params={"invoice_settings": {"default_payment_method": method.id}})
    return customer


def draft(client, customer, amount=1000, **more):
    invoice = client.v1.invoices.create(params={"customer": customer, **more})
    return client.v1.invoices.add_lines(invoice.id, params={"lines": [{"amount": amount}]}) if amount else invoice


def final(client, customer, amount=1000, **more):
    return client.v1.invoices.finalize_invoice(draft(client, customer, amount, **more).id)


def payment_of(client, invoice):
    return client.v1.invoice_payments.list(params={"invoice": invoice.id}).data[0]


def events(client, *kinds):
    return [event.type for event in reversed(client.v1.events.list(params={"types": list(kinds), "limit": 100}).data)]


def adds_up(invoice):
    """Check the sum: an invoice's total is what was paid, remains, was credited, or came from the balance."""
    applied = (invoice.starting_balance or 0) - (invoice.ending_balance or 0)
    credited = invoice.pre_payment_credit_notes_amount
    return invoice.total + applied == invoice.amount_paid + invoice.amount_remaining + credited


def test_a_final_invoice_has_a_payment_that_waits(client, customer):
    invoice = final(client, customer)
    payment = payment_of(client, invoice)
    assert (payment.status, payment.amount_requested, payment.amount_paid, payment.is_default) == (
        "open",
        1000,
        None,
        True,
    )
    intent = client.v1.payment_intents.retrieve(payment.payment.payment_intent)
    assert (intent.status, intent.amount, intent.customer) == ("requires_payment_method", 1000, customer)
    assert client.v1.invoice_payments.retrieve(payment.id) == payment
    listed = lambda **asked: [each.id for each in client.v1.invoice_payments.list(params=asked).data]  # noqa: E731
    by_intent = {"type": "payment_intent", "payment_intent": intent.id}
    assert listed(payment=by_intent) == listed(status="open") == [payment.id]
    assert listed(status="paid") == listed(invoice="in_other") == []


def test_payments_and_the_confirmation_secret_are_shown_where_they_are_expanded(client, raw, customer):
    invoice = final(client, customer)
    plain = raw("GET", f"/v1/invoices/{invoice.id}").json()
    assert not {"payments", "confirmation_secret"} & set(plain)
    shown = client.v1.invoices.retrieve(
        invoice.id, params={"expand": ["payments.data.payment.payment_intent", "confirmation_secret"]}
    )
    [payment] = shown.payments.data
    assert payment.payment.payment_intent.client_secret == shown.confirmation_secret.client_secret
    assert client.v1.invoices.retrieve(draft(client, customer).id, params={"expand": ["payments"]}).payments.data == []


def test_a_paid_invoice_and_its_charge_agree(client, control, payer):
    invoice = final(client, payer)
    paid = client.v1.invoices.pay(invoice.id, params={"expand": ["amount_paid_off_stripe"]})
    assert (paid.status, paid.amount_paid, paid.amount_remaining) == ("paid", 1000, 0)
    assert (paid.attempted, paid.attempt_count, paid.amount_paid_off_stripe) == (True, 1, 0)
    assert paid.status_transitions.paid_at is not None
    assert adds_up(paid)
    payment = payment_of(client, invoice)
    assert (payment.status, payment.amount_paid) == ("paid", 1000)
    assert [
        (each["kind"], each["amount"]) for each in control.effects() if each["kind"] in ("capture", "invoice.paid")
    ] in (
        [("capture", 1000), ("invoice.paid", 1000)],
        [("invoice.paid", 1000), ("capture", 1000)],
    )
    assert control.effects("capture")[0]["id"] == payment.payment.payment_intent
    assert events(client, "charge.*", "payment_intent.succeeded", "invoice_payment.*", "invoice.p*") == [
        "charge.succeeded",
        "payment_intent.succeeded",
        "invoice_payment.paid",
        "invoice.paid",
        "invoice.payment_succeeded",
    ]
    with pytest.raises(stripe.InvalidRequestError, match="already paid") as refused:
        client.v1.invoices.pay(invoice.id)
    assert (refused.value.http_status, refused.value.code) == (400, None)


def test_a_draft_is_finalized_and_collected_in_one_call(client, control, payer):
    invoice = draft(client, payer)
    key = {"idempotency_key": "pay:1"}
    paid = client.v1.invoices.pay(invoice.id, options=key)
    assert paid.status_transitions.finalized_at == paid.status_transitions.paid_at == paid.effective_at
    assert client.v1.invoices.pay(invoice.id, options=key).last_response.headers["Idempotent-Replayed"] == "true"
    assert len(control.effects("capture")) == 1


def test_a_decline_is_a_402_and_the_rows_stay(client, control, customer):
    invoice = draft(client, with_card(client, customer, "pm_card_chargeCustomerFail"))
    with pytest.raises(stripe.CardError) as declined:
        client.v1.invoices.pay(invoice.id)
    assert (declined.value.http_status, declined.value.code) == (402, "card_declined")
    unpaid = client.v1.invoices.retrieve(invoice.id)
    assert (unpaid.status, unpaid.attempted, unpaid.attempt_count, unpaid.amount_paid) == ("open", True, 1, 0)
    assert declined.value.error.payment_intent.id == payment_of(client, invoice).payment.payment_intent
    assert events(client, "invoice.payment_failed", "payment_intent.payment_failed") == [
        "payment_intent.payment_failed",
        "invoice.payment_failed",
    ]
    assert control.effects("capture") == []
    paid = client.v1.invoices.pay(invoice.id, params={"payment_method": "pm_card_visa"})
    assert (paid.status, paid.attempt_count) == ("paid", 1)


def test_without_a_payment_method_nothing_happens(client, customer):
    invoice = draft(client, customer)
    with pytest.raises(stripe.InvalidRequestError, match="no `default_payment_method` set"):
        client.v1.invoices.pay(invoice.id)
    assert client.v1.invoices.retrieve(invoice.id).status == "draft"


def test_the_invoices_own_payment_method_goes_before_the_customers(client, payer):
    other = client.v1.payment_methods.attach("pm_card_mastercard", params={"customer": payer})
    invoice = draft(client, payer, default_payment_method=other.id)
    assert client.v1.invoices.pay(invoice.id).default_payment_method == other.id
    intent = client.v1.payment_intents.retrieve(payment_of(client, invoice).payment.payment_intent)
    assert intent.payment_method == other.id


def test_a_payment_method_of_another_customer_is_refused_for_an_invoice(client, raw, payer):
    other = client.v1.customers.create()
    path = f"/v1/invoices/{draft(client, other.id).id}"
    theirs = client.v1.customers.retrieve(payer).invoice_settings.default_payment_method
    assert raw("POST", path, {"default_payment_method": theirs}).status == 400
    assert raw("POST", f"{path}/pay", {"payment_method": theirs}).status == 400


def test_paying_the_intent_pays_the_invoice(client, control, customer):
    invoice = final(client, customer)
    intent = payment_of(client, invoice).payment.payment_intent
    client.v1.payment_intents.confirm(intent, params={"payment_method": "pm_card_visa"})
    paid = client.v1.invoices.retrieve(invoice.id)
    assert (paid.status, paid.amount_paid) == ("paid", 1000)
    assert [each["amount"] for each in control.effects("capture")] == [1000]


def test_a_declined_confirmation_is_an_attempt_on_the_invoice(client, customer):
    invoice = final(client, customer)
    intent = payment_of(client, invoice).payment.payment_intent
    with pytest.raises(stripe.CardError):
        client.v1.payment_intents.confirm(intent, params={"payment_method": "pm_card_visa_chargeDeclined"})
    assert client.v1.invoices.retrieve(invoice.id).attempt_count == 1
    assert events(client, "invoice.payment_failed") == ["invoice.payment_failed"]


@pytest.mark.parametrize("off_session", [{}, {"off_session": True}, {"off_session": False}])
def test_a_customer_who_must_authenticate_is_waited_for(client, control, customer, off_session):
    """Even off session, which is the default of `pay`: an invoice can wait."""
    invoice = final(client, customer)
    with pytest.raises(stripe.CardError) as waits:
        client.v1.invoices.pay(invoice.id, params={"payment_method": "pm_card_authenticationRequired", **off_session})
    assert waits.value.error.payment_intent.status == "requires_action"
    assert waits.value.code == "invoice_payment_intent_requires_action"
    assert client.v1.invoices.retrieve(invoice.id).status == "open"
    assert events(client, "invoice.payment_action_required") == ["invoice.payment_action_required"]
    control.authenticate(waits.value.error.payment_intent.id)
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"


def test_paid_out_of_band_takes_no_money(client, control, payer):
    invoice = final(client, payer)
    paid = client.v1.invoices.pay(invoice.id, params={"paid_out_of_band": True, "expand": ["amount_paid_off_stripe"]})
    assert (paid.status, paid.amount_paid, paid.amount_paid_off_stripe) == ("paid", 1000, 1000)
    assert "amount_paid_off_stripe" not in client.v1.invoices.retrieve(invoice.id)
    assert (paid.attempted, adds_up(paid)) == (False, True)
    payment = payment_of(client, invoice)
    assert payment.status == "canceled"
    assert client.v1.payment_intents.retrieve(payment.payment.payment_intent).status == "canceled"
    assert (control.effects("capture"), control.effects("invoice.paid")) == ([], [])
    assert [each["amount"] for each in control.effects("invoice.paid_out_of_band")] == [1000]


def test_a_void_invoice_cannot_be_paid(client, control, payer):
    invoice = final(client, payer)
    void = client.v1.invoices.void_invoice(invoice.id)
    assert (void.status, void.amount_due, void.auto_advance) == ("void", 1000, False)
    assert void.status_transitions.voided_at is not None
    intent = client.v1.payment_intents.retrieve(payment_of(client, invoice).payment.payment_intent)
    assert (intent.status, intent.cancellation_reason) == ("canceled", "void_invoice")
    attempts = (client.v1.invoices.pay, client.v1.invoices.void_invoice, client.v1.invoices.mark_uncollectible)
    for attempt in attempts:
        with pytest.raises(stripe.InvalidRequestError, match="isn't open"):
            attempt(invoice.id)
    assert [each["kind"] for each in control.effects() if each["object"] == "invoice"][-1] == "invoice.voided"


def test_an_uncollectible_invoice_can_still_be_paid_or_voided(client, payer):
    one, two = final(client, payer), final(client, payer)
    for invoice in (one, two):
        given_up = client.v1.invoices.mark_uncollectible(invoice.id)
        assert (given_up.status, given_up.status_details.uncollectible.reason) == ("uncollectible", "user_forgiven")
        assert given_up.status_transitions.marked_uncollectible_at is not None
    with pytest.raises(stripe.InvalidRequestError, match="already been marked"):
        client.v1.invoices.mark_uncollectible(one.id)
    assert client.v1.invoices.pay(one.id).status == "paid"
    assert client.v1.invoices.void_invoice(two.id).status == "void"


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("void", "`paid` payments cannot be voided"),
        ("mark_uncollectible", "isn't open"),
        ("send", "cannot be sent right now"),
        ("finalize", "already finalized"),
    ],
)
def test_a_paid_invoice_stays_paid(client, raw, payer, verb, words):
    invoice = client.v1.invoices.pay(draft(client, payer).id)
    error = raw("POST", f"/v1/invoices/{invoice.id}/{verb}").json()["error"]
    assert words in error["message"]
    assert "code" not in error
    assert client.v1.invoices.retrieve(invoice.id) == invoice


def test_a_draft_can_neither_be_voided_nor_marked_uncollectible(client, raw, customer):
    invoice = draft(client, customer)
    for verb in ("void", "mark_uncollectible"):
        assert "isn't open" in raw("POST", f"/v1/invoices/{invoice.id}/{verb}").json()["error"]["message"]


@pytest.mark.parametrize(("verb", "param"), [("", "id"), ("/pay", "id"), ("/void", "id"), ("/send", "invoice")])
def test_an_unknown_invoice_is_named_as_stripe_names_it(raw, verb, param):
    answer = raw("POST", f"/v1/invoices/in_none{verb}")
    assert (answer.status, answer.json()["error"]["code"]) == (404, "resource_missing")
    assert answer.json()["error"]["param"] == param


def test_an_amount_that_cannot_be_charged_is_not_finalized(client, customer):
    invoice = draft(client, customer, 99_999_999)
    client.v1.invoices.add_lines(invoice.id, params={"lines": [{"amount": 1}]})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.invoices.finalize_invoice(invoice.id)
    assert refused.value.code == "amount_too_large"
    unchanged = client.v1.invoices.retrieve(invoice.id)
    assert (unchanged.status, unchanged.number, unchanged.total) == ("draft", None, 100_000_000)


def test_only_metadata_of_a_final_invoice_changes(client, customer):
    invoice = final(client, customer, metadata={"a": "1"})
    changed = client.v1.invoices.update(invoice.id, params={"metadata": {"b": "2"}})
    assert changed.metadata.to_dict() == {"a": "1", "b": "2"}
    with pytest.raises(stripe.InvalidRequestError, match="can't be updated in this way") as refused:
        client.v1.invoices.update(invoice.id, params={"description": "late", "metadata": {"b": "3"}})
    assert (refused.value.code, refused.value.param) == (None, "description")
    assert client.v1.invoices.retrieve(invoice.id).metadata["b"] == "2"


def test_a_change_of_a_draft_makes_one_event(client, customer):
    invoice = draft(client, customer, 0)
    changed = client.v1.invoices.update(
        invoice.id,
        params={"collection_method": "send_invoice", "days_until_due": 7, "description": "d", "number": "N-1"},
    )
    assert (changed.due_date - changed.created, changed.description, changed.number) == (7 * 86_400, "d", "N-1")
    client.v1.invoices.update(invoice.id, params={"description": "d"})
    back = client.v1.invoices.update(invoice.id, params={"collection_method": "charge_automatically"})
    assert back.due_date is None
    assert events(client, "invoice.updated") == ["invoice.updated"] * 2


# What happens by itself.


def test_an_invoice_that_advances_is_charged_an_hour_later(client, control, payer):
    invoice = client.v1.invoices.create(params={"customer": payer, "auto_advance": True})
    client.v1.invoices.add_lines(invoice.id, params={"lines": [{"amount": 1000}]})
    assert invoice.automatically_finalizes_at == invoice.created + HOUR + 1
    assert invoice.next_payment_attempt == invoice.created + HOUR
    control.advance(HOUR - 60)
    assert client.v1.invoices.retrieve(invoice.id).status == "draft"
    control.advance(120)
    paid = client.v1.invoices.retrieve(invoice.id)
    assert (paid.status, paid.amount_paid, paid.attempt_count, paid.auto_advance) == ("paid", 1000, 1, False)
    assert paid.status_transitions.finalized_at == invoice.created + HOUR + 1
    assert (paid.automatically_finalizes_at, paid.next_payment_attempt) == (None, None)
    [event] = client.v1.events.list(params={"type": "invoice.paid"}).data
    assert event.request.id is None


def test_an_invoice_that_advances_is_sent(client, control, customer):
    invoice = draft(client, customer, auto_advance=True, collection_method="send_invoice", days_until_due=1)
    assert invoice.next_payment_attempt is None
    control.advance(2 * HOUR)
    assert client.v1.invoices.retrieve(invoice.id).status == "open"
    assert len(control.effects("invoice.sent")) == 1


def test_an_invoice_that_does_not_advance_waits(client, control, payer):
    still = draft(client, payer)
    stopped = draft(client, payer, auto_advance=True)
    assert client.v1.invoices.update(stopped.id, params={"auto_advance": False}).automatically_finalizes_at is None
    control.advance(100 * HOUR)
    assert {client.v1.invoices.retrieve(each.id).status for each in (still, stopped)} == {"draft"}


def test_a_decline_of_an_automatic_charge_makes_an_event(client, control, customer):
    invoice = draft(client, with_card(client, customer, "pm_card_chargeCustomerFail"), auto_advance=True)
    control.advance(2 * HOUR)
    unpaid = client.v1.invoices.retrieve(invoice.id)
    assert (unpaid.status, unpaid.attempt_count, unpaid.next_payment_attempt) == ("open", 1, None)
    assert events(client, "invoice.payment_failed") == ["invoice.payment_failed"]


def test_a_final_invoice_that_advances_is_charged_an_hour_after_that(client, control, payer):
    invoice = draft(client, payer)
    opened = client.v1.invoices.finalize_invoice(invoice.id, params={"auto_advance": True})
    assert (opened.status, opened.attempted) == ("open", False)
    control.advance(HOUR + 10)
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"


def test_an_open_invoice_is_overdue_at_its_due_date(client, control, customer):
    late = final(client, customer, collection_method="send_invoice", days_until_due=1)
    paid = final(client, customer, collection_method="send_invoice", days_until_due=1)
    client.v1.invoices.pay(paid.id, params={"paid_out_of_band": True})
    control.advance(25 * HOUR)
    [event] = client.v1.events.list(params={"type": "invoice.overdue"}).data
    assert (event.data.object.id, event.created) == (late.id, late.due_date)
    due = lambda **bounds: [each.id for each in client.v1.invoices.list(params={"due_date": bounds}).data]  # noqa: E731
    # The second may have been finalized a second later.
    assert due(lte=paid.due_date) == [paid.id, late.id]
    assert due(gt=paid.due_date) == []


# The customer's balance.


def test_a_credit_of_the_customer_pays_first(client, control, payer):
    client.v1.customers.update(payer, params={"balance": -300})
    invoice = client.v1.invoices.pay(draft(client, payer).id)
    assert (invoice.total, invoice.amount_due, invoice.amount_paid) == (1000, 700, 700)
    assert (invoice.starting_balance, invoice.ending_balance, adds_up(invoice)) == (-300, 0, True)
    assert client.v1.customers.retrieve(payer).balance == 0
    ledger = client.v1.customers.balance_transactions.list(payer).data
    assert [(each.type, each.amount, each.ending_balance) for each in ledger] == [
        ("applied_to_invoice", 300, 0),
        ("adjustment", -300, -300),
    ]
    assert client.v1.customers.balance_transactions.retrieve(payer, ledger[0].id).invoice == invoice.id
    assert [each["amount"] for each in control.effects("capture")] == [700]


def test_a_credit_that_covers_all_pays_all(client, payer):
    client.v1.customers.balance_transactions.create(payer, params={"amount": -5000, "currency": "usd"})
    invoice = final(client, payer)
    assert (invoice.status, invoice.amount_due, invoice.attempted, invoice.attempt_count) == ("paid", 0, True, 0)
    assert client.v1.customers.retrieve(payer).balance == -4000
    assert adds_up(invoice)


def test_a_debt_is_added_and_a_negative_invoice_is_a_credit(client, payer):
    invoice = final(client, payer, -250)
    assert (invoice.status, invoice.ending_balance) == ("paid", -250)
    client.v1.customers.update(payer, params={"balance": 100})
    owing = final(client, payer)
    assert (owing.amount_due, client.v1.customers.retrieve(payer).balance) == (1100, 0)
    client.v1.invoices.void_invoice(owing.id)
    assert client.v1.customers.retrieve(payer).balance == 100


def test_a_draft_shows_the_balance_as_it_is_by_then(client, customer):
    invoice = draft(client, customer, currency="usd")
    assert invoice.starting_balance == 0
    client.v1.customers.update(customer, params={"balance": -300})
    assert client.v1.invoices.retrieve(invoice.id).starting_balance == -300
    assert client.v1.invoices.add_lines(invoice.id, {"lines": [{"amount": 500}]}).starting_balance == -300
    paid = client.v1.invoices.finalize_invoice(invoice.id)
    assert client.v1.invoices.retrieve(paid.id).starting_balance == -300


def test_one_that_is_smaller_than_a_charge_may_be_is_paid_and_owed_with_the_next(client, control, customer):
    invoice = final(client, customer, 49, currency="usd")
    assert (invoice.status, invoice.amount_due, invoice.amount_paid, invoice.attempt_count) == ("paid", 0, 0, 0)
    assert (invoice.starting_balance, invoice.ending_balance, adds_up(invoice)) == (0, 49, True)
    (entry,) = client.v1.customers.balance_transactions.list(customer).data
    assert (entry.type, entry.amount, entry.invoice) == ("invoice_too_small", 49, invoice.id)
    following = final(client, customer, 50, currency="usd")
    assert (following.status, following.amount_due) == ("open", 99)
    assert client.v1.customers.retrieve(customer).balance == 0
    assert control.effects("capture") == []


# Payments in part (docs.stripe.com/invoicing/partial-payments).


def paid_by_itself(client, customer, amount, currency="usd"):
    """A payment of this customer that is of no invoice."""
    method = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer})
    asked = {"amount": amount, "currency": currency, "customer": customer, "payment_method": method.id}
    return client.v1.payment_intents.create({**asked, "confirm": True, "automatic_payment_methods": NO_REDIRECTS}).id


NO_REDIRECTS = {"enabled": True, "allow_redirects": "never"}


def test_a_payment_that_is_attached_is_credited_and_the_rest_remains(client, control, customer):
    invoice = final(client, customer, currency="usd")
    first = paid_by_itself(client, customer, 400)
    shown = client.v1.invoices.attach_payment(invoice.id, {"payment_intent": first})
    assert (shown.status, shown.amount_paid, shown.amount_remaining) == ("open", 400, invoice.total - 400)
    default, attached = sorted(
        client.v1.invoice_payments.list({"invoice": invoice.id}).data, key=lambda each: not each.is_default
    )
    assert (default.status, default.amount_requested) == ("open", invoice.total - 400)
    assert (attached.status, attached.amount_paid, attached.payment.payment_intent) == ("paid", 400, first)
    (event,) = client.v1.events.list({"types": ["invoice_payment.paid"]}).data
    assert event.data.object.id == attached.id
    rest = paid_by_itself(client, customer, invoice.total - 400)
    shown = client.v1.invoices.attach_payment(invoice.id, {"payment_intent": rest})
    assert (shown.status, shown.amount_paid, shown.amount_remaining) == ("paid", invoice.total, 0)
    assert client.v1.invoice_payments.retrieve(default.id).status == "canceled"


def test_the_rest_of_an_invoice_that_was_paid_in_part_is_charged_or_paid_out_of_band(client, control, customer):
    for asked, off_stripe in (({"payment_method": "pm_card_visa"}, 0), ({"paid_out_of_band": True}, 600)):
        invoice = final(client, customer, currency="usd")
        client.v1.invoices.attach_payment(invoice.id, {"payment_intent": paid_by_itself(client, customer, 400)})
        shown = client.v1.invoices.pay(invoice.id, {**asked, "expand": ["amount_paid_off_stripe"]})
        assert (shown.status, shown.amount_paid, shown.amount_paid_off_stripe) == ("paid", 1000, off_stripe)


def test_what_does_not_fit_is_not_attached_and_what_is_paid_in_part_is_not_voided(client, raw, customer):
    invoice = final(client, customer, currency="usd")
    other = client.v1.customers.create({}).id
    wrong = [
        paid_by_itself(client, customer, 1001),
        paid_by_itself(client, customer, 100, "eur"),
        paid_by_itself(client, other, 100),
        client.v1.payment_intents.create({"amount": 100, "currency": "usd", "customer": customer}).id,
    ]
    for intent in wrong:
        answer = raw("POST", f"/v1/invoices/{invoice.id}/attach_payment", {"payment_intent": intent})
        assert answer.status == 400, intent
    client.v1.invoices.attach_payment(invoice.id, {"payment_intent": paid_by_itself(client, customer, 400)})
    assert raw("POST", f"/v1/invoices/{invoice.id}/void").status == 400
