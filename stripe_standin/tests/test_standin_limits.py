"""Rate limits: Stripe's own numbers, bucket by bucket; a refused request leaves nothing behind."""

import pytest
import stripe

from stripe_standin import limits
from stripe_standin.control import Control
from stripe_standin.errors import StripeError

NOW = 1_795_600_000.0
CREATE, READ = "POST /v1/payment_intents", "GET /v1/payment_intents/{id}"
CAPTURE = "POST /v1/payment_intents/{id}/capture"


@pytest.fixture
def limiter():
    return limits.Limiter(limits.parse("stripe", "N"))


@pytest.fixture
def raw_at(raw):
    """The plain HTTP client of these tests, for another stand-in."""
    return type(raw)


def admitted(limiter, operation, *, livemode=False, account="acct_a", ids=(), now=NOW, most=2000):
    """How many requests pass at one moment, and the reason why the next one does not."""
    for count in range(most):
        try:
            limiter.take(account, livemode, operation, ids, now)
        except StripeError as refused:
            return count, dict(refused.headers)[b"stripe-rate-limited-reason"].decode()
    return most, None


def test_a_sandbox_takes_25_a_second_whatever_they_are(limiter):
    assert admitted(limiter, CREATE, most=15) == (15, None)
    assert admitted(limiter, READ) == (10, "global-rate")


def test_live_mode_takes_100_a_second_and_25_of_each_operation(limiter):
    operations = (CREATE, READ, "GET /v1/events", "POST /v1/refunds")
    assert [admitted(limiter, each, livemode=True, most=25) for each in operations] == [(25, None)] * 4
    assert admitted(limiter, "GET /v1/account", livemode=True) == (0, "global-rate")
    later = NOW + 1
    assert admitted(limiter, CREATE, livemode=True, now=later) == (25, "endpoint-rate")
    assert admitted(limiter, READ, livemode=True, now=later, most=25) == (25, None)


def test_all_searches_together_are_20_a_second(limiter):
    assert admitted(limiter, "GET /v1/invoices/search", most=12) == (12, None)
    assert admitted(limiter, "GET /v1/customers/search") == (8, "endpoint-rate")


def test_modes_and_accounts_have_buckets_of_their_own(limiter):
    assert admitted(limiter, CREATE)[0] == 25
    assert admitted(limiter, CREATE, livemode=True)[0] == 25
    assert admitted(limiter, CREATE, account="acct_b")[0] == 25
    assert admitted(limiter, CREATE)[0] == 0


def test_a_bucket_refills_with_time_up_to_its_size(limiter):
    assert admitted(limiter, CREATE)[0] == 25
    assert admitted(limiter, CREATE, now=NOW + 0.42)[0] == 10
    assert admitted(limiter, CREATE, now=NOW + 3600)[0] == 25


def test_one_intent_is_updated_1000_times_an_hour(limiter):
    done, now = 0, NOW
    while True:
        count, reason = admitted(limiter, CAPTURE, ids=("pi_1",), now=now)
        done += count
        if reason == "resource-specific":
            break
        now += 1
    # It has filled a little meanwhile: a thousand an hour.
    assert done == 1000 + int((now - NOW) * 1000 / 3600)
    assert admitted(limiter, CAPTURE, ids=("pi_2",), now=now + 1)[0] == 25
    assert admitted(limiter, READ, ids=("pi_1",), now=now + 2)[0] == 25
    assert admitted(limiter, CAPTURE, ids=("pi_1",), now=now + 3600) == (25, "global-rate")


def test_a_chosen_limit_holds_for_all_operations_together():
    limiter = limits.Limiter(limits.parse("3", "N"))
    assert admitted(limiter, CREATE, most=2) == (2, None)
    assert admitted(limiter, READ) == (1, "global-rate")
    slow = limits.Limiter(limits.parse("0.5", "N"))
    assert [admitted(slow, READ, now=NOW + s)[0] for s in (0, 1, 2, 10)] == [1, 0, 1, 1]


def test_off_is_no_limit():
    assert admitted(limits.Limiter(limits.parse("off", "N")), CREATE) == (2000, None)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e9", "many", ""])
def test_a_wrong_limit_is_refused(value):
    with pytest.raises(ValueError, match="1,000,000, or off, or stripe"):
        limits.parse(value, "N")


RATE = 3  # per second: low, so that even a busy machine asks more often


def ask_until_refused(raw, most=2000, **sent):
    """Ask until refused."""
    for _ in range(most):
        answer = raw("POST", "/v1/customers", {"name": "Ann"}, **sent)
        if answer.status == 429:
            return answer
    raise AssertionError("never refused")


def test_the_limiter_refuses_before_the_key_and_the_clock_refills_it(start, raw_at):
    with start("--rate-limit", str(RATE)) as (url, _):
        raw, control = raw_at(url), Control(url)
        refused = ask_until_refused(raw)
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "rate_limit")
        assert refused.headers["Stripe-Rate-Limited-Reason"] == "global-rate"
        assert "Stripe-Should-Retry" not in refused.headers
        ask_until_refused(raw, key="k")  # its first answers are one and its replays
        before = len(control.effects())
        while raw("POST", "/v1/customers", {"name": "Ann"}, key="late").status != 429:
            control.reset()
            ask_until_refused(raw)
            before = len(control.effects())
        assert len(control.effects()) == before
        assert control.clock()["keys_kept"] <= 1
        control.advance(1)
        answers = [raw("POST", "/v1/customers", {"name": "Ann"}, key="late") for _ in range(RATE)]
        assert [answer.status for answer in answers] == [200] * RATE
        assert "Idempotent-Replayed" not in answers[0].headers
        assert answers[1].headers["Idempotent-Replayed"] == "true"
        assert len(control.effects()) == before + 1


def test_the_sdk_raises_its_rate_limit_error(start, raw_at):
    with start("--rate-limit", str(RATE)) as (url, _):
        ask_until_refused(raw_at(url))
        live = stripe.StripeClient("sk_live_x", base_addresses={"api": url}, max_network_retries=0)
        assert live.v1.accounts.retrieve_current().id
        test = stripe.StripeClient("sk_test_x", base_addresses={"api": url}, max_network_retries=0)

        def ask_often():
            for _ in range(2000):
                test.v1.accounts.retrieve_current()

        with pytest.raises(stripe.RateLimitError):
            ask_often()
