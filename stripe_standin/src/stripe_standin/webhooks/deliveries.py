"""One attempt to deliver a webhook: what is sent, how it is signed, and what became of it.

Source: docs.stripe.com/webhooks (2xx is a delivery, a redirect is a failure) and webhooks/signatures. There is a
thread for each attempt: the event loop goes on meanwhile, and nobody waits for a thread whose answer is not wanted.
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

ANSWER_MAX = 64 * 1024  # so much of an answer is read, and thrown away


class Outcome(NamedTuple):
    """The status that came, or why none did."""

    status: int | None
    error: str | None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass(slots=True, eq=False)
class Delivery:
    """One event on its way to one endpoint, until it is delivered or given up."""

    id: str
    books: Books
    endpoint_id: str
    event: Event
    version: str
    # The object in JSON, as an older version showed it then. None: the event's row shows it any time.
    snapshot: bytes | None
    by_hand: bool = False
    attempts: int = 0


def body(delivery: Delivery) -> bytes:
    """The event, indented as by Stripe: whoever verifies what he has parsed and written anew fails here, too."""
    event = delivery.event
    told = history.event(event, len(delivery.books.undelivered.get(event.id, ())))
    if delivery.snapshot is not None:
        told["api_version"] = delivery.version
        told["data"] = {"object": orjson.Fragment(delivery.snapshot)}
    return orjson.dumps(told, option=orjson.OPT_INDENT_2)


def signature(sent: bytes, secrets: Iterable[str]) -> str:
    """The header `Stripe-Signature`, one `v1` for each secret.

    Its time is the real one, not that of the stand-in's clock: the receiver holds it against a clock of his own,
    which nobody has moved.
    """
    at = int(time.time())
    signed = b"%d.%b" % (at, sent)
    return ",".join([f"t={at}", *(f"v1={hmac.digest(each.encode(), signed, 'sha256').hex()}" for each in secrets)])


async def send(url: str, sent: bytes, signed: str, timeout_s: float) -> Outcome:
    """Post it and wait for the answer; all of that may take `timeout_s` of real time."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Outcome] = loop.create_future()

    def settle(told: Outcome) -> None:
        if not outcome.done():
            outcome.set_result(told)

    def work() -> None:
        told = _post(url, sent, signed, timeout_s)
        # The loop may have been closed meanwhile: the server has stopped.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, told)

    # Not of a pool, whose threads are waited for when the process ends.
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
    # It only ends the thread; the time to answer is kept by whoever waits for it.
    limit = urllib3.Timeout(timeout_s + 1)
    try:
        # A connection of its own: one that is kept may be closed by the receiver when it is used again.
        with urllib3.PoolManager(retries=False) as http:
            answer = http.request(
                "POST", url, body=sent, headers=headers, timeout=limit, redirect=False, preload_content=False
            )
            ends = time.monotonic() + timeout_s
            # A receiver that drips its answer would be read for ever: the limit is for each of its bytes.
            while time.monotonic() < ends and answer.read1(ANSWER_MAX):
                pass
            answer.close()
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        return Outcome(None, str(error))
    return Outcome(answer.status, None)
