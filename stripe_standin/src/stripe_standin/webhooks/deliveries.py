"""One attempt to deliver a webhook: what is sent, how it is signed, and what became of it.

Source: docs.stripe.com/webhooks (2xx is a delivery, a redirect is a failure) and webhooks/signatures. Each
attempt has a thread of its own: the event loop goes on meanwhile, and does not wait for a thread that it has given up.
"""

import asyncio
import contextlib
import hmac
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import orjson
import urllib3

from stripe_standin import history
from stripe_standin.books import Books
from stripe_standin.history import Event

ANSWER_MAX = 64 * 1024  # at most this much of an answer is read at a time; it is thrown away


class Outcome(NamedTuple):
    """The status of the answer, or the reason why there is none."""

    status: int | None
    error: str | None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass(slots=True, eq=False)
class Delivery:
    """One event for one endpoint, until it is delivered or given up."""

    id: str
    books: Books
    endpoint_id: str
    event: Event
    version: str
    # The object in JSON as an older version showed it then. None: it can be made from the event's row at any time.
    snapshot: bytes | None
    by_hand: bool = False
    attempts: int = 0


def body(delivery: Delivery) -> bytes:
    """The event as JSON, indented as Stripe's.

    A receiver that verifies JSON which it has written again fails here, too.
    """
    event = delivery.event
    result = history.event(event, len(delivery.books.undelivered.get(event.id, ())))
    if delivery.snapshot is not None:
        result["api_version"] = delivery.version
        result["data"] = {"object": orjson.Fragment(delivery.snapshot)}
    return orjson.dumps(result, option=orjson.OPT_INDENT_2)


def signature(sent: bytes, secrets: Iterable[str]) -> str:
    """The header `Stripe-Signature`, one `v1` for each secret.

    Its time is the real time, not that of the stand-in's clock: the receiver compares it with its own clock, which
    nobody has moved.
    """
    at = int(time.time())
    signed = b"%d.%b" % (at, sent)
    return ",".join([f"t={at}", *(f"v1={hmac.digest(each.encode(), signed, 'sha256').hex()}" for each in secrets)])


async def send(url: str, sent: bytes, signed: str, timeout_s: float) -> Outcome:
    """Post it and wait for the answer, for at most `timeout_s` of real time in all."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Outcome] = loop.create_future()

    def settle(result: Outcome) -> None:
        if not outcome.done():
            outcome.set_result(result)

    def work() -> None:
        result = _post(url, sent, signed, timeout_s)
        # The loop may have been closed meanwhile: the server has stopped.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result)

    # Not a thread of a pool: the end of the process would wait for it.
    threading.Thread(target=work, daemon=True, name="webhook").start()
    try:
        return await asyncio.wait_for(outcome, timeout_s)
    except TimeoutError:
        return Outcome(None, f"no answer within {timeout_s:g} s")


def _post(url: str, sent: bytes, signed: str, timeout_s: float) -> Outcome:
    headers = {
        "Connection": "close",
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": signed,
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    }
    # This only ends the thread. `send` keeps the time limit for the answer.
    limit = urllib3.Timeout(timeout_s + 1)
    try:
        # A new connection: the receiver may have closed one that was kept.
        with urllib3.PoolManager(retries=False) as http:
            answer = http.request(
                "POST", url, body=sent, headers=headers, timeout=limit, redirect=False, preload_content=False
            )
            ends = time.monotonic() + timeout_s
            # urllib3's limit is for each read, so a receiver that sends byte by byte would be read forever.
            while time.monotonic() < ends and answer.read1(ANSWER_MAX):
                pass
            answer.close()
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        return Outcome(None, str(error))
    return Outcome(answer.status, None)
