"""Where the tests find the API, at what pace, with which key, and with which payments."""

import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
import stripe
import urllib3

from stripe_standin.history import API_VERSION

SETTING = "STRIPE_TEST_KEY_REF"
STRIPE = "https://api.stripe.com"
# A sandbox answers 25 requests a second (docs.stripe.com/rate-limits). Others may be using it, too.
RATE_AT_STRIPE = 10.0
# Search is up to a minute behind, and events take a moment.
PATIENCE_AT_STRIPE_S = 120.0
PATIENCE_S = 10.0


@dataclass(frozen=True)
class Place:
    """An API under test, and how to behave there."""

    url: str
    api_key: str
    is_stripe: bool

    def __repr__(self) -> str:
        return f"Place({self.url})"

    @property
    def patience_s(self) -> float:
        return PATIENCE_AT_STRIPE_S if self.is_stripe else PATIENCE_S


class Pace:
    """Lets this many requests through per second, from all threads together; None is no limit."""

    def __init__(self, per_s: float | None) -> None:
        self._every_s = 1 / per_s if per_s else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            at = self._next = max(self._next + self._every_s, now)
        time.sleep(at - now)


class PacedClient(stripe.RequestsClient):
    """The SDK's own HTTP client, at our pace, and without settings from the environment."""

    def __init__(self, pace: Pace) -> None:
        session = requests.Session()
        session.trust_env = False
        super().__init__(timeout=30, session=session)
        self._pace = pace

    def request(self, *asked: Any, **more: Any) -> Any:
        self._pace.wait()
        return super().request(*asked, **more)


class Raw:
    """HTTP without the SDK: the test decides every byte that is sent."""

    def __init__(self, place: Place, pace: Pace) -> None:
        self._place = place
        self._pace = pace
        self._http = urllib3.PoolManager(retries=False, maxsize=16)

    def __call__(
        self,
        method: str,
        path: str,
        form: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        authorization: str | None = "",
        version: str = API_VERSION,
    ) -> urllib3.BaseHTTPResponse:
        """`authorization`: by default the place's own API key; None sends no such header."""
        headers = {"Stripe-Version": version}
        if authorization is not None:
            headers["Authorization"] = authorization or f"Bearer {self._place.api_key}"
        if key is not None:
            headers["Idempotency-Key"] = key
        url, body = self._place.url + path, None
        if method == "POST":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(form or {})
        elif form:
            url += f"?{urlencode(form)}"
        self._pace.wait()
        return self._http.request(method, url, body=body, headers=headers, timeout=30, redirect=False)


def sandbox_key() -> str | None:
    """The sandbox key, or None to test the stand-in. Any other key ends the run."""
    reference = os.environ.get(SETTING)
    if not reference:
        return None
    kind, _, place = reference.partition(":")
    if kind != "env" or not place:
        # Not shown: it may be the key itself.
        pytest.exit(f"{SETTING} is not a reference such as env:MY_STRIPE_TEST_KEY", returncode=2)
    api_key = os.environ.get(place, "")
    if not api_key:
        pytest.exit(f"{SETTING}: {place} is not set", returncode=2)
    if not re.fullmatch(r"(sk|rk)_test_\w+", api_key):
        pytest.exit(
            f"{SETTING}: what is at {reference} is no key of a sandbox; those begin with sk_test_ or rk_test_", 2
        )
    return api_key


def check_reached(place: Place) -> None:
    """End the run with one line if every test would fail for the same reason."""
    try:
        answer = Raw(place, Pace(None))("GET", "/v1/payment_intents", {"limit": "1"})
    except urllib3.exceptions.HTTPError as error:
        pytest.exit(f"{place.url} cannot be reached: {type(error).__name__}", 2)
    if answer.status != 200:
        pytest.exit(f"{place.url} answers {answer.status} to the key of {SETTING}", 2)


def payment(**changes: Any) -> dict[str, Any]:
    """Parameters for a payment of 10.00 USD that is authorized at once and captured later.

    Without redirects, a PaymentIntent can be confirmed without a customer who returns to a page.
    """
    return {
        "amount": 1000,
        "currency": "usd",
        "capture_method": "manual",
        "payment_method": "pm_card_visa",
        "confirm": True,
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        **changes,
    }
