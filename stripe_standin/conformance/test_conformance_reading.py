"""Lists page and are never behind, events carry the key of their request, and search finds everything in the end.

docs.stripe.com/api/pagination, docs.stripe.com/api/events, docs.stripe.com/search
"""

import pytest
import stripe


@pytest.fixture
def five(client, customer):
    """The ids of five intents of one customer, in the order they were made."""
    params = {"amount": 1000, "currency": "usd", "customer": customer}
    return [client.v1.payment_intents.create(params=params).id for _ in range(5)]


def ids(listed):
    return [each.id for each in listed.data]


def test_a_list_is_newest_first_and_knows_what_was_just_made(client, customer, five):
    listed = client.v1.payment_intents.list(params={"customer": customer})
    assert (set(ids(listed)), listed.has_more, listed.url) == (set(five), False, "/v1/payment_intents")
    # Stripe promises no order within one second.
    created = [intent.created for intent in listed.data]
    assert created == sorted(created, reverse=True)


def test_a_list_pages_in_both_directions(client, customer, five):
    def page(**asked):
        listed = client.v1.payment_intents.list(params={"customer": customer, **asked})
        return ids(listed), listed.has_more

    order, _ = page()
    first = client.v1.payment_intents.list(params={"customer": customer, "limit": 2})
    assert [intent.id for intent in first.auto_paging_iter()] == order
    assert page(limit=2) == (order[:2], True)
    assert page(starting_after=order[2]) == (order[3:], False)
    assert page(limit=2, ending_before=order[4]) == (order[2:4], True)


def test_a_list_filters_by_time(client, customer, five):
    created = client.v1.payment_intents.retrieve(five[0]).created
    since = client.v1.payment_intents.list(params={"customer": customer, "created": {"gte": created}})
    assert set(ids(since)) == set(five)
    earlier = client.v1.payment_intents.list(params={"customer": customer, "created": {"lt": created}})
    assert ids(earlier) == []


def test_a_list_expands_each_of_its_objects(client, customer, authorize):
    authorize()
    listed = client.v1.payment_intents.list(params={"customer": customer, "expand": ["data.latest_charge"]})
    assert [intent.latest_charge.amount for intent in listed.data] == [1000]


