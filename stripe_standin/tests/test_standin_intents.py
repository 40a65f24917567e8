"""PaymentIntents: authorized, captured once or released, with Stripe's errors."""

import pytest
import stripe

DAY = 86_400


def kinds(control, of="payment_intent"):
    return [effect["kind"] for effect in control.effects() if effect["object"] == of]


def test_a_confirmed_manual_intent_waits_to_be_captured(client, control):
    intent = client.v1.payment_intents.create(
        params={
            "amount": 1999,
            "currency": "USD",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "capture_method": "manual",
            "metadata": {"order": "7"},
            "expand": ["latest_charge"],
        }
    )
    assert (intent.status, intent.amount_capturable, intent.amount_received) == ("requires_capture", 1999, 0)
    assert (intent.currency, intent.livemode, intent.metadata["order"]) == ("usd", False, "7")
    charge = intent.latest_charge
    assert (charge.status, charge.captured, charge.payment_intent) == ("succeeded", False, intent.id)
    assert charge.payment_method_details.card.capture_before == charge.created + 7 * DAY
    assert kinds(control) == ["payment_intent.created", "authorization"]


def test_the_steps_create_and_confirm_may_be_taken_one_by_one(client, customer):
    method = client.v1.payment_methods.create(params={"type": "card", "card": {"token": "tok_mastercard"}})
    client.v1.payment_methods.attach(method.id, params={"customer": customer})
    intent = client.v1.payment_intents.create(
        params={"amount": 500, "currency": "jpy", "customer": customer, "capture_method": "manual"}
    )
    assert intent.status == "requires_payment_method"
    intent = client.v1.payment_intents.confirm(intent.id, params={"payment_method": method.id})
    assert (intent.status, intent.payment_method) == ("requires_capture", method.id)
    assert client.v1.charges.retrieve(intent.latest_charge).payment_method_details.card.brand == "mastercard"


def test_an_automatic_intent_is_captured_at_once(client, control):
    intent = client.v1.payment_intents.create(
        params={"amount": 700, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}
    )
    assert (intent.status, intent.amount_received, intent.capture_method) == ("succeeded", 700, "automatic_async")
    assert [effect["amount"] for effect in control.effects("capture")] == [700]


def test_a_full_capture_takes_everything(client, control, intent):
    captured = client.v1.payment_intents.capture(intent, params={"expand": ["latest_charge"]})
    assert (captured.status, captured.amount_received, captured.amount_capturable) == ("succeeded", 1000, 0)
    assert captured.latest_charge.captured
    assert captured.latest_charge.amount_captured == 1000
    assert captured.latest_charge.balance_transaction.startswith("txn_")
    effect = control.effects("capture")[0]
    assert (effect["id"], effect["amount"], effect["currency"]) == (intent, 1000, "usd")


def test_a_partial_capture_releases_the_rest_for_good(client, control, intent):
    captured = client.v1.payment_intents.capture(intent, params={"amount_to_capture": 400})
    assert (captured.status, captured.amount_received, captured.amount_capturable) == ("succeeded", 400, 0)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.capture(intent, params={"amount_to_capture": 100})
    assert refused.value.error.code == "payment_intent_unexpected_state"
    assert refused.value.error.payment_intent.amount_received == 400
    assert "remainder of the authorized amount has been released" in str(refused.value)
    assert len(control.effects("capture")) == 1


def test_a_capture_merges_metadata(client, control):
    intent = control.authorizations(metadata={"order": "7", "old": "x"})[0]
    captured = client.v1.payment_intents.capture(intent, params={"metadata": {"op_id": "cap_1", "old": ""}})
    assert captured.metadata.to_dict() == {"order": "7", "op_id": "cap_1"}
    assert control.effects("capture")[0]["metadata"] == {"order": "7", "op_id": "cap_1"}


@pytest.mark.parametrize(
    ("amount", "code", "param", "attached"),
    [
        ("1001", "amount_too_large", "amount_to_capture", True),
        ("0", "parameter_invalid_integer", "amount", False),
        ("-5", None, "amount_to_capture", False),
        ("9.99", "parameter_invalid_integer", "amount_to_capture", False),
        ("true", "parameter_invalid_integer", "amount_to_capture", False),
    ],
)
def test_an_amount_that_cannot_be_captured_is_refused(raw, control, intent, amount, code, param, attached):
    answer = raw("POST", f"/v1/payment_intents/{intent}/capture", {"amount_to_capture": amount})
    error = answer.json()["error"]
    assert (answer.status, error.get("code"), error["param"]) == (400, code, param)
    assert ("payment_intent" in error) is attached
    assert control.effects("capture") == []


