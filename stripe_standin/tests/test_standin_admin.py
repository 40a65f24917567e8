"""/_standin takes what it knows and refuses everything else by name; its client is as strict."""

import pytest

from stripe_standin.control import Control, ControlError
from stripe_standin.history import EFFECTS


def refused(control, route, asked):
    with pytest.raises(ControlError) as refusal:
        control._ask("POST", route, asked)
    return str(refusal.value)


BODIES = [
    ("faults", {"fault": "424", "color": "red"}, "there is no `color`: known are fault, seconds"),
    ("faults", [{"fault": "424"}, {"fault": "425"}], "`[1].fault` is one of drop_before"),
    ("release", {"id": "held_1"}, "there is no `id`: known are ids, then"),
    ("release", {"ids": "held_1"}, "`ids` is a list"),
    ("release", {"then": "left"}, "`then` is one of proceed, forget"),
    ("release", {"ids": ["held_0"]}, "`ids`: held_0 not held (any more), so none was released"),
    ("clock", {"advance": 5}, "there is no `advance`: known are advance_s, expire"),
    ("clock", {"advance_s": "5"}, "`advance_s` is a number from 0 to 3,153,600,000"),
    ("clock", {"advance_s": True}, "`advance_s` is a number"),
    ("clock", {"expire": "no"}, "`expire` is true or false"),
    ("clock", {"expire": 0}, "`expire` is true or false"),
    ("keys", {"acepted": []}, "there is no `acepted`"),
    ("keys", {"accepted": ["pk_test_x"]}, "`accepted[0]` is a secret or restricted API key such as sk_test_anything"),
    ("keys", {"expired": None}, "`expired` is a list"),
    ("keys", {"accounts": {"sk_test_x": "them"}}, "`accounts.sk_test_x` is an account's id such as acct_anything"),
    ("keys", {"accounts": {"sk": "acct_x"}}, "`accounts.sk` is a secret or restricted API key"),
    ("keys", {"accounts": []}, "`accounts` is a JSON object"),
    ("keys", {"permissions": {"sk_test_x": {}}}, "`permissions.sk_test_x` is a restricted API key"),
    ("keys", {"permissions": {"rk_test_x": {"charge": "read"}}}, "`permissions.rk_test_x.charge` is one of"),
    (
        "keys",
        {"permissions": {"rk_test_x": {"charges": "all"}}},
        "`permissions.rk_test_x.charges` is one of read, write",
    ),
    ("search", {}, "`lag_s` is missing"),
    ("search", {"lag_s": -1}, "`lag_s` is a number from 0 to 31,536,000"),
    ("authorizations", {"ammount": 5}, "there is no `ammount`"),
    ("authorizations", {"amount": 10.5}, "`amount` is a whole number from 1 to 99,999,999"),
    ("authorizations", {"count": 0}, "`count` is a whole number from 1 to 200,000"),
    ("authorizations", {"off_session": "true"}, "`off_session` is true or false"),
    ("authorizations", {"metadata": {"a": 1}}, "`metadata.a` is a text"),
    ("authorizations", {"account": "them"}, "`account` is an account's id"),
    ("authorizations", {"customer": "cus_none"}, "No such customer: 'cus_none'"),
    ("authorizations", {"card": "pm_card_none"}, "`card` is one of Stripe's test cards"),
    ("authentications", {}, "`payment_intent` is missing"),
    ("authentications", {"payment_intent": "pi_x"}, "`outcome` is missing"),
    ("authentications", {"payment_intent": "pi_x", "outcome": "no"}, "`outcome` is one of succeeded, failed"),
    (
        "authentications",
        {"payment_intent": "pi_x", "outcome": "failed"},
        "`payment_intent`: acct_1StandIn0000000 has no",
    ),
    ("webhooks", {"duplicates": {"every": 0}}, "`duplicates.every` is a whole number from 1 to 1,000,000,000"),
    ("webhooks", {"duplicates": {"each": 2}}, "there is no `duplicates.each`: known are probability, every"),
    ("webhooks", {"twins": {}}, '`twins` is {"probability": 0 to 1}, {"every": n} or null'),
    ("webhooks", {"delay_s": 1e9}, "`delay_s` is a number from 0 to 604,800"),
    ("webhooks", {"color": 1}, "there is no `color`: known are seed, duplicates"),
    ("deliveries", {"event": "evt_x"}, "`endpoint` is missing"),
    ("deliveries", {"event": "evt_x", "endpoint": "we_x"}, "`endpoint`: there is no endpoint 'we_x'"),
    ("secrets", {"endpoint": 5}, "`endpoint` is a text"),
    ("secrets", {"endpoint": "we_x", "keep_s": 1.5}, "`keep_s` is a whole number from 0 to 86,400"),
    ("reset", {"all": True}, "there is no `all`: it takes no fields"),
    ("reset", [], "what is asked is a JSON object"),
]


