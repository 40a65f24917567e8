"""A list or a search takes every filter of the SDK, except those without a meaning here, which are refused by name."""

import re
from functools import cache
from pathlib import Path

import pytest
import stripe
import stripe.params
from stripe._request_options import RequestOptions

from stripe_standin.routes import ROUTES

# Why the stand-in cannot answer these. Remove a row when the thing is modeled.
NOT_MODELLED = {
    "customer_account": "customers are customers, not accounts of API v2",
    "destination": "payouts have no bank account to go to",
    "subscription": "there are no subscriptions",
    "test_clock": "the stand-in has one clock for everything",
    "transfer_group": "there are no transfers",
    "allow_redisplay": "every payment method says `unspecified`",
}

_METHOD = re.compile(
    r"""def\s(?:list|search)\(.*? params:\s(?:Optional\[)?\s*"(\w+)" .*? self\._request\(\s*"get",\s*"([^"]+)" """,
    re.DOTALL | re.VERBOSE,
)


@cache
def listed():
    """By route, the parameters that the SDK has for a list or a search."""
    found = {}
    for file in Path(stripe.__file__).parent.glob("_*_service.py"):
        for params, path in _METHOD.findall(file.read_text()):
            route = f"GET {re.sub('{.*?}', '{id}', path)}"
            found[route] = set(getattr(stripe.params, params).__annotations__) - set(RequestOptions.__annotations__)
    return found


LISTS = sorted(listed().keys() & ROUTES.keys())


def test_the_sdk_was_read():
    assert listed()["GET /v1/payment_intents"] >= {"customer", "created", "limit", "starting_after", "ending_before"}
    assert listed()["GET /v1/charges/search"] == {"query", "limit", "page", "expand"}
    assert len(LISTS) >= 8


@pytest.mark.parametrize("route", LISTS)
def test_a_list_knows_every_filter(route):
    known, asked = set(ROUTES[route].table.readers), listed()[route]
    assert known - asked == set(), "the SDK does not know these"
    assert asked - known - NOT_MODELLED.keys() == set()


@pytest.mark.parametrize("route", LISTS)
def test_a_filter_that_is_not_modeled_is_refused_by_name(raw, route):
    path = route.removeprefix("GET ").replace("{id}", "cus_none")
    refused = listed()[route] - set(ROUTES[route].table.readers)
    # At Stripe no list filters by metadata; only search does.
    for name in [*refused, "metadata[op]"]:
        answer = raw("GET", f"{path}?{name}=x")
        error = answer.json()["error"]
        assert (answer.status, error["code"], error["param"]) == (400, "parameter_unknown", name.partition("[")[0])


def test_every_reason_is_needed():
    asked = set().union(*(listed()[route] - set(ROUTES[route].table.readers) for route in LISTS))
    assert set(NOT_MODELLED) <= asked
