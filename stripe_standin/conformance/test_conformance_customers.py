"""Customers, their addresses, and their saved cards.

docs.stripe.com/payments/save-during-payment, docs.stripe.com/error-codes, docs.stripe.com/currencies
"""

import pytest
import stripe
from sandbox import payment


def refused(call, *asked, **params):
    with pytest.raises(stripe.StripeError) as caught:
        call(*asked, params=params)
    return caught.value.error


def card(client):
    return client.v1.payment_methods.create(params={"type": "card", "card": {"token": "tok_visa"}}).id


def test_a_card_without_a_customer_can_be_used_once(client, customer):
    method = card(client)
    client.v1.payment_intents.create(params=payment(payment_method=method))
    again = refused(client.v1.payment_intents.create, **payment(payment_method=method))
    assert (again.type, "may not be used again" in again.message) == ("invalid_request_error", True)
    kept = refused(client.v1.payment_methods.attach, method, customer=customer)
    assert (kept.type, "may not be used again" in kept.message) == ("invalid_request_error", True)


def test_a_card_that_is_to_be_used_again_is_attached_by_the_payment(client, customer):
    asked = payment(payment_method=card(client), customer=customer, setup_future_usage="off_session")
    method = client.v1.payment_intents.create(params=asked).payment_method
    assert [each.id for each in client.v1.customers.payment_methods.list(customer).data] == [method]
    again = client.v1.payment_intents.create(params=payment(payment_method=method, customer=customer, off_session=True))
    assert again.status == "requires_capture"


def test_a_declined_card_has_been_used(client, unknown):
    asked = payment(payment_method="pm_card_chargeCustomerFail")
    intent = refused(client.v1.payment_intents.create, **asked).payment_intent["id"]
    method = client.v1.charges.list(params={"payment_intent": intent}).data[0].payment_method
    again = refused(client.v1.payment_intents.confirm, intent, payment_method=method)
    unknown("a declined card of nobody's, tried again", "invalid_request_error", again.type)


@pytest.mark.parametrize("address", ["foo", "foo@example", "two words@example.com"])
def test_an_email_address_is_one(client, address):
    for call, asked, param in (
        (client.v1.customers.create, {"email": address}, "email"),
        (
            client.v1.payment_intents.create,
            {"amount": 1000, "currency": "usd", "receipt_email": address},
            "receipt_email",
        ),
    ):
        error = refused(call, **asked)
        assert (error.code, error.param) == ("email_invalid", param)


def test_a_currency_is_one_that_stripe_takes(client):
    error = refused(client.v1.payment_intents.create, amount=1000, currency="xyz")
    assert (error.type, error.param) == ("invalid_request_error", "currency")
    assert error.message.startswith("Invalid currency: xyz.")


def test_an_invoice_is_sent_only_to_a_customer_with_an_email_address(client, label):
    nobody = client.v1.customers.create(params={"name": label}).id
    asked = {"customer": nobody, "collection_method": "send_invoice", "days_until_due": 30}
    assert refused(client.v1.invoices.create, **asked).message.startswith("Missing email.")


def test_the_refunds_of_a_charge_are_expanded(client, authorize):
    intent = client.v1.payment_intents.capture(authorize().id).id
    made = client.v1.refunds.create(params={"payment_intent": intent, "amount": 300}).id
    asked = {"expand": ["latest_charge.refunds"]}
    charge = client.v1.payment_intents.retrieve(intent, params=asked).latest_charge
    assert [(each.id, each.amount) for each in charge.refunds.data] == [(made, 300)]


def test_payment_methods_are_those_of_the_dashboard_unless_the_request_names_others(client):
    intent = client.v1.payment_intents.create(params={"amount": 1000, "currency": "usd"})
    assert (intent.automatic_payment_methods.enabled, intent.automatic_payment_methods.allow_redirects) == (
        True,
        "always",
    )


def test_where_no_method_redirects_no_page_to_return_to_is_needed(client, unknown):
    """A sandbox whose dashboard has redirecting methods asks for a return_url; one with cards only may not."""
    asked = {name: value for name, value in payment().items() if name != "automatic_payment_methods"}
    try:
        found = client.v1.payment_intents.create(params=asked).status
    except stripe.InvalidRequestError as error:
        found = "return_url" if "return_url" in str(error.user_message) else str(error.user_message)
    unknown("an intent of the dashboard's methods, confirmed without a return_url", "requires_capture", found)


def test_a_confirmation_without_a_payment_method_makes_no_intent(client, customer, unknown):
    error = refused(client.v1.payment_intents.create, amount=1000, currency="usd", confirm=True, customer=customer)
    unknown("to create and confirm without a payment method", "payment_intent_unexpected_state", error.code)
    left = client.v1.payment_intents.list(params={"customer": customer}).data
    unknown("intents that it leaves", 0, len(left))


def test_an_invoice_waits_for_a_customer_who_is_absent(client, customer, unknown):
    method = client.v1.payment_methods.attach("pm_card_authenticationRequired", params={"customer": customer}).id
    client.v1.invoice_items.create(params={"customer": customer, "amount": 1000, "currency": "usd"})
    made = client.v1.invoices.create(params={"customer": customer, "pending_invoice_items_behavior": "include"}).id
    error = refused(client.v1.invoices.pay, made, payment_method=method)
    unknown("an invoice paid off session with 3-D Secure", "invoice_payment_intent_requires_action", error.code)
