"""Search finds what was true a while ago, and shows what is true now; lists are never behind."""

from urllib.parse import urlencode

import pytest
import stripe

LAG_S = 3600
"""Far more than a test takes on a busy machine, so search does not know too early what it must not know yet."""


@pytest.fixture(autouse=True)
def lag(control):
    control.set_search_lag(LAG_S)


@pytest.fixture
def search(client, control):
    """The ids that a query finds, once the index knows everything."""

    def ids(things, query, **params):
        control.advance(LAG_S)
        found = getattr(client.v1, things).search(params={"query": query, **params})
        return [each.id for each in found.data]

    return ids


def found(client, query):
    return [intent.id for intent in client.v1.payment_intents.search(params={"query": query}).data]


def asked(raw, things, **params):
    return raw("GET", f"/v1/{things}/search?{urlencode(params)}")


# The lag.


def test_what_was_just_made_is_listed_but_not_found(client, control):
    made = control.authorizations(metadata={"op": "7"})
    assert found(client, 'metadata["op"]:"7"') == []
    assert [intent.id for intent in client.v1.payment_intents.list().data] == made
    control.advance(LAG_S)
    assert found(client, 'metadata["op"]:"7"') == made


def test_search_is_behind_with_everything(client, control, customer):
    control.authorizations(customer=customer)
    client.v1.invoices.create(params={"customer": customer})
    things = (client.v1.payment_intents, client.v1.charges, client.v1.invoices, client.v1.customers)
    asked = {"query": "created>0", "expand": ["total_count"]}
    assert [each.search(params=asked).total_count for each in things] == [0, 0, 0, 0]
    control.advance(LAG_S)
    assert [each.search(params=asked).total_count for each in things] == [1, 1, 1, 1]


def test_a_change_is_found_as_it_was_and_shown_as_it_is(client, control, intent):
    control.advance(LAG_S)
    client.v1.payment_intents.capture(intent)
    assert found(client, 'status:"succeeded"') == []
    (stale,) = client.v1.payment_intents.search(params={"query": 'status:"requires_capture"'}).data
    assert (stale.id, stale.status) == (intent, "succeeded")
    control.advance(LAG_S)
    assert found(client, 'status:"succeeded"') == [intent]
    assert found(client, 'status:"requires_capture"') == []


def test_each_version_is_known_in_its_own_time(client, control, intent):
    client.v1.payment_intents.cancel(intent)
    control.advance(LAG_S)
    assert found(client, 'status:"canceled"') == [intent]
    second = control.authorizations()[0]
    control.advance(LAG_S - 600)
    client.v1.payment_intents.cancel(second)
    control.advance(600)
    assert found(client, 'status:"requires_capture"') == [second]
    control.advance(LAG_S - 600)
    assert found(client, 'status:"canceled"') == [second, intent]


def test_in_an_outage_the_index_does_not_move_and_never_goes_back(client, control, intent):
    control.advance(LAG_S)
    assert control.set_search_lag(10 * LAG_S) == {"lag_s": 10 * LAG_S, "behind": 0}
    late = control.authorizations()[0]
    control.advance(9 * LAG_S)
    assert found(client, "amount>0") == [intent]
    assert control.search()["behind"] > 0
    control.advance(LAG_S)
    assert found(client, "amount>0") == [late, intent]
    control.set_search_lag(0)
    now = control.authorizations()[0]
    assert found(client, "amount>0") == [now, late, intent]


def test_what_happens_while_the_clock_is_moved_has_its_own_time(client, control, intent):
    control.advance(8 * 24 * 3600)
    assert found(client, 'status:"canceled"') == [intent]


def test_what_was_deleted_is_not_found(client, control, customer):
    draft = client.v1.invoices.create(params={"customer": customer}).id
    control.advance(LAG_S)
    assert client.v1.invoices.search(params={"query": 'status:"draft"'}).data[0].id == draft
    client.v1.invoices.delete(draft)
    assert client.v1.invoices.search(params={"query": 'status:"draft"'}).data == []


