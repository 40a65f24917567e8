"""Who may ask: API keys, modes, accounts, and how often."""

import pytest
import stripe

from stripe_standin.control import Control, ControlError

LIVE = "sk_live_standin"


@pytest.mark.parametrize("api_key", [None, "pk_test_x", "sk_prod_x", "sk_test_", "nonsense"])
def test_without_a_secret_key_nobody_is_let_in(raw, control, api_key):
    answer = raw("GET", "/v1/account", api_key=api_key)
    assert answer.status == 401
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.headers["Request-Id"].startswith("req_")
    assert control.requests()[-1]["status"] == 401


def test_basic_authentication_is_taken_too(raw):
    answer = raw("GET", "/v1/account", api_key=None, Authorization="Basic c2tfdGVzdF94Og==")
    assert answer.status == 200
    assert raw("GET", "/v1/account", api_key=None, Authorization="Basic ???").status == 401


def test_an_api_key_can_be_rotated(client_for, raw, control, intent):
    old, new = client_for("sk_test_old"), client_for("sk_test_new")
    control.set_keys(accepted=["sk_test_new"], expired=["sk_test_old"])
    with pytest.raises(stripe.AuthenticationError) as refused:
        old.v1.payment_intents.capture(intent, options={"idempotency_key": "k"})
    assert refused.value.error.code == "api_key_expired"
    assert "sk_test_old" not in str(refused.value)
    with pytest.raises(stripe.AuthenticationError):
        client_for("sk_test_third").v1.accounts.retrieve_current()
    captured = new.v1.payment_intents.capture(intent, options={"idempotency_key": "k"})
    assert captured.status == "succeeded"
    assert "Idempotent-Replayed" not in captured.last_response.headers


def test_the_mode_follows_the_key_and_modes_see_nothing_of_each_other(client_for, raw, control):
    live, test = client_for(LIVE), client_for()
    made = live.v1.payment_intents.create(params={"amount": 100, "currency": "usd"})
    assert made.livemode
    with pytest.raises(stripe.InvalidRequestError) as refused:
        test.v1.payment_intents.retrieve(made.id)
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
    assert "exists in live mode" in str(refused.value)
    assert test.v1.payment_intents.list().data == []
    assert test.v1.events.list().data == []
    assert [effect["livemode"] for effect in control.effects()] == [True]


def test_an_account_sees_nothing_of_another(client_for, control):
    ours, theirs = client_for(), client_for(stripe_account="acct_theirs")
    made = theirs.v1.customers.create()
    with pytest.raises(stripe.InvalidRequestError):
        ours.v1.customers.retrieve(made.id)
    assert theirs.v1.accounts.retrieve_current().id == "acct_theirs"
    assert control.effects()[0]["account"] == "acct_theirs"


def test_an_api_key_may_belong_to_another_account(client_for, control):
    control.set_keys(accounts={"sk_test_b": "acct_b"})
    assert client_for("sk_test_b").v1.accounts.retrieve_current().id == "acct_b"
    assert client_for("sk_test_a").v1.accounts.retrieve_current().id != "acct_b"


def test_live_authorizations_can_be_made_for_tests_of_live_mode(client_for, control):
    made = control.authorizations(livemode=True)[0]
    assert client_for(LIVE).v1.payment_intents.capture(made).livemode


def test_a_rate_limit_refuses_the_rest_and_saves_nothing(start):
    with start("--rate-limit", "2", "--api-key", "sk_test_a", "--account", "acct_limited") as (url, _):
        client = stripe.StripeClient("sk_test_a", base_addresses={"api": url}, max_network_retries=0)
        assert client.v1.accounts.retrieve_current().id == "acct_limited"

        def ask_often():
            for _ in range(50):
                client.v1.customers.create(options={"idempotency_key": "k"})

        with pytest.raises(stripe.RateLimitError) as refused:
            ask_often()
        assert refused.value.error.code == "rate_limit"
        assert refused.value.headers["Stripe-Rate-Limited-Reason"] == "global-rate"
        assert len(Control(url).effects("customer.created")) <= 1


PAY = {"amount": "100", "currency": "usd"}
RESTRICTED = "rk_test_clerk"


def test_a_restricted_key_may_do_what_it_is_permitted_and_nothing_else(client_for, raw, control, intent, customer):
    control.set_keys(permissions={RESTRICTED: {"payment_intents": "read", "customers": "write"}})
    clerk = client_for(RESTRICTED)
    before = len(control.effects())
    assert clerk.v1.payment_intents.retrieve(intent).id == intent
    assert clerk.v1.payment_intents.list().data
    assert clerk.v1.customers.retrieve(customer).id == customer  # write includes read
    assert clerk.v1.customers.create().id
    for forbidden in (
        lambda: clerk.v1.payment_intents.capture(intent, options={"idempotency_key": "k"}),
        lambda: clerk.v1.payment_intents.create(params={"amount": 100, "currency": "usd"}),
        clerk.v1.events.list,
        clerk.v1.accounts.retrieve_current,
    ):
        with pytest.raises(stripe.PermissionError) as refused:
            forbidden()
        assert refused.value.http_status == 403
        assert RESTRICTED not in str(refused.value)
    assert len(control.effects()) == before + 1
    # Nothing was saved: with the permission, the same key executes.
    control.set_keys(permissions={RESTRICTED: {"payment_intents": "write"}})
    answer = raw("POST", f"/v1/payment_intents/{intent}/capture", key="k", api_key=RESTRICTED)
    assert (answer.status, "Idempotent-Replayed" in answer.headers) == (200, False)


