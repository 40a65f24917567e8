"""Refunds: never more than was captured, at once or after a while, with Stripe's refusals."""

import pytest
import stripe


def paid(client, amount=1000, card="pm_card_visa", **params):
    """A captured intent."""
    return client.v1.payment_intents.create(
        params={
            "amount": amount,
            "currency": "usd",
            "payment_method": card,
            "confirm": True,
            "capture_method": "automatic",
            **params,
        }
    )


def events(client, *kinds):
    """The types of the events of these kinds, oldest first."""
    return [event.type for event in reversed(client.v1.events.list(params={"types": list(kinds)}).data)]


def test_a_refund_without_an_amount_gives_everything_back(client, control, customer):
    intent = paid(client, customer=customer, description="seven socks")
    refund = client.v1.refunds.create(
        params={
            "payment_intent": intent.id,
            "reason": "requested_by_customer",
            "metadata": {"op_id": "ref_1"},
            "expand": ["charge", "balance_transaction"],
        }
    )
    assert (refund.amount, refund.currency, refund.status) == (1000, "usd", "succeeded")
    assert (refund.payment_intent, refund.customer, refund.reason) == (intent.id, customer, "requested_by_customer")
    assert refund.metadata.to_dict() == {"op_id": "ref_1"}
    assert (refund.charge.id, refund.charge.amount_refunded, refund.charge.refunded) == (
        intent.latest_charge,
        1000,
        True,
    )
    entry = refund.balance_transaction
    assert (entry.type, entry.amount, entry.fee, entry.net) == ("refund", -1000, 0, -1000)
    assert (entry.source, entry.description) == (refund.id, "REFUND FOR CHARGE (seven socks)")
    effect = control.effects("refund")[0]
    assert (effect["id"], effect["object"], effect["amount"], effect["currency"]) == (
        refund.id,
        "refund",
        1000,
        "usd",
    )
    assert effect["metadata"] == {"op_id": "ref_1"}
    assert events(client, "refund.created", "charge.refunded", "refund.updated") == [
        "refund.created",
        "charge.refunded",
    ]


def test_partial_refunds_add_up_and_no_more_than_that(client, control):
    charge = paid(client).latest_charge
    for amount, refunded in ((300, False), (300, False), (400, True)):
        client.v1.refunds.create(params={"charge": charge, "amount": amount})
        assert client.v1.charges.retrieve(charge).refunded is refunded
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create(params={"charge": charge, "amount": 1})
    assert (refused.value.error.code, refused.value.http_status) == ("charge_already_refunded", 400)
    assert str(refused.value.user_message) == f"Charge {charge} has already been refunded."
    assert client.v1.charges.retrieve(charge).amount_refunded == 1000
    assert sum(effect["amount"] for effect in control.effects("refund")) == 1000


def test_more_than_is_left_is_refused(client, control):
    charge = paid(client, 4000).latest_charge
    client.v1.refunds.create(params={"charge": charge, "amount": 1000})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create(params={"charge": charge, "amount": 4000})
    assert (refused.value.error.code, refused.value.param) == (None, "amount")
    assert refused.value.user_message == "Refund amount ($40.00) is greater than unrefunded amount on charge ($30.00)"
    assert len(control.effects("refund")) == 1


def test_only_what_was_captured_can_be_refunded(client, control):
    intent = control.authorizations(amount=1000)[0]
    client.v1.payment_intents.capture(intent, params={"amount_to_capture": 400})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create(params={"payment_intent": intent, "amount": 401})
    assert refused.value.param == "amount"
    assert client.v1.refunds.create(params={"payment_intent": intent}).amount == 400


def test_an_authorization_is_canceled_and_not_refunded(client, intent):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create(params={"payment_intent": intent})
    assert "You must cancel the PaymentIntent" in refused.value.user_message
    client.v1.payment_intents.cancel(intent)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create(params={"payment_intent": intent})
    assert refused.value.user_message.endswith("does not have a successful charge to refund.")


def test_a_declined_payment_has_nothing_to_refund(client):
    with pytest.raises(stripe.CardError) as declined:
        paid(client, card="pm_card_visa_chargeDeclined")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create(params={"charge": declined.value.error.charge})
    assert refused.value.user_message.endswith("does not have a successful charge to refund.")


@pytest.mark.parametrize(
    ("form", "status", "param"),
    [
        ({}, 400, None),
        ({"charge": "ch_none"}, 404, "id"),
        ({"payment_intent": "pi_none"}, 404, "payment_intent"),
        ({"charge": "ch_none", "amount": "0"}, 400, "amount"),
        ({"charge": "ch_none", "reason": "expired_uncaptured_charge"}, 400, "reason"),
        ({"charge": "ch_none", "refund_application_fee": "true"}, 400, "refund_application_fee"),
    ],
)
def test_a_refund_of_an_unknown_charge_or_intent_is_refused(raw, control, form, status, param):
    answer = raw("POST", "/v1/refunds", form)
    assert (answer.status, answer.json()["error"].get("param")) == (status, param)
    assert control.effects() == []


def test_a_charge_and_an_intent_have_to_belong_together(raw, client):
    one, other = paid(client), paid(client)
    answer = raw("POST", "/v1/refunds", {"charge": one.latest_charge, "payment_intent": other.id})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "charge")