def test_a_lag_is_a_number_of_seconds(raw, control):
    for body in (b"{}", b'{"lag_s": -1}', b'{"lag_s": "soon"}', b'{"lag_s": 1e999}'):
        assert raw("POST", "/_standin/search", body, Content_Type="application/json").status == 400
    assert control.search()["lag_s"] == LAG_S
    control.reset()
    assert control.search()["lag_s"] == 10


def test_the_lag_is_an_option(start):
    with start("--search-lag", "0") as (url, _):
        client = stripe.StripeClient("sk_test_x", base_addresses={"api": url})
        made = client.v1.customers.create(params={"email": "ann@example.com"})
        assert client.v1.customers.search(params={"query": 'email:"ann@example.com"'}).data[0].id == made.id


def test_search_sees_its_own_account_and_mode(client_for, control):
    control.authorizations(livemode=True)
    control.authorizations(account="acct_other")
    mine = control.authorizations()
    control.advance(LAG_S)
    assert found(client_for(), "amount>0") == mine


# The language.


@pytest.mark.parametrize(
    ("query", "which"),
    [
        ("amount:700", "b"),
        ('amount:"700"', "b"),
        ("amount>700", "c"),
        ("amount>=700", "cb"),
        ("amount<700", "a"),
        ("amount<=700", "ba"),
        ("-amount:700", "ca"),
        ("amount>500 amount<800", "b"),
        ("amount>500 AND amount<800", "b"),
        ("amount:500 or amount:900", "ca"),
        ('currency:"EUR"', "c"),
        ("currency:'usd'", "ba"),
        ('metadata["op"]:"ONE"', "a"),
        ("metadata['op']:'two \"2\"'", "b"),
        ('metadata["op"]:"two \\"2\\""', "b"),
        ('-metadata["op"]:"one"', "cb"),
        ('metadata["op"]:null', "c"),
        ('-metadata["op"]:NULL', "ba"),
        ("customer:null", "cba"),
        ('status:"requires_capture" AND amount>100 AND -currency:"jpy"', "cba"),
    ],
)
def test_the_query_language(search, control, query, which):
    made = {
        "a": control.authorizations(amount=500, metadata={"op": "one"})[0],
        "b": control.authorizations(amount=700, metadata={"op": 'two "2"'})[0],
        "c": control.authorizations(amount=900, currency="eur")[0],
    }
    assert search("payment_intents", query) == [made[each] for each in which]


def test_strings_are_found_by_a_part(search, client):
    ann = client.v1.customers.create(params={"email": "Ann@example.com", "name": "Ann Example", "phone": "+15550100"})
    bob = client.v1.customers.create(params={"email": "bob@other.com"})
    assert search("customers", 'email~"EXAMPLE"') == [ann.id]
    assert search("customers", '-email~"example"') == [bob.id]
    assert search("customers", 'name:"ann example" AND phone~"5550"') == [ann.id]
    assert search("customers", "name:null") == [bob.id]


def test_charges_are_found_by_card_and_by_their_result(search, client, control, intent):
    held = control.authorizations(card="pm_card_mastercard")[0]
    client.v1.payment_intents.capture(intent)
    taken, waiting = (client.v1.payment_intents.retrieve(each).latest_charge for each in (intent, held))
    assert search("charges", 'payment_method_details.card.brand:"visa"') == [taken]
    assert search("charges", "payment_method_details.card.last4:4444") == [waiting]
    assert search("charges", 'refunded:"false"') == [taken]
    assert search("charges", "refunded:null") == [waiting]
    assert search("charges", 'disputed:"false" AND status:"succeeded"') == [waiting, taken]


def test_invoices_are_found_by_total_and_status(search, client, customer):
    draft = client.v1.invoices.create(params={"customer": customer})
    client.v1.invoices.add_lines(draft.id, params={"lines": [{"amount": 500}]})
    number = client.v1.invoices.finalize_invoice(draft.id).number
    assert search("invoices", f'total>=500 AND status:"open" AND customer:"{customer}"') == [draft.id]
    assert search("invoices", f'number~"{number[-6:]}"') == [draft.id]
    assert search("invoices", "subscription:null AND last_finalization_error_code:null") == [draft.id]