def test_a_refusal_names_the_missing_permission(raw, control, intent):
    control.set_keys(permissions={RESTRICTED: {"payment_intents": "read"}})
    asked = raw("POST", f"/v1/payment_intents/{intent}/capture", api_key=RESTRICTED).json()["error"]["message"]
    assert "'payment_intents write'" in asked
    assert "'charges read'" in raw("GET", "/v1/charges/ch_1", api_key=RESTRICTED).json()["error"]["message"]


def test_a_lost_permission_hides_even_a_saved_answer(raw, control, intent):
    path = f"/v1/payment_intents/{intent}/capture"
    assert raw("POST", path, key="k", api_key=RESTRICTED).status == 200
    control.set_keys(permissions={RESTRICTED: {}})
    assert raw("POST", path, key="k", api_key=RESTRICTED).status == 403
    assert raw("POST", path, key="k").headers["Idempotent-Replayed"] == "true"


def test_keys_without_a_row_may_do_everything(raw, control):
    control.set_keys(permissions={RESTRICTED: {}})
    for api_key in ("rk_test_other", "sk_test_clerk"):
        assert raw("GET", "/v1/account", api_key=api_key).status == 200
    assert raw("GET", "/v1/nothing", api_key=RESTRICTED).status == 404


@pytest.mark.parametrize(
    "keys",
    [
        {"permissions": {"sk_test_x": {"charges": "read"}}},
        {"permissions": {"rk_test_x": {"charges": "all"}}},
        {"permissions": {"rk_test_x": "read"}},
        {"permissions": None},
        {"accepted": ["sk_test_a", 1]},
        {"accepted": "sk_test_a"},
        {"expired": [None]},
        {"accounts": {"sk_test_a": 5}},
        {"accounts": ["sk_test_a"]},
    ],
    ids=str,
)
def test_wrong_keys_are_refused_and_change_nothing(control, keys):
    control.set_keys(accepted=["sk_test_before"])
    before = control.keys()
    with pytest.raises(ControlError):
        control._ask("POST", "keys", {"expired": ["sk_test_later"], **keys})
    assert control.keys() == before


@pytest.mark.parametrize(
    "other", [{"api_key": LIVE}, {"Stripe_Account": "acct_theirs"}, {"api_key": "sk_test_theirs"}], ids=str
)
def test_nobody_else_sees_moves_or_replays_what_is_ours(raw, control, intent, other):
    control.set_keys(accounts={"sk_test_theirs": "acct_theirs"})
    path = f"/v1/payment_intents/{intent}"
    taken = raw("POST", f"{path}/capture", {"amount_to_capture": "300"}, key="k")
    charge = taken.json()["latest_charge"]
    before = control.effects()
    for answer in (
        raw("GET", path, **other),
        raw("GET", f"/v1/charges/{charge}", **other),
        raw("POST", f"{path}/capture", {"amount_to_capture": "300"}, key="k", **other),
        raw("POST", f"{path}/cancel", **other),
    ):
        assert (answer.status, answer.json()["error"]["code"]) == (404, "resource_missing")
        assert "Idempotent-Replayed" not in answer.headers
    assert raw("GET", "/v1/payment_intents", **other).json()["data"] == []
    # The same key for another account or mode is another key.
    made = raw("POST", "/v1/payment_intents", PAY, key="k2", **other)
    assert made.status == 200
    assert raw("POST", "/v1/payment_intents", {**PAY, "amount": "7"}, key="k2").status == 200
    assert raw("POST", "/v1/payment_intents", PAY, key="k2", **other).json() == made.json()
    assert [each["kind"] for each in control.effects(after=before[-1]["n"])] == ["payment_intent.created"] * 2


def test_two_api_keys_of_one_account_share_its_idempotency_keys(raw):
    first = raw("POST", "/v1/payment_intents", PAY, key="k")
    again = raw("POST", "/v1/payment_intents", PAY, key="k", api_key="sk_test_rotated")
    assert again.data == first.data
    answer = raw("POST", "/v1/payment_intents", {**PAY, "amount": "7"}, key="k", api_key="sk_test_rotated")
    assert answer.json()["error"]["type"] == "idempotency_error"


def test_naming_ones_own_account_is_naming_none(raw, control):
    account = raw("GET", "/v1/account").json()["id"]
    first = raw("POST", "/v1/payment_intents", PAY, key="k")
    assert raw("POST", "/v1/payment_intents", PAY, key="k", Stripe_Account=account).data == first.data
    assert len(control.effects()) == 1
