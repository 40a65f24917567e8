"""3-D Secure: the customer authenticates, fails to, or is absent."""

import pytest
import stripe

from stripe_standin.control import ControlError

ALWAYS = "pm_card_authenticationRequired"


def asked(client, card=ALWAYS, **params):
    return client.v1.payment_intents.create(
        params={"amount": 1000, "currency": "usd", "payment_method": card, "confirm": True, **params}
    )


@pytest.mark.parametrize("card", [ALWAYS, "pm_card_authenticationRequiredOnSetup", "pm_card_threeDSecure2Required"])
def test_the_customer_is_asked_and_nothing_is_charged_yet(client, control, card):
    intent = asked(client, card)
    assert (intent.status, intent.next_action.type, intent.latest_charge) == ("requires_action", "use_stripe_sdk", None)
    assert intent.payment_method.startswith("pm_")
    event = client.v1.events.list().data[0]
    assert (event.type, event.data.object["id"]) == ("payment_intent.requires_action", intent.id)
    assert [effect["kind"] for effect in control.effects()] == ["payment_intent.created"]


@pytest.mark.parametrize("number", ["4000002760003184", "4000002500003155"])
def test_the_numbers_of_these_cards_are_known(client, number):
    card = {"number": number, "exp_month": 12, "exp_year": 2034, "cvc": "123"}
    method = client.v1.payment_methods.create(params={"type": "card", "card": card})
    assert asked(client, method.id).status == "requires_action"


def test_with_a_return_url_the_customer_is_sent_to_a_page(client):
    action = asked(client, return_url="https://shop.example/done").next_action
    assert (action.type, action.redirect_to_url.return_url) == ("redirect_to_url", "https://shop.example/done")


@pytest.mark.parametrize(
    ("capture_method", "status", "kind"),
    [("manual", "requires_capture", "authorization"), ("automatic", "succeeded", "capture")],
)
def test_a_customer_who_authenticates_is_charged(client, control, capture_method, status, kind):
    intent = asked(client, capture_method=capture_method)
    assert control.authenticate(intent.id)["status"] == status
    after = client.v1.payment_intents.retrieve(intent.id, params={"expand": ["latest_charge"]})
    assert (after.status, after.next_action) == (status, None)
    assert after.latest_charge.payment_method_details.card.three_d_secure.result == "authenticated"
    assert [effect["amount"] for effect in control.effects(kind)] == [1000]


def test_a_customer_who_fails_to_authenticate_is_not_charged_and_may_try_again(client, control):
    intent = asked(client)
    control.authenticate(intent.id, "failed")
    failed = client.v1.payment_intents.retrieve(intent.id)
    assert (failed.status, failed.next_action, failed.payment_method) == ("requires_payment_method", None, None)
    assert failed.last_payment_error.code == "payment_intent_authentication_failure"
    assert client.v1.events.list().data[0].type == "payment_intent.payment_failed"
    assert client.v1.charges.list().data == []
    again = client.v1.payment_intents.confirm(intent.id, params={"payment_method": "pm_card_visa"})
    assert (again.status, again.last_payment_error) == ("succeeded", None)


def test_a_bank_may_decline_after_the_authentication(client, control):
    intent = asked(client, "pm_card_threeDSecureRequiredChargeDeclined")
    assert control.authenticate(intent.id)["status"] == "requires_payment_method"
    after = client.v1.payment_intents.retrieve(intent.id, params={"expand": ["latest_charge"]})
    assert (after.last_payment_error.code, after.latest_charge.status) == ("card_declined", "failed")


def test_without_the_customer_it_is_a_decline(client, control):
    with pytest.raises(stripe.CardError) as declined:
        asked(client, off_session=True)
    error = declined.value.error
    assert (declined.value.http_status, error.code) == (402, "authentication_required")
    assert (error["decline_code"], error.payment_intent.status) == (
        "authentication_required",
        "requires_payment_method",
    )
    assert error.payment_intent.latest_charge is None
    assert client.v1.charges.list().data == []
    assert [effect["kind"] for effect in control.effects()] == ["payment_intent.created", "decline"]


def test_a_client_that_cannot_handle_an_authentication_gets_a_decline(client, control):
    intent = client.v1.payment_intents.create(params={"amount": 1000, "currency": "usd"})
    with pytest.raises(stripe.CardError) as declined:
        client.v1.payment_intents.confirm(
            intent.id, params={"payment_method": ALWAYS, "error_on_requires_action": True}
        )
    assert (declined.value.error.code, declined.value.error["decline_code"]) == (
        "card_declined",
        "authentication_not_handled",
    )
    assert client.v1.payment_intents.retrieve(intent.id).status == "requires_payment_method"


def test_an_intent_that_waits_for_its_customer_can_be_canceled(client, control):
    intent = asked(client)
    canceled = client.v1.payment_intents.cancel(intent.id)
    assert (canceled.status, canceled.next_action) == ("canceled", None)
    with pytest.raises(ControlError):
        control.authenticate(intent.id)


@pytest.mark.parametrize(
    "body", [{}, {"payment_intent": "pi_none", "outcome": "succeeded"}, {"payment_intent": [], "outcome": "failed"}]
)
def test_only_an_intent_that_waits_can_be_authenticated(control, intent, body):
    for asked_for in (body, {**body, "outcome": "perhaps"}, {"payment_intent": intent, "outcome": "succeeded"}):
        with pytest.raises(ControlError):
            control._ask("POST", "authentications", asked_for)
    assert len(control.effects()) == 2