@pytest.mark.parametrize(
    "query",
    [
        "asdf",
        "status:succeeded",
        "amount:",
        'amount:"much"',
        "amount>null",
        'status>"a"',
        'status~"suc"',
        'metadata:"7"',
        'metadata["op"]>7',
        'status["op"]:"7"',
        "(amount:1)",
        "amount:1 AND",
        "amount:1 AND amount:2 OR amount:3",
        "amount:1 amount:2 OR amount:3",
        " ".join(["amount:1"] * 11),
        'description:"x"',
        'created.year:"1"',
        f"amount:{'9' * 4400}",
    ],
)
def test_a_query_that_cannot_be_read_is_refused(raw, query):
    answer = asked(raw, "payment_intents", query=query)
    error = answer.json()["error"]
    assert (answer.status, error["type"], error["param"]) == (400, "invalid_request_error", "query")


def test_a_part_has_three_characters(raw):
    assert asked(raw, "customers", query='email~"ab"').status == 400
    assert asked(raw, "customers", query='email~"abc"').status == 200


def test_a_field_that_search_does_not_know_is_named(raw):
    error = asked(raw, "payment_intents", query='latest_charge:"ch_1"').json()["error"]
    assert "`latest_charge`" in error["message"]
    assert "`payment_intents`" in error["message"]


# Pages.


def test_pages_follow_a_token(client, control):
    made = control.authorizations(7)
    control.advance(LAG_S)
    first = client.v1.payment_intents.search(params={"query": "amount>0", "limit": 3})
    assert [intent.id for intent in first.data] == made[:3:-1]
    assert (first.has_more, first.url) == (True, "/v1/payment_intents/search")
    assert [intent.id for intent in first.auto_paging_iter()] == made[::-1]
    second = client.v1.payment_intents.search(params={"query": "amount>0", "limit": 4, "page": first.next_page})
    assert [intent.id for intent in second.data] == made[3::-1]
    assert (second.has_more, second.next_page) == (False, None)


def test_a_page_survives_that_its_objects_are_deleted(client, control, customer):
    drafts = [client.v1.invoices.create(params={"customer": customer}).id for _ in range(5)]
    control.advance(LAG_S)
    deleted = []
    for invoice in client.v1.invoices.search(params={"query": 'status:"draft"', "limit": 2}).auto_paging_iter():
        client.v1.invoices.delete(invoice.id)
        deleted.append(invoice.id)
    assert deleted == drafts[::-1]


def test_a_page_token_is_valid_for_its_own_query_only(client, control, raw):
    control.authorizations(2)
    control.advance(LAG_S)
    token = client.v1.payment_intents.search(params={"query": "amount>0", "limit": 1}).next_page
    for query, page in (("amount>1", token), ("amount>0", "mine"), ("amount>0", token[:-1]), ("amount>0", "é")):
        answer = asked(raw, "payment_intents", query=query, page=page)
        assert (answer.status, answer.json()["error"]["param"]) == (400, "page")


def test_the_count_and_objects_are_expanded_on_demand(client, control):
    control.authorizations(3)
    control.advance(LAG_S)
    params = {"query": "amount>0", "limit": 2, "expand": ["total_count", "data.latest_charge"]}
    result = client.v1.payment_intents.search(params=params)
    assert result.total_count == 3
    assert [intent.latest_charge.amount for intent in result.data] == [1999, 1999]
    assert "total_count" not in client.v1.payment_intents.search(params={"query": "amount>0"})


@pytest.mark.parametrize(
    "params", [{}, {"query": ""}, {"query": "amount>0", "limit": "101"}, {"query": "x", "zz": "1"}]
)
def test_search_takes_a_query_a_limit_and_a_page(raw, params):
    answer = asked(raw, "payment_intents", **params)
    assert (answer.status, answer.json()["error"]["param"]) == (400, list({"query": "", **params})[-1])
