"""The only file that imports stripe. The SDK builds requests, our transport sends them, and only the bytes count."""

import json
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

import stripe
import urllib3

from billing.excerpts import encoded, excerpt
from billing.gateway import KEEP, MAIL, RUN, Answer, Budget, KeyUnavailable, NoAnswer, NotSent, Request, Response
from billing.transport import OverBudget, TooLate, Unreached, exchange, open_pool

API_VERSION = "2026-10-28.endive"
"""Pinned with the SDK's minor version: another version is another contract."""

# The SDK would write an id into the home directory, and die where there is none.
stripe.enable_telemetry = False
# If an environment variable asks for it, the SDK would print requests and answers on standard error.
stripe._util.STRIPE_LOG = None

_REQUEST_ID = re.compile(r"req_[A-Za-z0-9_]{1,64}", re.ASCII)


class StripeGateway:
    """Calls Stripe through its SDK. Make one per process, after any fork; safe for many threads.

    `key` is called for every request; `refused` after an answer says 401, so that a rotated key can be read
    again. `connections` is how many calls may be in flight at once. Raises nothing, whatever comes back.
    """

    def __init__(
        self,
        key: Callable[[], str],
        base_url: str,
        *,
        livemode: bool,
        connections: int,
        refused: Callable[[], object] = lambda: None,
    ) -> None:
        self.livemode = livemode
        self._key = key
        self._refused = refused
        self._http = _Transport(base_url, connections)
        # An explicit 0: there is one retry loop, ours, and it is visible and counted.
        self._client = stripe.StripeClient(
            "sk_replaced_by_every_request",
            http_client=self._http,
            base_addresses={"api": base_url},
            max_network_retries=0,
            stripe_version=API_VERSION,
        )

    def send(self, request: Request, budget: Budget) -> Answer:
        """One request, or `NotSent` when `budget.not_after` has passed."""
        answer = self._send(request, budget)
        if isinstance(answer, Response) and answer.status == 401:
            self._refused()
        return answer

    def read_whole(self, path: str, account: str | None, budget: Budget) -> tuple[Answer, Mapping[str, Any]]:
        """A read, with the whole object as Stripe shows it: names and addresses too, for an e-mail that is sent right
        now, and links. The answer has the listed fields only, and nothing else may be kept."""
        self._http.keeps_body = True
        try:
            answer = self._send(Request("GET", path, account=account), budget)
            return answer, self._http.whole() if isinstance(answer, Response) and answer.status == 200 else {}
        finally:
            self._http.keeps_body = False

    def _send(self, request: Request, budget: Budget) -> Answer:
        if (part := request.unfit) is not None:
            return NotSent(f"the {part} has characters that we never write; it was not sent")
        if request.method in (RUN, MAIL, KEEP):
            return NotSent("this is no request to Stripe")
        if request.method == "POST" and not request.key:
            # The SDK replaces an empty key by a random one, and a random key is a double charge.
            return NotSent("a POST without an idempotency key")
        try:
            options: dict[str, Any] = {"api_key": self._key()}
        except KeyUnavailable as error:
            return NotSent(str(error))
        if request.method == "POST":
            options["idempotency_key"] = request.key
        if request.account:
            options["stripe_account"] = request.account
        if request.api_version:
            options["stripe_version"] = request.api_version
        self._http.begin(request, budget)
        try:
            self._client.raw_request(request.method.lower(), request.path, **options)
        except TooLate:
            return NotSent("too late to start")
        except Unreached as error:
            return NotSent(f"no connection: {error}", unreached=True)
        except stripe.StripeError as error:
            # Whatever its class: we read the bytes that came back. If none came back, nothing is known.
            return self._http.last_answer() or NoAnswer(type(error.__cause__ or error).__name__)
        except (ValueError, AttributeError, TypeError):
            # The SDK raises these for a body that is not Stripe's.
            if (answer := self._http.last_answer()) is None:
                raise
            return answer
        return self._http.last_answer() or NoAnswer("nothing was exchanged")


class _Transport(stripe.HTTPClient):
    """The SDK's HTTP client, replaced by ours: it sends the recorded bytes, and not what the SDK has encoded."""

    name = "billing"

    def __init__(self, base_url: str, connections: int) -> None:
        super().__init__()
        self._pool = open_pool(base_url, connections)
        self._current = threading.local()

    def begin(self, request: Request, budget: Budget) -> None:
        self._current.call, self._current.answer = (request, budget), None

    @property
    def keeps_body(self) -> bool:
        """Whether this thread's exchange keeps the whole body for `whole`."""
        return bool(getattr(self._current, "keeps_body", False))

    @keeps_body.setter
    def keeps_body(self, keeps: bool) -> None:
        self._current.keeps_body, self._current.body = keeps, b""

    def whole(self) -> Mapping[str, Any]:
        """The object that came back, if it is one."""
        try:
            data = json.loads(self._current.body)
        except (ValueError, RecursionError):
            return {}
        return data if isinstance(data, dict) else {}

    def last_answer(self) -> Response | None:
        """The answer as it came over the wire; some of the SDK's errors lack its headers or body."""
        answer: Response | None = self._current.answer
        return answer

    def request(  # type: ignore[override]
        self, method: str, url: str, headers: Mapping[str, str], post_data: object = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        request, budget = self._current.call
        if request.method == "POST" and headers.get("Idempotency-Key") != request.key:
            raise TooLate  # never under a key that is not the recorded one
        try:
            body, status, answered = exchange(self._pool, budget, request.method, request.path, headers, request.body)
        except (urllib3.exceptions.HTTPError, OSError, OverBudget) as error:
            raise stripe.APIConnectionError(type(error).__name__) from error  # type: ignore[no-untyped-call]
        self._current.answer = _response(status, body, answered)
        self._current.body = body if self.keeps_body else b""
        return body, status, answered

    def close(self) -> None:
        self._pool.close()


def _response(status: int, body: bytes, headers: Mapping[str, str]) -> Response:
    request_id, original = headers.get("Request-Id"), headers.get("Original-Request")
    data = excerpt(body)
    return Response(
        status=status,
        kept=encoded(data) if data is not None else b"",
        data=data,
        request_id=request_id if request_id and _REQUEST_ID.fullmatch(request_id) else None,
        # The header can be missing. An `Original-Request` with another request's id shows the same.
        replayed=headers.get("Idempotent-Replayed") == "true" or (original is not None and original != request_id),
    )
