"""Several captures of one authorization: what is captured, what stays held, and what is released in the end."""

import pytest
import stripe

DAY = 86_400
SEVERAL = {"card": {"request_multicapture": "if_available"}}


@pytest.fixture
def several(client):
    """An authorization of 10.00 USD that may be captured several times."""
    return client.v1.payment_intents.create(
        params={
            "amount": 1000,
            "currency": "usd",
            "capture_method": "manual",
            "payment_method": "pm_card_visa",
            "payment_method_options": SEVERAL,
            "confirm": True,
        }
    ).id


def events_since(client, since):
    events = client.v1.events.list(params={"ending_before": since, "limit": 100}).data
    return [event.type for event in reversed(events)]


def money(control):
    """Amounts by kind of effect; effects without an amount are left out."""
    sums = {}
    for effect in control.effects():
        if effect["kind"] in (
            "authorization",
            "capture",
            "release",
            "authorization.expired",
            "payment_intent.canceled",
        ):
            sums.setdefault(effect["kind"], []).append(effect["amount"])
    return sums


def test_each_capture_takes_its_part_and_the_rest_stays_held(client, control, several):
    charge = client.v1.payment_intents.retrieve(several, params={"expand": ["latest_charge"]}).latest_charge
    assert charge.payment_method_details.card.multicapture.status == "available"
    latest = client.v1.events.list().data[0].id
    first = client.v1.payment_intents.capture(several, params={"amount_to_capture": 700, "final_capture": False})
    assert (first.status, first.amount_capturable, first.amount_received) == ("requires_capture", 300, 700)
    charge = client.v1.charges.retrieve(charge.id)
    assert (charge.captured, charge.amount_captured) == (False, 700)
    assert events_since(client, latest) == ["charge.updated", "payment_intent.amount_capturable_updated"]
    latest = client.v1.events.list().data[0].id
    last = client.v1.payment_intents.capture(several, params={"amount_to_capture": 200})
    assert (last.status, last.amount_capturable, last.amount_received) == ("succeeded", 0, 900)
    assert client.v1.charges.retrieve(charge.id).captured is True
    assert events_since(client, latest) == [
        "charge.updated",
        "payment_intent.amount_capturable_updated",
        "charge.captured",
        "payment_intent.succeeded",
    ]
    assert money(control) == {"authorization": [1000], "capture": [700, 200], "release": [100]}


def test_each_capture_has_an_entry_of_its_own(client, several):
    for amount in (300, 500):
        client.v1.payment_intents.capture(several, params={"amount_to_capture": amount, "final_capture": False})
    entries = client.v1.balance_transactions.list().data
    charge = client.v1.payment_intents.retrieve(several, params={"expand": ["latest_charge"]}).latest_charge
    assert [(entry.amount, entry.fee, entry.source) for entry in entries] == [
        (500, 45, charge.id),
        (300, 39, charge.id),
    ]
    assert charge.balance_transaction == entries[1].id


def test_a_capture_of_nothing_releases_the_rest(client, control, several):
    client.v1.payment_intents.capture(several, params={"amount_to_capture": 700, "final_capture": False})
    done = client.v1.payment_intents.capture(several, params={"amount_to_capture": 0})
    assert (done.status, done.amount_received) == ("succeeded", 700)
    assert money(control) == {"authorization": [1000], "capture": [700], "release": [300]}
    assert len(client.v1.balance_transactions.list().data) == 1


@pytest.mark.parametrize("final", ["true", "false"])
def test_the_first_capture_needs_an_amount(raw, control, several, final):
    answer = raw(
        "POST", f"/v1/payment_intents/{several}/capture", {"amount_to_capture": "0", "final_capture": final}, key="k"
    )
    assert (answer.status, answer.json()["error"]["code"]) == (400, "parameter_invalid_integer")
    assert money(control) == {"authorization": [1000]}
    # Validation is not saved under the key.
    assert raw("POST", f"/v1/payment_intents/{several}/capture", {"amount_to_capture": "1"}, key="k").status == 200


