"""One stand-in for all these tests, started as a user would start it, and empty at the start of each test."""

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import stripe
import urllib3
import verdicts
from receiver import Receiver

from stripe_standin.control import Control

stripe.enable_telemetry = False

TEST_KEY = "sk_test_standin"
HERE = Path(__file__).parent
_WHOLE = pytest.StashKey[bool]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the test last that checks what all tests have covered; it does so only if all of them run."""
    items.sort(key=lambda item: item.name == "test_every_route_was_answered_and_judged")
    config.stash[_WHOLE] = set(HERE.glob("test_*.py")) <= {item.path for item in items}


def pytest_deselected(items: list[pytest.Item]) -> None:
    if any(item.path.parent == HERE for item in items):
        items[0].config.stash[_WHOLE] = False


class Raw:
    """HTTP without the SDK: the test decides every byte that is sent."""

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
        return self._http.request(method, self.url + path, body=body, headers=sent, timeout=60, redirect=False)


@contextmanager
def started(*options: str, program: Sequence[str] = verdicts.JUDGED) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start another stand-in, behind a judge unless `program` is another. Yields its address and process."""
    with subprocess.Popen([*program, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("standin listening on http://127.0.0.1:"), line
            url = line.split()[-1]
            yield url, process
            if program is verdicts.JUDGED and process.poll() is None:
                verdicts.assert_none(url)
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def whole_folder(pytestconfig: pytest.Config) -> bool:
    """Whether all tests of this folder were chosen to run."""
    return pytestconfig.stash[_WHOLE]


@pytest.fixture(scope="session")
def start() -> Callable[..., AbstractContextManager[tuple[str, subprocess.Popen[str]]]]:
    return started


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    with started() as (url, _):
        verdicts.watch(url, "url")
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
    """The id of an authorization of 10.00 USD that waits to be captured."""
    return control.authorizations(amount=1000)[0]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server that webhooks can be sent to."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def customer(raw: Raw) -> str:
    return raw("POST", "/v1/customers", {"email": "who@example.com"}).json()["id"]
