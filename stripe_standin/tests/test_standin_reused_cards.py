"""A card without a customer can be used once; one that is to be used again is attached to a customer."""

import pytest
import stripe


def paying(method, **more):
    return {"amount": 500, "currency": "usd", "confirm": True, "payment_method": method, **more}


def card(client, name="visa"):
    return client.v1.payment_methods.create(params={"type": "card", "card": {"token": f"tok_{name}"}}).id


def refused(call, *args, **params):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        call(*args, params=params)
    assert refused.value.http_status == 400
    return str(refused.value.user_message)


@pytest.mark.parametrize("capture_method", ["manual", "automatic"])
def test_what_paid_without_a_customer_cannot_pay_again(client, control, capture_method):
    method = card(client)
    client.v1.payment_intents.create(params=paying(method, capture_method=capture_method))
    assert "It may not be used again." in refused(client.v1.payment_intents.create, **paying(method))
    intent = client.v1.payment_intents.create(params={"amount": 500, "currency": "usd"})
    assert "It may not be used again." in refused(client.v1.payment_intents.confirm, intent.id, payment_method=method)
    assert len(control.effects("authorization") + control.effects("capture")) == 1


def test_nor_can_it_be_attached_any_more(client, control, customer):
    method = card(client)
    client.v1.payment_intents.create(params=paying(method, customer=customer))
    assert "may not be used again." in refused(client.v1.payment_methods.attach, method, customer=customer)
    assert control.effects("payment_method.attached") == []


def test_a_declined_card_was_used_too(client):
    method = card(client, "chargeCustomerFail")
    with pytest.raises(stripe.CardError) as declined:
        client.v1.payment_intents.create(params=paying(method))
    intent = declined.value.error.payment_intent.id
    assert "It may not be used again." in refused(client.v1.payment_intents.confirm, intent, payment_method=method)


def test_a_customer_who_was_not_authenticated_has_used_the_card(client, control):
    method = card(client, "authenticationRequired")
    intent = client.v1.payment_intents.create(params=paying(method)).id
    # Confirmed again before the customer has authenticated, it is still the same attempt.
    assert client.v1.payment_intents.confirm(intent, params={"payment_method": method}).status == "requires_action"
    control.authenticate(intent, "failed")
    assert "It may not be used again." in refused(client.v1.payment_intents.confirm, intent, payment_method=method)


def test_an_attached_card_pays_again_and_again(client, control, customer):
    method = client.v1.payment_methods.attach(card(client), params={"customer": customer}).id
    for _ in range(2):
        client.v1.payment_intents.create(params=paying(method, customer=customer))
    assert len(control.effects("capture")) == 2


@pytest.mark.parametrize("usage", ["on_session", "off_session"])
@pytest.mark.parametrize("capture_method", ["manual", "automatic"])
def test_a_card_to_be_used_again_is_attached_once_it_has_paid(client, control, customer, usage, capture_method):
    params = paying("pm_card_visa", customer=customer, setup_future_usage=usage, capture_method=capture_method)
    intent = client.v1.payment_intents.create(params=params)
    (kept,) = client.v1.customers.payment_methods.list(customer).data
    assert (kept.id, kept.customer) == (intent.payment_method, customer)
    assert [each["id"] for each in control.effects("payment_method.attached")] == [kept.id]
    (event,) = client.v1.events.list(params={"type": "payment_method.attached"}).data
    assert event.data.object.customer == customer
    client.v1.payment_intents.create(params=paying(kept.id, customer=customer, off_session=True))


def test_it_is_attached_after_the_customer_was_authenticated(client, control, customer):
    params = paying("pm_card_authenticationRequired", customer=customer, setup_future_usage="off_session")
    intent = client.v1.payment_intents.create(params=params)
    assert client.v1.customers.payment_methods.list(customer).data == []
    control.authenticate(intent.id)
    assert [each.id for each in client.v1.customers.payment_methods.list(customer).data] == [intent.payment_method]


def test_a_declined_card_is_not_attached(client, control, customer):
    params = paying("pm_card_chargeCustomerFail", customer=customer, setup_future_usage="off_session")
    with pytest.raises(stripe.CardError):
        client.v1.payment_intents.create(params=params)
    assert control.effects("payment_method.attached") == []


def test_without_a_customer_it_can_still_be_attached_later(client, customer):
    intent = client.v1.payment_intents.create(params=paying(card(client), setup_future_usage="off_session"))
    assert client.v1.payment_methods.attach(intent.payment_method, params={"customer": customer}).customer == customer


def test_a_card_that_is_attached_already_is_not_attached_again(client, control, customer):
    method = client.v1.payment_methods.attach(card(client), params={"customer": customer}).id
    client.v1.payment_intents.create(params=paying(method, customer=customer, setup_future_usage="off_session"))
    assert len(control.effects("payment_method.attached")) == 1


def test_a_customer_who_is_gone_gets_no_card(client, control, customer):
    params = {"amount": 500, "currency": "usd", "customer": customer, "setup_future_usage": "off_session"}
    intent = client.v1.payment_intents.create(params=params)
    client.v1.customers.delete(customer)
    assert client.v1.payment_intents.confirm(intent.id, params={"payment_method": "pm_card_visa"}).status == "succeeded"
    assert control.effects("payment_method.attached") == []


def test_cards_made_for_many_authorizations_are_used_up(client, control):
    made = control.authorizations(3)
    methods = {client.v1.payment_intents.retrieve(each).payment_method for each in made}
    assert len(methods) == 3
    for method in methods:
        refused(client.v1.payment_intents.create, **paying(method))
