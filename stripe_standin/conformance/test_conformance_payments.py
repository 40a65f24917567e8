"""PaymentIntents are authorized, then captured once or released; a capture can be refunded.

docs.stripe.com/payments/place-a-hold-on-a-payment-method, docs.stripe.com/declines/codes, docs.stripe.com/refunds
"""

import pytest
import stripe
from sandbox import payment


def refused(call, *asked, **more):
    """The error that this raises."""
    with pytest.raises(stripe.StripeError) as caught:
        call(*asked, **more)
    return caught.value.error


def test_an_intent_waits_for_a_payment_method_for_its_confirmation_and_for_its_capture(client):
    intents = client.v1.payment_intents
    intent = intents.create(params={"amount": 1000, "currency": "usd", "capture_method": "manual"})
    assert (intent.status, intent.latest_charge) == ("requires_payment_method", None)
    params = payment()
    del params["confirm"]
    intent = intents.create(params=params)
    assert intent.status == "requires_confirmation"
    intent = intents.confirm(intent.id)
    assert (intent.status, intent.amount_capturable, intent.amount_received) == ("requires_capture", 1000, 0)


def test_an_authorization_says_until_when_it_may_be_captured(client, authorize):
    intent = authorize(expand=["latest_charge"])
    charge = intent.latest_charge
    assert (charge.status, charge.captured, charge.paid, charge.amount_captured) == ("succeeded", False, True, 0)
    assert charge.payment_method_details.card.capture_before > charge.created
    assert client.v1.charges.retrieve(charge.id).payment_intent == intent.id


def test_a_capture_takes_everything(client, authorize):
    intent = client.v1.payment_intents.capture(authorize().id, params={"expand": ["latest_charge"]})
    assert (intent.status, intent.amount_received, intent.amount_capturable) == ("succeeded", 1000, 0)
    assert (intent.latest_charge.captured, intent.latest_charge.amount_captured) == (True, 1000)


def test_a_smaller_capture_releases_the_rest(client, authorize):
    held = authorize().id
    intent = client.v1.payment_intents.capture(held, params={"amount_to_capture": 600})
    assert (intent.status, intent.amount_received, intent.amount_capturable) == ("succeeded", 600, 0)
    error = refused(client.v1.payment_intents.capture, held, params={"amount_to_capture": 400})
    assert (error.code, error.payment_intent["amount_received"]) == ("payment_intent_unexpected_state", 600)


def test_a_second_capture_is_refused_with_the_intent_as_it_is(client, authorize):
    held = authorize().id
    client.v1.payment_intents.capture(held)
    error = refused(client.v1.payment_intents.capture, held)
    assert (error.type, error.code) == ("invalid_request_error", "payment_intent_unexpected_state")
    assert (error.payment_intent["id"], error.payment_intent["status"]) == (held, "succeeded")


def test_more_than_was_authorized_cannot_be_captured(client, authorize):
    held = authorize().id
    error = refused(client.v1.payment_intents.capture, held, params={"amount_to_capture": 1001})
    assert (error.code, error.payment_intent["amount_capturable"]) == ("amount_too_large", 1000)
    assert client.v1.payment_intents.retrieve(held).status == "requires_capture"


def test_zero_or_less_cannot_be_captured(client, authorize):
    held = authorize().id
    assert refused(client.v1.payment_intents.capture, held, params={"amount_to_capture": 0}).type == (
        "invalid_request_error"
    )
    error = refused(client.v1.payment_intents.capture, held, params={"amount_to_capture": -1})
    assert (error.type, error.param) == ("invalid_request_error", "amount_to_capture")
    assert client.v1.payment_intents.retrieve(held).amount_capturable == 1000


def test_what_is_not_authorized_cannot_be_captured(client):
    made = client.v1.payment_intents.create(params={"amount": 1000, "currency": "usd"}).id
    error = refused(client.v1.payment_intents.capture, made)
    assert (error.code, error.payment_intent["status"]) == (
        "payment_intent_unexpected_state",
        "requires_payment_method",
    )


def test_a_canceled_authorization_releases_everything(client, authorize):
    held = authorize().id
    intent = client.v1.payment_intents.cancel(held, params={"cancellation_reason": "duplicate"})
    assert (intent.status, intent.amount_capturable, intent.amount_received) == ("canceled", 0, 0)
    assert (intent.cancellation_reason, intent.canceled_at >= intent.created) == ("duplicate", True)
    for call in (client.v1.payment_intents.capture, client.v1.payment_intents.cancel):
        error = refused(call, held)
        assert (error.code, error.payment_intent["status"]) == ("payment_intent_unexpected_state", "canceled")


def test_what_was_captured_cannot_be_canceled(client, authorize):
    held = authorize().id
    client.v1.payment_intents.capture(held)
    error = refused(client.v1.payment_intents.cancel, held)
    assert (error.code, error.payment_intent["status"]) == ("payment_intent_unexpected_state", "succeeded")


