"""Refusals have a status, a type, a code and a parameter; their texts are not compared.

docs.stripe.com/api/errors, docs.stripe.com/error-codes
"""

import base64

import pytest

PATH = "/v1/payment_intents"
CREATE = {"amount": "1000", "currency": "usd"}


def refusal(answer):
    """Status, type, code and parameter; every error has a message, too."""
    error = answer.json()["error"]
    assert error["message"]
    return answer.status, error["type"], error.get("code"), error.get("param")


INVALID = "invalid_request_error"


@pytest.mark.parametrize(
    ("form", "code", "param"),
    [
        ({"currency": "usd"}, "parameter_missing", "amount"),
        ({"amount": "1000"}, "parameter_missing", "currency"),
        ({**CREATE, "bogus": "1"}, "parameter_unknown", "bogus"),
        ({**CREATE, "customer": "cus_none"}, "resource_missing", "customer"),
        ({**CREATE, "payment_method": "pm_none"}, "resource_missing", "payment_method"),
        ({**CREATE, "amount": "many"}, "parameter_invalid_integer", "amount"),
    ],
)
def test_a_parameter_is_refused_by_name(raw, form, code, param):
    assert refusal(raw("POST", PATH, form)) == (400, INVALID, code, param)


@pytest.mark.parametrize("form", [{**CREATE, "capture_method": "later"}, {**CREATE, "currency": "dollars"}])
def test_a_value_that_is_not_among_the_choices_is_refused(raw, form):
    answer = raw("POST", PATH, form)
    assert refusal(answer)[:2] == (400, INVALID)
    assert refusal(answer)[3] in form


@pytest.mark.parametrize("amount", ["0", "-1", "10.5", "999999999"])
def test_an_impossible_amount_is_refused(raw, amount):
    assert refusal(raw("POST", PATH, {**CREATE, "amount": amount}))[:2] == (400, INVALID)


@pytest.mark.parametrize(
    ("path", "param"),
    [("payment_intents/pi_none", "intent"), ("charges/ch_none", None), ("invoices/in_none", None)],
)
def test_an_unknown_id_is_a_404(raw, path, param):
    answer = raw("GET", f"/v1/{path}")
    assert refusal(answer)[:3] == (404, INVALID, "resource_missing")
    if param is not None:
        assert refusal(answer)[3] == param


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/nothing"), ("POST", "/v1/payment_intents/pi_none/enlarge")])
def test_an_unknown_route_is_a_404(raw, method, path):
    assert refusal(raw(method, path))[:2] == (404, INVALID)


@pytest.mark.parametrize(
    "authorization",
    [None, "Bearer sk_test_nobody", "Bearer nothing", "Digest x"],
    ids=["none", "a-key-that-is-not", "no-key", "another-scheme"],
)
def test_a_request_without_a_key_is_a_401(raw, authorization):
    assert refusal(raw("GET", PATH, authorization=authorization))[:2] == (401, INVALID)


def test_a_key_may_come_as_a_user_name(raw, place):
    basic = base64.b64encode(f"{place.api_key}:".encode()).decode()
    assert raw("GET", PATH, authorization=f"Basic {basic}").status == 200


def test_every_answer_has_an_id_of_its_own(raw):
    one, two = (raw("GET", f"{PATH}/pi_none") for _ in range(2))
    assert one.headers["Request-Id"].startswith("req_")
    assert one.headers["Request-Id"] != two.headers["Request-Id"]


def test_an_unknown_version_is_refused(raw):
    assert refusal(raw("GET", PATH, version="yesterday"))[:2] == (400, INVALID)


def test_metadata_is_merged_and_an_empty_value_removes(client, customer):
    client.v1.customers.update(customer, params={"metadata": {"one": "1", "two": "2"}})
    told_now = client.v1.customers.update(customer, params={"metadata": {"one": "", "three": "3"}}).metadata
    assert {name: value for name, value in told_now.to_dict().items() if name != "label"} == {"two": "2", "three": "3"}


@pytest.mark.parametrize("form", [{f"metadata[{'k' * 41}]": "v"}, {"metadata[k]": "v" * 501}])
def test_metadata_has_its_limits(raw, form):
    assert refusal(raw("POST", PATH, {**CREATE, **form}))[:2] == (400, INVALID)


def test_a_zero_amount_names_its_parameter(raw, authorize, unknown):
    answer = raw("POST", f"{PATH}/{authorize().id}/capture", {"amount_to_capture": "0"})
    unknown("a capture of nothing", (400, INVALID, "parameter_invalid_integer", "amount"), refusal(answer))


def test_the_words_for_a_search_that_cannot_be_read(raw, unknown):
    answer = raw("GET", f"{PATH}/search", {"query": "asdf"})
    unknown("a query that cannot be read", (400, INVALID, None, "query"), refusal(answer))