def test_several_captures_are_not_offered(raw, intent):
    answer = raw("POST", f"/v1/payment_intents/{intent}/capture", {"final_capture": "false"})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "final_capture")
    assert raw("POST", f"/v1/payment_intents/{intent}/capture", {"final_capture": "true"}).status == 200


def test_a_canceled_intent_is_released_and_stays_canceled(client, control, intent):
    canceled = client.v1.payment_intents.cancel(intent, params={"cancellation_reason": "abandoned"})
    assert (canceled.status, canceled.amount_capturable, canceled.cancellation_reason) == ("canceled", 0, "abandoned")
    assert canceled.canceled_at is not None
    assert control.effects("payment_intent.canceled")[0]["amount"] == 1000
    for again in (client.v1.payment_intents.cancel, client.v1.payment_intents.capture):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            again(intent)
        assert refused.value.error.code == "payment_intent_unexpected_state"
        assert refused.value.error.payment_intent.status == "canceled"


def test_a_captured_intent_cannot_be_canceled_or_confirmed(client, intent):
    client.v1.payment_intents.capture(intent)
    for late in (client.v1.payment_intents.cancel, client.v1.payment_intents.confirm):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            late(intent)
        assert refused.value.error.payment_intent.status == "succeeded"


@pytest.mark.parametrize(
    ("card", "code", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
    ],
)
def test_a_decline_leaves_its_rows(client, control, card, code, decline_code):
    with pytest.raises(stripe.CardError) as declined:
        client.v1.payment_intents.create(
            params={"amount": 900, "currency": "usd", "payment_method": card, "confirm": True}
        )
    error = declined.value.error
    assert (declined.value.http_status, error.code, error["decline_code"] if decline_code else None) == (
        402,
        code,
        decline_code,
    )
    left = client.v1.payment_intents.retrieve(error.payment_intent.id, params={"expand": ["latest_charge"]})
    assert (left.status, left.payment_method, left.latest_charge.id) == (
        "requires_payment_method",
        None,
        error.charge,
    )
    assert (left.latest_charge.status, left.latest_charge.paid) == ("failed", False)
    assert left.last_payment_error.code == code
    assert kinds(control) == ["payment_intent.created", "decline"]
    # Another card may still succeed on the same intent.
    again = client.v1.payment_intents.confirm(left.id, params={"payment_method": "pm_card_visa"})
    assert (again.status, again.last_payment_error) == ("succeeded", None)


def test_a_card_can_be_declined_only_when_charged(client, customer):
    method = client.v1.payment_methods.attach("pm_card_chargeCustomerFail", params={"customer": customer})
    with pytest.raises(stripe.CardError):
        client.v1.payment_intents.create(
            params={
                "amount": 900,
                "currency": "usd",
                "customer": customer,
                "payment_method": method.id,
                "confirm": True,
            }
        )
    with pytest.raises(stripe.CardError):
        client.v1.payment_methods.attach("pm_card_visa_chargeDeclined", params={"customer": customer})


def test_the_window_depends_on_brand_and_on_who_initiated(client, control):
    def window(**asked):
        intent = client.v1.payment_intents.retrieve(control.authorizations(**asked)[0])
        charge = client.v1.charges.retrieve(intent.latest_charge)
        return charge.payment_method_details.card.capture_before - charge.created

    assert window() == 7 * DAY
    assert window(off_session=True) == 4 * DAY + 18 * 3600
    assert window(off_session=True, card="pm_card_amex") == 7 * DAY


@pytest.mark.parametrize(
    ("card", "currency", "window"),
    [
        ("pm_card_jcb", "jpy", 30 * DAY),
        ("pm_card_jp", "jpy", 30 * DAY),
        ("pm_card_jp", "usd", 7 * DAY),
        ("pm_card_visa", "jpy", 7 * DAY),
    ],
)
def test_the_window_is_longer_for_yen_in_japan(client, control, card, currency, window):
    intent = client.v1.payment_intents.retrieve(control.authorizations(card=card, currency=currency)[0])
    charge = client.v1.charges.retrieve(intent.latest_charge)
    assert charge.payment_method_details.card.capture_before - charge.created == window