@pytest.mark.parametrize("form", [{"limit": "0"}, {"limit": "101"}, {"metadata[label]": "x"}])
def test_a_list_refuses_what_it_does_not_take(raw, form):
    answer = raw("GET", "/v1/payment_intents", form)
    assert (answer.status, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_list_that_begins_after_nothing(raw, label, unknown):
    answer = raw("GET", "/v1/payment_intents", {"starting_after": f"pi_{label[-24:]}"})
    found = (answer.status, answer.json().get("error", {}).get("code"))
    unknown("a list with an unknown cursor", (400, "resource_missing"), found)


def test_invoices_filter_by_status(client, customer):
    draft = client.v1.invoices.create(params={"customer": customer}).id
    assert ids(client.v1.invoices.list(params={"customer": customer, "status": "draft"})) == [draft]
    assert ids(client.v1.invoices.list(params={"customer": customer, "status": "open"})) == []


# Events.


def test_the_event_of_a_lost_answer_is_found_by_its_key(client, label, eventually):
    params = {"amount": 1000, "currency": "usd", "metadata": {"label": label}}
    made = client.v1.payment_intents.create(params=params, options={"idempotency_key": label})
    asked = {"types": ["payment_intent.created"], "created": {"gte": made.created}, "limit": 100}

    def mine():
        events = client.v1.events.list(params=asked).auto_paging_iter()
        return [event for event in events if event.request and event.request.idempotency_key == label]

    (event,) = eventually(mine, "the event of a request with this key")
    assert (event.type, event.data.object["id"], event.livemode) == ("payment_intent.created", made.id, False)
    assert event.request.id == made.last_response.request_id
    assert client.v1.events.retrieve(event.id).data.object["metadata"]["label"] == label


def test_a_capture_and_its_replay_make_one_set_of_events(client, authorize, label, eventually):
    held = authorize()
    for _ in range(2):
        client.v1.payment_intents.capture(held.id, options={"idempotency_key": label})
    asked = {"types": ["payment_intent.succeeded", "charge.captured"], "created": {"gte": held.created}, "limit": 100}

    def mine():
        events = client.v1.events.list(params=asked).auto_paging_iter()
        types = [event.type for event in events if event.request and event.request.idempotency_key == label]
        return len(types) >= 2 and sorted(types)

    assert eventually(mine, "both events of the capture") == ["charge.captured", "payment_intent.succeeded"]


def test_an_event_shows_its_object_as_it_was_then(client, authorize, eventually):
    held = authorize()
    client.v1.payment_intents.cancel(held.id)
    asked = {"type": "payment_intent.*", "created": {"gte": held.created}, "limit": 100}

    def mine():
        events = client.v1.events.list(params=asked).auto_paging_iter()
        statuses = {event.type: event.data.object["status"] for event in events if event.data.object["id"] == held.id}
        return "payment_intent.canceled" in statuses and statuses

    statuses = eventually(mine, "the event of the cancellation")
    assert statuses["payment_intent.amount_capturable_updated"] == "requires_capture"
    assert statuses["payment_intent.canceled"] == "canceled"


# Search.


def test_search_finds_by_metadata_in_the_end(client, authorize, label, eventually):
    held = authorize()
    query = f'metadata["label"]:"{label}" AND amount>=1000 AND -currency:"eur"'
    found = eventually(lambda: client.v1.payment_intents.search(params={"query": query}).data, "the intent is found")
    assert [intent.id for intent in found] == [held.id]
    result = client.v1.payment_intents.search(params={"query": query, "expand": ["total_count"]})
    assert (result.object, result.has_more, result.total_count) == ("search_result", False, 1)


def test_search_pages_with_a_token(client, customer, five, eventually):
    def search(**more):
        return client.v1.payment_intents.search(params={"query": f'customer:"{customer}"', "limit": 3, **more})

    eventually(lambda: search(limit=5).data[4:], "all five are found")
    first = search()
    assert (len(first.data), first.has_more) == (3, True)
    rest = search(page=first.next_page)
    assert sorted([*ids(first), *ids(rest)]) == sorted(five)
    assert rest.has_more is False


def test_a_customer_is_found_by_a_part_of_the_address(client, customer, label, eventually):
    query = f'email~"{label[-20:]}"'
    found = eventually(lambda: client.v1.customers.search(params={"query": query}).data, "the customer is found")
    assert [each.id for each in found] == [customer]


@pytest.mark.parametrize(
    "query", ["asdf", 'nothing:"x"', "amount:1 AND amount:2 OR amount:3", " AND ".join(["amount:1"] * 11)]
)
def test_search_refuses_what_it_cannot_read(raw, query):
    answer = raw("GET", "/v1/payment_intents/search", {"query": query})
    assert (answer.status, answer.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    ("written", "query"),
    [
        ("blanks around an operator", "amount > 100"),
        ("a text without quotation marks", "status:succeeded"),
        ("two characters of a part", 'status~"su"'),
        ("a part of a token", 'status~"succ"'),
        ("a text as an amount", 'amount:"much"'),
        ("a bound on null", "amount>null"),
    ],
)
def test_what_the_language_of_search_allows(raw, written, query, unknown):
    answer = raw("GET", "/v1/payment_intents/search", {"query": query})
    unknown(f"search with {written}", 400, answer.status)


def test_which_version_search_shows(client, authorize, label, eventually, unknown):
    held = authorize()
    query = f'metadata["label"]:"{label}" AND status:"requires_capture"'
    eventually(lambda: client.v1.payment_intents.search(params={"query": query}).data, "the intent is found")
    client.v1.payment_intents.cancel(held.id)
    found = client.v1.payment_intents.search(params={"query": query}).data
    unknown("what changed a moment ago, by its old status", ["canceled"], [intent.status for intent in found])


def test_what_search_says_to_a_foreign_token(raw, unknown):
    answer = raw("GET", "/v1/payment_intents/search", {"query": "amount>0", "page": "mine"})
    unknown("search with a token that is none", 400, answer.status)


def test_nothing_is_found_by_an_unknown_id(client, label):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.events.retrieve(f"evt_{label[-24:]}")
    assert (refused.value.http_status, refused.value.error.code) == (404, "resource_missing")
