"""Lists page and filter as Stripe's do; events carry the key of the request that caused them."""

import pytest
import stripe


def test_a_list_is_newest_first_and_pages_with_a_cursor(client, control):
    made = control.authorizations(7)
    first = client.v1.payment_intents.list(params={"limit": 3})
    assert [intent.id for intent in first.data] == made[:3:-1]
    assert first.has_more
    assert [intent.id for intent in first.auto_paging_iter()] == made[::-1]
    last = client.v1.payment_intents.list(params={"limit": 3, "starting_after": made[3]})
    assert ([intent.id for intent in last.data], last.has_more) == (made[2::-1], False)


def test_a_list_pages_backwards_too(client, control):
    made = control.authorizations(5)
    page = client.v1.payment_intents.list(params={"limit": 2, "ending_before": made[0]})
    assert ([intent.id for intent in page.data], page.has_more) == ([made[2], made[1]], True)


def test_a_list_filters_by_customer_and_by_time(client, control, customer):
    old = control.authorizations(2, customer=customer)
    control.advance(3600)
    since = int(control.clock()["now"])
    new = control.authorizations(1, customer=customer)
    control.authorizations(2)
    listed = client.v1.payment_intents.list(params={"customer": customer, "created": {"gte": since}})
    assert [intent.id for intent in listed.data] == new
    listed = client.v1.payment_intents.list(params={"customer": customer, "created": {"lt": since}})
    assert [intent.id for intent in listed.data] == old[::-1]


def test_a_list_expands_each_of_its_objects(client, control):
    control.authorizations(2)
    listed = client.v1.payment_intents.list(params={"expand": ["data.latest_charge"]})
    assert [intent.latest_charge.amount for intent in listed.data] == [1999, 1999]


@pytest.mark.parametrize("params", [{"limit": "0"}, {"limit": "101"}, {"starting_after": "pi_none"}, {"status": "x"}])
def test_a_list_refuses_what_it_does_not_know(raw, params):
    query = "&".join(f"{name}={value}" for name, value in params.items())
    answer = raw("GET", f"/v1/payment_intents?{query}")
    assert (answer.status, answer.json()["error"]["param"]) == (400, next(iter(params)))


def test_events_are_found_by_the_key_of_their_request(client, intent):
    client.v1.payment_intents.capture(intent, options={"idempotency_key": "mine"})
    events = client.v1.events.list(params={"types": ["payment_intent.succeeded", "charge.captured"]})
    assert [(event.type, event.request.idempotency_key) for event in events.data] == [
        ("payment_intent.succeeded", "mine"),
        ("charge.captured", "mine"),
    ]
    event = client.v1.events.retrieve(events.data[0].id)
    assert event.request.id.startswith("req_")
    assert (event.data.object["id"], event.data.object["amount_received"]) == (intent, 1000)


def test_an_event_shows_its_object_as_it_was_then(client, intent):
    client.v1.payment_intents.capture(intent, params={"amount_to_capture": 600})
    events = client.v1.events.list().data
    found = [(event.type, event.data.object["object"], event.data.object["status"]) for event in events]
    assert found == [
        ("payment_intent.succeeded", "payment_intent", "succeeded"),
        ("charge.captured", "charge", "succeeded"),
        ("payment_intent.amount_capturable_updated", "payment_intent", "requires_capture"),
        ("charge.succeeded", "charge", "succeeded"),
        ("payment_intent.created", "payment_intent", "requires_confirmation"),
    ]
    assert [event.data.object["amount_captured"] for event in events if event.type.startswith("charge")] == [600, 0]


def test_a_replay_causes_no_event(client, intent):
    for _ in range(3):
        client.v1.payment_intents.capture(intent, options={"idempotency_key": "once"})
    assert len(client.v1.events.list(params={"type": "payment_intent.succeeded"}).data) == 1


def test_events_filter_by_a_pattern_and_by_time(client, control, intent):
    control.advance(100)
    since = int(control.clock()["now"])
    client.v1.payment_intents.cancel(intent)
    listed = client.v1.events.list(params={"type": "payment_intent.*", "created": {"gte": since}})
    assert [event.type for event in listed.data] == ["payment_intent.canceled"]


def test_events_are_kept_for_thirty_days(client, control, intent):
    event = client.v1.events.list().data[0]
    control.advance(31 * 86_400, expire=False)
    assert client.v1.events.list().data == []
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.events.retrieve(event.id)
    assert refused.value.http_status == 404