@pytest.mark.parametrize(("card", "window"), [("pm_card_visa", 29 * DAY + 18 * 3600), ("pm_card_mastercard", 30 * DAY)])
def test_a_longer_window_can_be_asked_for(client, card, window):
    charge = client.v1.payment_intents.create(
        params={
            "amount": 100,
            "currency": "usd",
            "capture_method": "manual",
            "payment_method": card,
            "payment_method_options": {"card": {"request_extended_authorization": "if_available"}},
            "confirm": True,
            "expand": ["latest_charge"],
        }
    ).latest_charge
    details = charge.payment_method_details.card
    assert (details.capture_before - charge.created, details.extended_authorization.status) == (window, "enabled")


def test_an_authorization_ends_when_the_clock_passes_capture_before(client, control, intent):
    control.advance(7 * DAY - 60)
    assert client.v1.payment_intents.retrieve(intent).status == "requires_capture"
    control.advance(60)
    expired = client.v1.payment_intents.retrieve(intent)
    assert (expired.status, expired.cancellation_reason) == ("canceled", "expired")
    assert control.effects("authorization.expired")[0]["id"] == intent
    events = client.v1.events.list(params={"types": ["charge.expired", "payment_intent.canceled"]}).data
    assert [event.type for event in events] == ["payment_intent.canceled", "charge.expired"]
    assert events[0].request.idempotency_key is None
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.capture(intent)
    assert refused.value.error.code == "payment_intent_unexpected_state"


def test_an_authorization_that_ran_out_unnoticed_cannot_be_captured(client, control, intent):
    control.advance(8 * DAY, expire=False)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.capture(intent)
    assert refused.value.error.code == "charge_expired_for_capture"
    assert refused.value.error.payment_intent.status == "requires_capture"
    control.advance(0)
    assert client.v1.payment_intents.retrieve(intent).status == "canceled"


def test_a_captured_authorization_never_expires(client, control, intent):
    client.v1.payment_intents.capture(intent)
    control.advance(30 * DAY)
    assert client.v1.payment_intents.retrieve(intent).status == "succeeded"


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"amount": "100", "currency": "usd", "customer": "cus_none"}, "customer"),
        ({"amount": "100", "currency": "usd", "payment_method": "pm_none"}, "payment_method"),
        ({"currency": "usd"}, "amount"),
        ({"amount": "100", "currency": "dollars"}, "currency"),
        ({"amount": "123456789", "currency": "usd"}, "amount"),
        ({"amount": "100", "currency": "usd", "expand[]": "review"}, "expand[0]"),
    ],
)
def test_a_create_that_asks_for_the_impossible_is_refused(raw, control, form, param):
    answer = raw("POST", "/v1/payment_intents", form)
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)
    assert control.effects() == []


def test_a_payment_method_of_another_customer_is_refused(client, customer):
    method = client.v1.payment_methods.attach("pm_card_visa", params={"customer": customer})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.create(params={"amount": 100, "currency": "usd", "payment_method": method.id})
    assert refused.value.param == "payment_method"
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_methods.attach(method.id, params={"customer": customer})
    assert client.v1.payment_methods.retrieve(method.id, params={"expand": ["customer"]}).customer.id == customer


def test_payment_method_types_are_gone(raw, intent):
    for path in ("/v1/payment_intents", f"/v1/payment_intents/{intent}/confirm"):
        answer = raw("POST", path, {"payment_method_types[]": "card"})
        assert answer.status == 400
        assert answer.json()["error"]["code"] == "payment_method_types_no_longer_supported"


def test_an_unknown_intent_is_missing(raw):
    answer = raw("POST", "/v1/payment_intents/pi_none/capture")
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["param"]) == (404, "resource_missing", "intent")
    assert error["message"] == "No such payment_intent: 'pi_none'"


@pytest.mark.parametrize("named", [False, True])
def test_without_a_payment_method_there_is_nothing_to_confirm(client, control, customer, named):
    who = {"customer": customer} if named else {}
    message = f"To confirm the PaymentIntent with {customer}" if named else "or ConfirmationToken."
    before = len(control.effects())
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.create(params={"amount": 100, "currency": "usd", "confirm": True, **who})
    assert (refused.value.code, message in refused.value.user_message) == ("payment_intent_unexpected_state", True)
    assert len(control.effects()) == before
    intent = client.v1.payment_intents.create(params={"amount": 100, "currency": "usd", **who})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.confirm(intent.id)
    assert (refused.value.code, message in refused.value.user_message) == ("payment_intent_unexpected_state", True)
    assert refused.value.error.payment_intent.id == intent.id
