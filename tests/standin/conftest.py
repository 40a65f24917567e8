"""One stand-in for all these tests, started as anybody would start it, and empty at the start of each test."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import urlencode

import pytest
import stripe
import urllib3

from billing.standin.control import Control

stripe.enable_telemetry = False

TEST_KEY = "sk_test_standin"


class Raw:
    """HTTP without the SDK: what is sent is what is written in the test."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = urllib3.PoolManager(retries=False)

    def __call__(
        self,
        method: str,
        path: str,
        form: Mapping[str, Any] | bytes | None = None,
        *,
        key: str | None = None,
        api_key: str | None = TEST_KEY,
        **headers: str,
    ) -> urllib3.BaseHTTPResponse:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if api_key:
            sent["Authorization"] = f"Bearer {api_key}"
        if key is not None:
            sent["Idempotency-Key"] = key
        if form is not None and method == "POST":
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
        body = form if isinstance(form, bytes) or form is None else urlencode(form).encode()
        return self._http.request(method, self.url + path, body=body, headers=sent, timeout=10, redirect=False)


@contextmanager
def started(*options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A stand-in of one's own: its address, and the process."""
    command = [sys.executable, "-m", "billing.standin", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("standin listening on http://127.0.0.1:"), line
            yield line.split()[-1], process
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def start() -> Callable[..., AbstractContextManager[tuple[str, subprocess.Popen[str]]]]:
    return started


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    with started() as (url, _):
        yield url


@pytest.fixture
def control(url: str) -> Control:
    control = Control(url)
    control.reset()
    return control


@pytest.fixture
def client_for(url: str, control: Control) -> Callable[..., stripe.StripeClient]:
    def client(api_key: str = TEST_KEY, **options: Any) -> stripe.StripeClient:
        return stripe.StripeClient(api_key, base_addresses={"api": url}, max_network_retries=0, **options)

    return client


@pytest.fixture
def client(client_for: Callable[..., stripe.StripeClient]) -> stripe.StripeClient:
    return client_for()


@pytest.fixture(scope="session")
def _raw(url: str) -> Raw:
    return Raw(url)


@pytest.fixture
def raw(_raw: Raw, control: Control) -> Raw:
    return _raw


@pytest.fixture
def intent(control: Control) -> str:
    """The id of an authorisation of 10.00 USD that waits to be captured."""
    return control.authorisations(amount=1000)[0]


@pytest.fixture
def customer(raw: Raw) -> str:
    return raw("POST", "/v1/customers", {"email": "who@example.com"}).json()["id"]
