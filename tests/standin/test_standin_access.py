"""Who may ask: API keys, modes, accounts, and how often."""

import pytest
import stripe

from billing.standin.control import Control

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


def test_live_authorisations_can_be_made_for_tests_of_live_mode(client_for, control):
    made = control.authorisations(livemode=True)[0]
    assert client_for(LIVE).v1.payment_intents.capture(made).livemode


def test_a_rate_limit_lets_so_many_through_and_saves_nothing(start):
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