@pytest.mark.parametrize(("route", "asked", "says"), BODIES, ids=lambda part: str(part)[:60])
def test_a_wrong_field_is_refused_by_its_name(control, route, asked, says):
    assert says in refused(control, route, asked)
    assert (control.effects(), control.faults(), control.clock()["advanced_s"]) == ([], [], 0)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("health?x=1", "there is no `x`: it takes no fields"),
        ("effects?kinds=capture", "there is no `kinds`: known are kind, after"),
        ("effects?kind=captures", "`kind` is one of authorization, capture, release"),
        ("effects?kind=", "`kind` is one of"),
        ("effects?after=1&after=2", "`after` is there twice"),
        ("effects?after=x", "`after` is a whole number from 0"),
        ("effects?after=true", "`after` is a whole number from 0"),
        ("requests?status=200", "there is no `status`: known are path, key, after"),
        ("held?wait_s=61", "`wait_s` is a number from 0 to 60"),
        ("webhooks?type=x", "there is no `type`"),
        ("clock?now=1", "there is no `now`"),
        ("keys?key=sk_test_x", "there is no `key`"),
    ],
)
def test_a_wrong_query_is_refused_by_its_name(raw, query, says):
    answer = raw("GET", f"/_standin/{query}", api_key=None)
    assert answer.status == 400
    assert says in answer.json()["error"]


def test_a_query_with_a_body_or_a_body_with_a_query_is_refused(raw, control):
    for method, path, body in (("GET", "effects", b"{}"), ("POST", "reset?x=1", b"{}"), ("DELETE", "faults?x=1", b"")):
        answer = raw(method, f"/_standin/{path}", body, api_key=None)
        assert (answer.status, "a GET takes a query" in answer.json()["error"]) == (400, True)


def test_a_form_is_refused_because_json_is_wanted(raw):
    answer = raw("POST", "/_standin/faults", {"fault": "500_saved"}, api_key=None)
    assert answer.status == 400
    assert answer.json()["error"].startswith('the body has to be JSON, such as {"fault": "500_saved"}')


@pytest.mark.parametrize("kind", EFFECTS)
def test_a_kind_of_effect_that_never_happened_has_an_empty_list(control, kind):
    assert control.effects(kind) == []


def test_a_misspelt_kind_of_effect_is_an_error(control, intent):
    with pytest.raises(ControlError, match="`kind` is one of authorization, capture, "):
        control.effects("captures")


def test_only_an_intent_that_waits_is_authenticated_and_a_refusal_names_its_status(control, intent):
    asked = {"payment_intent": intent, "outcome": "succeeded"}
    assert f"{intent} waits for nothing of its customer, it has the status requires_capture" in refused(
        control, "authentications", asked
    )
    assert "in live mode" in refused(control, "authentications", {**asked, "livemode": True})


def test_the_clock_has_an_end(control):
    control.advance(100 * 365 * 86_400)
    assert (
        refused(control, "clock", {"advance_s": 1})
        == "`advance_s`: the clock goes forward by 3,153,600,000 seconds in all"
    )


@pytest.mark.parametrize(
    "address", ["127.0.0.1:12111", "localhost", "", "ftp://127.0.0.1", "http://", "http://a b", "http://a/v1"]
)
def test_a_wrong_address_of_the_stand_in_is_refused_at_once(address):
    with pytest.raises(ValueError, match="such as http://"):
        Control(address)


def test_a_slash_at_the_end_of_an_address_does_no_harm(url):
    assert Control(f"{url}/").health()["ok"]


def test_keys_that_are_not_named_get_their_defaults(control):
    control.set_keys(accepted=["sk_test_a"], expired=["sk_test_b"], accounts={"sk_test_a": "acct_a"})
    assert control.set_keys(permissions={"rk_test_a": {"charges": "read"}}) == {
        "accepted": None,
        "expired": [],
        "accounts": {},
        "permissions": {"rk_test_a": {"charges": "read"}},
    }
