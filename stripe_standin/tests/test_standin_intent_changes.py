"""A PaymentIntent can be changed until the bank was asked; afterwards only its metadata and description can be."""

import pytest
import stripe


@pytest.fixture
def draft(client):
    return client.v1.payment_intents.create(
        params={"amount": 1000, "currency": "usd", "capture_method": "manual", "metadata": {"a": "1"}}
    ).id


def test_everything_can_be_changed_before_it_is_confirmed(client, customer, draft):
    changed = client.v1.payment_intents.update(
        draft,
        params={
            "amount": 2000,
            "currency": "EUR",
            "customer": customer,
            "description": "two socks",
            "receipt_email": "who@example.com",
            "metadata": {"a": "", "b": "2"},
            "payment_method_options": {"card": {"request_multicapture": "if_available"}},
            "statement_descriptor_suffix": "SOCKS",
        },
    )
    assert (changed.amount, changed.currency, changed.customer) == (2000, "eur", customer)
    assert (changed.description, changed.metadata.to_dict()) == ("two socks", {"b": "2"})
    assert changed.status == "requires_payment_method"
    confirmed = client.v1.payment_intents.confirm(draft, params={"payment_method": "pm_card_visa"})
    assert (confirmed.amount_capturable, confirmed.statement_descriptor_suffix) == (2000, "SOCKS")
    charge = client.v1.charges.retrieve(confirmed.latest_charge)
    assert (charge.amount, charge.customer, charge.receipt_email) == (2000, customer, "who@example.com")
    assert charge.payment_method_details.card.multicapture.status == "available"


def test_there_is_no_event_for_a_change(client, draft):
    client.v1.payment_intents.update(draft, params={"amount": 2000})
    assert [event.type for event in client.v1.events.list().data] == ["payment_intent.created"]


def test_a_payment_method_makes_an_intent_ready_and_can_be_removed(client, draft):
    ready = client.v1.payment_intents.update(draft, params={"payment_method": "pm_card_visa"})
    assert (ready.status, ready.payment_method[:3]) == ("requires_confirmation", "pm_")
    gone = client.v1.payment_intents.update(draft, params={"payment_method": ""})
    assert (gone.status, gone.payment_method) == ("requires_payment_method", None)


def test_another_amount_has_to_be_confirmed_again(client, control):
    intent = client.v1.payment_intents.create(
        params={"amount": 1, "currency": "usd", "payment_method": "pm_card_authenticationRequired", "confirm": True}
    )
    changed = client.v1.payment_intents.update(intent.id, params={"amount": 2})
    assert (changed.status, changed.next_action) == ("requires_confirmation", None)
    assert client.v1.payment_intents.confirm(intent.id).status == "requires_action"
    assert control.authenticate(intent.id)["amount_received"] == 2


@pytest.mark.parametrize("change", [{"amount": 500}, {"currency": "eur"}, {"payment_method": "pm_card_visa"}])
@pytest.mark.parametrize("end", ["capture", "cancel", None])
def test_a_payment_that_the_bank_was_asked_for_cannot_be_changed(client, intent, change, end):
    after = getattr(client.v1.payment_intents, end)(intent) if end else client.v1.payment_intents.retrieve(intent)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.update(intent, params={**change, "description": "never"})
    (name,) = change
    assert (refused.value.error.code, refused.value.param) == ("payment_intent_unexpected_state", name)
    assert refused.value.error.payment_intent.status == after.status
    assert f"This PaymentIntent's {name} could not be updated because it has a status of" in refused.value.user_message
    assert client.v1.payment_intents.retrieve(intent).to_dict() == after.to_dict()


def test_metadata_and_texts_can_always_be_changed(client, intent):
    client.v1.payment_intents.capture(intent)
    changed = client.v1.payment_intents.update(intent, params={"description": "paid", "metadata": {"book": "7"}})
    assert (changed.status, changed.description, changed.metadata["book"]) == ("succeeded", "paid", "7")


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"customer": "cus_none"}, "customer"),
        ({"payment_method": "pm_none"}, "payment_method"),
        ({"amount": "0"}, "amount"),
        ({"confirm": "true"}, "confirm"),
        (
            {"payment_method_options[card][request_overcapture]": "never"},
            "payment_method_options[card][request_overcapture]",
        ),
    ],
)
def test_a_change_to_the_impossible_is_refused(raw, client, draft, form, param):
    before = client.v1.payment_intents.retrieve(draft).to_dict()
    answer = raw("POST", f"/v1/payment_intents/{draft}", form)
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)
    assert client.v1.payment_intents.retrieve(draft).to_dict() == before


def test_the_payment_method_of_another_customer_is_refused(client, customer, draft):
    method = client.v1.payment_methods.attach("pm_card_visa", params={"customer": customer})
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_intents.update(draft, params={"payment_method": method.id})
    both = client.v1.payment_intents.update(draft, params={"payment_method": method.id, "customer": customer})
    assert both.payment_method == method.id


def test_charges_are_listed_by_intent_and_by_customer(client, control, customer):
    mine, other = control.authorizations(customer=customer)[0], control.authorizations()[0]
    charge = client.v1.payment_intents.retrieve(mine).latest_charge
    assert [each.id for each in client.v1.charges.list(params={"customer": customer}).data] == [charge]
    listed = client.v1.charges.list(params={"payment_intent": other, "expand": ["data.payment_intent"]})
    assert [each.payment_intent.id for each in listed.data] == [other]
    assert len(client.v1.charges.list().data) == 2


@pytest.fixture
def of_an_invoice(client, customer):
    """The id of the PaymentIntent of an open invoice of 5.00 USD."""
    invoice = client.v1.invoices.create(params={"customer": customer})
    client.v1.invoices.add_lines(invoice.id, params={"lines": [{"amount": 500}]})
    client.v1.invoices.finalize_invoice(invoice.id)
    return client.v1.invoice_payments.list(params={"invoice": invoice.id}).data[0].payment.payment_intent


@pytest.mark.parametrize("change", [{"amount": 1}, {"currency": "eur"}, {"capture_method": "manual"}])
def test_fields_that_an_invoice_fixes_cannot_be_changed(client, of_an_invoice, change):
    (name,) = change
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.update(of_an_invoice, params=change)
    assert (refused.value.param, refused.value.error.code) == (name, "payment_intent_unexpected_state")
    assert client.v1.payment_intents.update(of_an_invoice, params={"description": "socks"}).amount == 500


def test_an_invoice_is_voided_and_its_intent_not_canceled(client, control, of_an_invoice):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.cancel(of_an_invoice)
    assert refused.value.error.code == "payment_intent_unexpected_state"
    assert "voiding the Invoice" in refused.value.user_message
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_intents.confirm(
            of_an_invoice, params={"payment_method": "pm_card_visa", "capture_method": "manual"}
        )
    assert control.effects("payment_intent.canceled") == []
    assert client.v1.payment_intents.retrieve(of_an_invoice).status == "requires_payment_method"
