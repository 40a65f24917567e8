"""The provider of the benchmark: answers a capture after a fixed delay, at a fraction of a CPU-millisecond.

It supports only what the clients need of HTTP/1.1: kept connections, bodies with a length. `POST /bench/reset?300`
empties its memory and sets the delay in milliseconds; `GET /bench/scores` shows what it has seen since.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl


@dataclass(slots=True)
class Scores:
    delay_s: float = 0.3
    arrived: int = 0
    answered: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    """When the first and the last request came, by the wall clock, which Postgres uses, too."""
    keys: set[str] = field(default_factory=set)
    repeated_at: list[float] = field(default_factory=list)
    """When a request came whose key had come before."""

    def summary(self) -> bytes:
        seen = {"arrived": self.arrived, "answered": self.answered, "first_at": self.first_at}
        return json.dumps({**seen, "last_at": self.last_at, "repeated_at": self.repeated_at}).encode()


class Connection(asyncio.Protocol):
    """One client. It sends its next request after the answer to the last, as all clients here do."""

    scores = Scores()

    def connection_made(self, transport: Any) -> None:
        self._transport, self._buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        request, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) >= length:
            self._buffer = rest[length:]
            self._take(request.split(" ")[1], headers, rest[:length].decode())

    def _take(self, path: str, headers: dict[str, str], body: str) -> None:
        if path.startswith("/bench/"):
            if path.startswith("/bench/reset"):
                Connection.scores = Scores(delay_s=float(path.partition("?")[2]) / 1000)
            self._send(Connection.scores.summary())
            return
        if not path.endswith("/capture"):
            self._send(b'{"id": "acct_bench", "object": "account", "livemode": false}', "Request-Id: req_bench\r\n")
            return
        scores, now, key = Connection.scores, time.time(), headers["idempotency-key"]
        scores.arrived += 1
        scores.first_at, scores.last_at = scores.first_at or now, now
        replayed = key in scores.keys
        if replayed:
            scores.repeated_at.append(now)
        scores.keys.add(key)
        answer = _captured(path.split("/")[3], dict(parse_qsl(body)))
        asyncio.get_running_loop().call_later(scores.delay_s, self._answer, scores, answer, replayed)

    def _answer(self, scores: Scores, answer: bytes, replayed: bool) -> None:
        scores.answered += 1
        replay = "Idempotent-Replayed: true\r\n" if replayed else ""
        self._send(answer, f"Request-Id: req_bench{scores.answered:08}\r\n{replay}")

    def _send(self, body: bytes, headers: str = "") -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


def _captured(intent: str, asked: dict[str, str]) -> bytes:
    """A succeeded payment intent, about as long as Stripe's."""
    owner = asked.get("metadata[billing_operation]", "")
    return (
        _INTENT.replace(b"%INTENT%", intent.encode())
        .replace(b"%OWNER%", owner.encode())
        .replace(b'"%AMOUNT%"', asked["amount_to_capture"].encode())
    )


_INTENT = json.dumps(
    {
        "id": "%INTENT%",
        "object": "payment_intent",
        "amount": "%AMOUNT%",
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": "%AMOUNT%",
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "manual",
        "client_secret": None,
        "confirmation_method": "automatic",
        "created": 1790000000,
        "currency": "usd",
        "customer": None,
        "description": None,
        "last_payment_error": None,
        "latest_charge": "ch_%INTENT%",
        "livemode": False,
        "metadata": {"billing_operation": "%OWNER%"},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": "pm_1TaBcDeFgHiJkLmNoPqRsTuV",
        "payment_method_configuration_details": None,
        "payment_method_options": {
            "card": {
                "installments": None,
                "mandate_options": None,
                "network": None,
                "request_three_d_secure": "automatic",
            }
        },
        "payment_method_types": ["card"],
        "processing": None,
        "receipt_email": None,
        "review": None,
        "setup_future_usage": None,
        "shipping": None,
        "source": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "succeeded",
        "transfer_data": None,
        "transfer_group": None,
    },
    indent=2,
).encode()


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=1024)
    print(f"listening on {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