def test_the_metadata_of_a_refund_can_be_changed_and_nothing_else(client, raw):
    refund = client.v1.refunds.create(params={"charge": paid(client).latest_charge, "metadata": {"a": "1", "b": "2"}})
    changed = client.v1.refunds.update(refund.id, params={"metadata": {"a": "", "c": "3"}})
    assert changed.metadata.to_dict() == {"b": "2", "c": "3"}
    assert events(client, "refund.*", "charge.refund.*") == [
        "refund.created",
        "refund.updated",
        "charge.refund.updated",
    ]
    assert raw("POST", f"/v1/refunds/{refund.id}", {"amount": "1"}).json()["error"]["code"] == "parameter_unknown"


def test_a_card_refund_cannot_be_canceled(client):
    refund = client.v1.refunds.create(params={"charge": paid(client, card="pm_card_pendingRefund").latest_charge})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.cancel(refund.id)
    assert (refused.value.error.code, refused.value.user_message) == (None, "Canceling this refund is unsupported.")
    assert client.v1.refunds.retrieve(refund.id).status == "pending"


def test_refunds_are_listed_by_charge_by_intent_and_by_time(client, control):
    one, other = paid(client), paid(client)
    first = client.v1.refunds.create(params={"charge": one.latest_charge, "amount": 10})
    control.advance(100)
    second = client.v1.refunds.create(params={"charge": one.latest_charge, "amount": 20})
    third = client.v1.refunds.create(params={"payment_intent": other.id})

    def listed(**params):
        return [refund.id for refund in client.v1.refunds.list(params=params).data]

    assert listed() == [third.id, second.id, first.id]
    assert listed(charge=one.latest_charge) == [second.id, first.id]
    assert listed(payment_intent=other.id) == [third.id]
    assert listed(created={"gt": first.created}, charge=one.latest_charge) == [second.id]


def test_a_refund_may_be_pending_for_a_while(client, control):
    charge = paid(client, card="pm_card_pendingRefund").latest_charge
    refund = client.v1.refunds.create(params={"charge": charge, "amount": 700})
    assert (refund.status, refund.pending_reason) == ("pending", "processing")
    # A pending refund cannot be refunded again.
    assert client.v1.charges.retrieve(charge).amount_refunded == 700
    control.advance(60)
    settled = client.v1.refunds.retrieve(refund.id)
    assert (settled.status, "pending_reason" in settled) == ("succeeded", False)
    assert events(client, "refund.*") == ["refund.created", "refund.updated"]


def test_a_refund_may_fail_after_a_while_and_the_money_is_back(client, control):
    charge = paid(client, card="pm_card_refundFail").latest_charge
    refund = client.v1.refunds.create(params={"charge": charge})
    assert refund.status == "succeeded"
    control.advance(60)
    failed = client.v1.refunds.retrieve(refund.id, params={"expand": ["failure_balance_transaction"]})
    assert (failed.status, failed.failure_reason) == ("failed", "expired_or_canceled_card")
    entry = failed.failure_balance_transaction
    assert (entry.type, entry.net, entry.source) == ("refund_failure", 1000, refund.id)
    after = client.v1.charges.retrieve(charge)
    assert (after.amount_refunded, after.refunded) == (0, False)
    assert events(client, "refund.*") == ["refund.created", "refund.updated", "refund.failed"]
    assert [effect["amount"] for effect in control.effects("refund.failed")] == [1000]
    assert client.v1.refunds.create(params={"charge": charge}).amount == 1000


def test_a_refund_happens_once_for_each_key(client, control):
    charge = paid(client).latest_charge
    once = {"idempotency_key": "order:7:refund"}
    first, again = (client.v1.refunds.create(params={"charge": charge, "amount": 100}, options=once) for _ in range(2))
    assert first.id == again.id
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert [effect["idempotency_key"] for effect in control.effects("refund")] == ["order:7:refund"]


def test_a_charge_shows_its_refunds_where_they_are_asked_for(client, control, intent):
    client.v1.payment_intents.capture(intent)
    other = control.authorizations(amount=1000)[0]
    client.v1.payment_intents.capture(other)
    client.v1.refunds.create(params={"payment_intent": other})
    made = [client.v1.refunds.create(params={"payment_intent": intent, "amount": 50}).id for _ in range(11)]
    plain = client.v1.payment_intents.retrieve(intent, params={"expand": ["latest_charge"]}).latest_charge
    assert "refunds" not in plain
    found = client.v1.charges.retrieve(plain.id, params={"expand": ["refunds"]}).refunds
    assert ([each.id for each in found.data], found.has_more) == (made[:0:-1], True)
    assert found.url == f"/v1/charges/{plain.id}/refunds"
    asked = {"expand": ["latest_charge.refunds", "latest_charge.refunds.data.balance_transaction"]}
    found = client.v1.payment_intents.retrieve(other, params=asked).latest_charge.refunds
    assert [each.balance_transaction.amount for each in found.data] == [-1000]
    assert not found.has_more


def test_nothing_of_a_refund_but_its_fields_is_expanded(raw, intent):
    answer = raw("GET", f"/v1/payment_intents/{intent}?expand[]=latest_charge.refunds.data.payment")
    assert (answer.status, answer.json()["error"]["param"]) == (400, "expand[0]")
