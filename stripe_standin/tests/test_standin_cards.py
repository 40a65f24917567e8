"""Stripe's published test cards: by token and by number, and what each of them does."""

import pytest
import stripe

from stripe_standin.api.customers.cards import ABROAD, CARDS, NUMBERS, mistyped


def paid_with(client, method, **more):
    params = {"amount": 500, "currency": "usd", "confirm": True, "payment_method": method, "expand": ["latest_charge"]}
    return client.v1.payment_intents.create(params={**params, **more}).latest_charge


def card(client, **given):
    return client.v1.payment_methods.create(params={"type": "card", "card": given})


def declined(client, method):
    with pytest.raises(stripe.CardError) as declined:
        paid_with(client, method)
    assert declined.value.http_status == 402
    return declined.value.error


def test_every_number_is_one_and_every_number_and_token_is_known(client):
    assert [number for number in NUMBERS if mistyped(number)] == []
    for number, known in NUMBERS.items():
        made = card(client, number=number, exp_month="12", exp_year="2034", cvc="123").card
        assert (made.last4, made.brand, made.country) == (number[-4:], known.brand, known.country)
    for name in CARDS:
        assert card(client, token=f"tok_{name}").card.last4 == CARDS[name].last4


@pytest.mark.parametrize("country", sorted(ABROAD))
def test_a_card_of_another_country_pays(client, country):
    details = paid_with(client, f"pm_card_{country}").payment_method_details.card
    assert (details.country, details.last4, details.brand) == (country.upper(), ABROAD[country][-4:], "visa")


def test_a_card_that_is_used_too_often_is_declined(client):
    error = declined(client, "pm_card_visa_chargeDeclinedVelocityLimitExceeded")
    assert (error.code, error.decline_code) == ("card_declined", "card_velocity_exceeded")
    assert "repeated attempts too frequently" in error.message


def test_the_riskiest_payment_is_blocked_and_the_bank_not_asked(client):
    error = declined(client, "pm_card_chargeDeclinedFraudulent")
    assert (error.code, error.decline_code) == ("card_declined", "fraudulent")
    outcome = client.v1.charges.retrieve(error.charge).outcome
    assert (outcome.type, outcome.network_status) == ("blocked", "not_sent_to_network")
    assert (outcome.risk_level, outcome.reason) == ("highest", "highest_risk_level")


def test_a_risky_payment_differs_from_a_usual_one(client):
    assert paid_with(client, "pm_card_riskLevelElevated").outcome.risk_level == "elevated"
    assert paid_with(client, "pm_card_visa").outcome.risk_level == "normal"


@pytest.mark.parametrize("number", ["4242424242424241", "4242 4242 4242 4241", "1234", "x"])
def test_a_number_with_a_wrong_digit_is_refused_as_by_a_bank(client, control, number):
    with pytest.raises(stripe.CardError) as refused:
        card(client, number=number, exp_month="12", exp_year="2034")
    assert (refused.value.code, refused.value.param) == ("incorrect_number", "number")
    assert control.effects() == []


def test_a_number_that_is_no_test_card_is_refused_by_the_stand_in(client):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        card(client, number="4012888888881881")
    assert refused.value.param == "card"
