"""Stripe's public API, asked at one address: the stand-in's, or Stripe's own with the key of a sandbox.

    make conformance                                              on the stand-in, as in every run of the tests
    make conformance STRIPE_TEST_KEY_REF=env:MY_STRIPE_TEST_KEY   on a Stripe sandbox

With STRIPE_TEST_API_BASE as well, another server is tested as if it were Stripe. The tests hold at both, so they use
only the API, even to see whether something happened twice. Every test makes and labels what it needs, and deletes
nothing. Where the stand-in had to decide without a source, a test uses `unknown`: a run at Stripe then prints what
Stripe does.
"""

import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import stripe
import verdicts
from sandbox import RATE_AT_STRIPE, STRIPE, Pace, PacedClient, Place, Raw, check_reached, payment, sandbox_key

from stripe_standin.history import API_VERSION

TEST_KEY = "sk_test_conformance"
# The stand-in accepts no other key, and its search has a delay for which the tests must wait.
STANDIN = (*verdicts.JUDGED, "--api-key", TEST_KEY, "--search-lag", "0.2")

stripe.enable_telemetry = False

Ask = Callable[[str, Any, Any], None]

# The calls of `unknown`: the question, what the stand-in decided, what was found.
answers: list[tuple[str, Any, Any]] = []


@pytest.fixture(scope="session")
def place() -> Iterator[Place]:
    api_key = sandbox_key()
    if api_key is not None:
        place = Place(os.environ.get("STRIPE_TEST_API_BASE", STRIPE), api_key, is_stripe=True)
        check_reached(place)
        yield place
        return
    with subprocess.Popen(STANDIN, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            verdicts.watch(url, "place")
            yield Place(url, TEST_KEY, is_stripe=False)
            verdicts.assert_none(url)
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def _pace(place: Place) -> Pace:
    return Pace(RATE_AT_STRIPE if place.is_stripe else None)


@pytest.fixture(scope="session")
def raw(place: Place, _pace: Pace) -> Raw:
    return Raw(place, _pace)


@pytest.fixture(scope="session")
def client(place: Place, _pace: Pace) -> stripe.StripeClient:
    return stripe.StripeClient(
        place.api_key,
        base_addresses={"api": place.url},
        stripe_version=API_VERSION,
        http_client=PacedClient(_pace),
        max_network_retries=0,
    )


@pytest.fixture
def label() -> str:
    """A unique text, for keys and metadata."""
    return f"conformance-{uuid.uuid4().hex}"


@pytest.fixture
def customer(client: stripe.StripeClient, label: str) -> str:
    """The id of a new customer."""
    return client.v1.customers.create(params={"email": f"{label}@example.com", "metadata": {"label": label}}).id


@pytest.fixture
def authorize(client: stripe.StripeClient, customer: str, label: str) -> Callable[..., stripe.PaymentIntent]:
    """A PaymentIntent of 10.00 USD, confirmed with a test card and waiting to be captured; parameters change it."""

    def intent(**changes: Any) -> stripe.PaymentIntent:
        return client.v1.payment_intents.create(params=payment(customer=customer, metadata={"label": label}, **changes))

    return intent


@pytest.fixture
def eventually(place: Place) -> Callable[..., Any]:
    """Call the condition until it is true, and return its result; for at most `place.patience_s`."""

    def asked(condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + place.patience_s
        while not (result := condition()):
            assert time.monotonic() < deadline, f"not within {place.patience_s:g} s: {what}"
            time.sleep(1.0 if place.is_stripe else 0.02)
        return result

    return asked


@pytest.fixture
def unknown(place: Place) -> Ask:
    """An open question: `here` is what the stand-in decided, `found` what this place did.

    At the stand-in they must agree. At Stripe the answer is printed at the end of the run.
    """

    def ask(question: str, here: Any, found: Any) -> None:
        if place.is_stripe:
            answers.append((question, here, found))
        else:
            assert found == here, question

    return ask


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if answers:
        terminalreporter.section("what the stand-in had to decide")
    for question, here, found in answers:
        verdict = f"as decided: {here}" if here == found else f"decided {here}, and Stripe does {found}"
        terminalreporter.write_line(f"{question}: {verdict}")