def test_no_more_can_be_taken_than_is_still_held(client, several):
    client.v1.payment_intents.capture(several, params={"amount_to_capture": 700, "final_capture": False})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.capture(several, params={"amount_to_capture": 301})
    assert refused.value.error.code == "amount_too_large"
    assert refused.value.error.payment_intent.amount_capturable == 300


def test_the_end_of_the_window_ends_a_partly_captured_intent_in_success(client, control, several):
    client.v1.payment_intents.capture(several, params={"amount_to_capture": 700, "final_capture": False})
    latest = client.v1.events.list().data[0].id
    control.advance(7 * DAY)
    ended = client.v1.payment_intents.retrieve(several, params={"expand": ["latest_charge"]})
    assert (ended.status, ended.amount_received, ended.amount_capturable) == ("succeeded", 700, 0)
    assert (ended.latest_charge.captured, ended.canceled_at) == (True, None)
    assert money(control) == {"authorization": [1000], "capture": [700], "release": [300]}
    assert [each for each in events_since(client, latest) if not each.startswith("payout")] == [
        "charge.updated",
        "payment_intent.amount_capturable_updated",
        "charge.captured",
        "payment_intent.succeeded",
    ]


def test_the_end_of_the_window_cancels_what_was_never_captured(client, control, several):
    control.advance(7 * DAY)
    assert client.v1.payment_intents.retrieve(several).cancellation_reason == "expired"
    assert money(control) == {"authorization": [1000], "authorization.expired": [1000]}


def test_canceling_after_a_capture_releases_the_rest(client, control, several):
    client.v1.payment_intents.capture(several, params={"amount_to_capture": 700, "final_capture": False})
    assert client.v1.payment_intents.cancel(several).status == "succeeded"
    assert money(control) == {"authorization": [1000], "capture": [700], "release": [300]}


def test_what_was_captured_can_be_refunded_before_the_end(client, several):
    client.v1.payment_intents.capture(several, params={"amount_to_capture": 700, "final_capture": False})
    client.v1.refunds.create(params={"payment_intent": several})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create(params={"payment_intent": several, "amount": 1})
    assert refused.value.error.code == "charge_already_refunded"
    charge = client.v1.charges.list(params={"payment_intent": several}).data[0]
    assert (charge.amount_refunded, charge.refunded) == (700, False)
    client.v1.payment_intents.capture(several, params={"amount_to_capture": 0})
    assert client.v1.charges.retrieve(charge.id).refunded is True


def test_an_authorization_is_captured_fifty_times_at_most(client, control, several):
    for _ in range(50):
        client.v1.payment_intents.capture(several, params={"amount_to_capture": 1, "final_capture": False})
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_intents.capture(several, params={"amount_to_capture": 1})
    assert client.v1.payment_intents.capture(several, params={"amount_to_capture": 0}).amount_received == 50
    assert len(control.effects("capture")) == 50


@pytest.mark.parametrize("asked", [{}, {"card": {"request_multicapture": "never"}}])
def test_without_asking_for_it_there_is_one_capture(client, control, asked):
    intent = client.v1.payment_intents.create(
        params={"amount": 1000, "currency": "usd", "capture_method": "manual", "payment_method_options": asked}
    )
    intent = client.v1.payment_intents.confirm(intent.id, params={"payment_method": "pm_card_visa"})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.capture(intent.id, params={"amount_to_capture": 700, "final_capture": False})
    assert refused.value.param == "final_capture"
    client.v1.payment_intents.capture(intent.id, params={"amount_to_capture": 700})
    assert money(control) == {"authorization": [1000], "capture": [700], "release": [300]}


def test_it_can_be_asked_for_when_confirming(client):
    intent = client.v1.payment_intents.create(params={"amount": 1000, "currency": "usd", "capture_method": "manual"})
    params = {"payment_method": "pm_card_mastercard", "payment_method_options": SEVERAL, "expand": ["latest_charge"]}
    confirmed = client.v1.payment_intents.confirm(intent.id, params=params)
    assert confirmed.payment_method_options.card.request_multicapture == "if_available"
    assert confirmed.latest_charge.payment_method_details.card.multicapture.status == "available"