@pytest.mark.parametrize(
    ("card", "code", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "card_declined", "lost_card"),
        ("pm_card_visa_chargeDeclinedStolenCard", "card_declined", "stolen_card"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", None),
    ],
)
def test_a_decline_names_its_code_and_leaves_its_rows(client, authorize, card, code, decline_code):
    error = refused(authorize, payment_method=card)
    assert (error.type, error.code) == ("card_error", code)
    if decline_code:
        assert error.decline_code == decline_code
    intent = client.v1.payment_intents.retrieve(error.payment_intent["id"])
    assert (intent.status, intent.payment_method, intent.amount_capturable) == ("requires_payment_method", None, 0)
    assert (intent.latest_charge, intent.last_payment_error.code) == (error.charge, code)
    charge = client.v1.charges.retrieve(error.charge)
    assert (charge.status, charge.paid, charge.captured) == ("failed", False, False)


def test_a_declined_intent_can_be_confirmed_with_another_card(client, authorize):
    declined = refused(authorize, payment_method="pm_card_visa_chargeDeclined").payment_intent["id"]
    intent = client.v1.payment_intents.confirm(declined, params={"payment_method": "pm_card_visa"})
    assert (intent.status, intent.last_payment_error) == ("requires_capture", None)


def test_off_session_a_card_that_needs_authentication_is_declined(authorize):
    error = refused(authorize, payment_method="pm_card_authenticationRequired", off_session=True)
    assert (error.type, error.code) == ("card_error", "authentication_required")


def test_payment_method_types_are_gone(raw):
    form = {"amount": "1000", "currency": "usd", "payment_method_types[]": "card"}
    answer = raw("POST", "/v1/payment_intents", form)
    assert (answer.status, answer.json()["error"]["code"]) == (400, "payment_method_types_no_longer_supported")
    assert raw("POST", "/v1/payment_intents", form, version="2025-03-31.basil").status == 200


def test_without_an_agreement_there_is_one_capture(raw, authorize, unknown):
    answer = raw("POST", f"/v1/payment_intents/{authorize().id}/capture", {"final_capture": "false"})
    found = (answer.status, answer.json().get("error", {}).get("param"))
    unknown("final_capture=false where several captures were not asked for", (400, "final_capture"), found)


# Refunds.


@pytest.fixture
def captured(client, authorize):
    """The id of an intent with 10.00 USD captured."""
    return client.v1.payment_intents.capture(authorize().id).id


def charge_of(client, intent):
    return client.v1.charges.retrieve(client.v1.payment_intents.retrieve(intent).latest_charge)


def test_what_was_captured_is_given_back(client, captured, label):
    params = {"payment_intent": captured, "reason": "requested_by_customer", "metadata": {"label": label}}
    refund = client.v1.refunds.create(params=params)
    assert (refund.amount, refund.currency, refund.status) == (1000, "usd", "succeeded")
    assert (refund.payment_intent, refund.reason) == (captured, "requested_by_customer")
    charge = charge_of(client, captured)
    assert (charge.id, charge.amount_refunded, charge.refunded) == (refund.charge, 1000, True)
    assert client.v1.payment_intents.retrieve(captured).status == "succeeded"
    assert [each.id for each in client.v1.refunds.list(params={"payment_intent": captured}).data] == [refund.id]


def test_never_more_is_given_back_than_was_captured(client, captured):
    create = client.v1.refunds.create
    create(params={"payment_intent": captured, "amount": 400})
    assert (charge_of(client, captured).amount_refunded, charge_of(client, captured).refunded) == (400, False)
    error = refused(create, params={"payment_intent": captured, "amount": 601})
    assert error.type == "invalid_request_error"
    create(params={"payment_intent": captured, "amount": 600})
    assert refused(create, params={"payment_intent": captured}).code == "charge_already_refunded"
    assert (charge_of(client, captured).amount_refunded, charge_of(client, captured).refunded) == (1000, True)


def test_a_partial_capture_limits_what_is_given_back(client, authorize):
    intent = client.v1.payment_intents.capture(authorize().id, params={"amount_to_capture": 600}).id
    assert client.v1.refunds.create(params={"payment_intent": intent}).amount == 600


def test_a_capture_and_a_refund_are_entries_of_the_balance(client, captured):
    refund = client.v1.refunds.create(params={"payment_intent": captured})
    charge = charge_of(client, captured)
    taken, given = (client.v1.balance_transactions.retrieve(each.balance_transaction) for each in (charge, refund))
    assert (taken.type, taken.source, taken.net) == ("charge", charge.id, taken.amount - taken.fee)
    assert (given.source, given.amount < 0) == (refund.id, True)
    assert (taken.fee > 0, taken.amount + given.amount) == (True, 0)
