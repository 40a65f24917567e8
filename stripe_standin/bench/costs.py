"""What the Stripe stand-in costs: `make bench-standin`, half a minute.

The SDK's own requests are recorded once, byte for byte, and replayed by a load tool with other ids and keys over kept
connections: first every authorization (create and confirm), then its capture, each with an idempotency key. For
comparison, the same captures go to `responder`, which only answers: the price of an HTTP server in Python.
"""

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import asdict, dataclass, field
from statistics import median

import stripe

from bench import meter
from bench.goals import Goal

CONNECTIONS = 16
INTENT, KEY = "pi_000000000000000000000000", "bench:key:00000000"


@dataclass(slots=True)
class Round:
    """CPU-milliseconds of the server per request, requests per second, and kilobytes of memory per captured intent."""

    create_ms: float
    capture_ms: float
    responder_ms: float
    captures_per_s: float
    kilobytes: float


@dataclass(slots=True)
class Findings:
    started_s: list[float] = field(default_factory=list)
    base_mb: list[float] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)

    def goals(self) -> list[Goal]:
        def middle(name: str) -> float:
            return median(getattr(each, name) for each in self.rounds)

        return [
            Goal("CPU per capture", 0.6, 0.2, middle("capture_ms"), " ms"),
            Goal("CPU per create with confirm", 0.6, 0.2, middle("create_ms"), " ms"),
            Goal(
                "CPU per capture: stand-in / a responder that only answers",
                10,
                3,
                median(each.capture_ms / each.responder_ms for each in self.rounds),
                " ×",
            ),
            Goal("from the command to the first answer", 0.5, 0.3, median(self.started_s), " s"),
            Goal("memory at the start", 40, 32, median(self.base_mb), " MB"),
            Goal("memory per captured intent, with its events and saved answers", 25, 15, middle("kilobytes"), " kB"),
        ]


def main() -> None:
    options = argparse.ArgumentParser(prog="make bench-standin", description="Measure what the Stripe stand-in costs.")
    options.add_argument("--tiny", action="store_true", help="a few captures: whether it runs at all")
    options.add_argument("--json", action="store_true", help="the numbers on standard output instead of the table")
    chosen = options.parse_args()
    found = measure(*((1, 300) if chosen.tiny else ()))
    print(json.dumps(numbers(found), indent=2) if chosen.json else page(found))


def measure(rounds: int = 3, intents: int = 10_000) -> Findings:
    found = Findings()
    create, capture = _recorded()
    for _ in range(rounds):
        began = time.perf_counter()
        with _server("stripe_standin") as (process, port):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_standin/health", timeout=10) as answer:
                answer.read()
            found.started_s.append(time.perf_counter() - began)
            found.base_mb.append(meter.memory_mb(process))
            requests = [create.replace(KEY.encode(), b"bench:mk:%09d" % n) for n in range(intents)]
            created, _, bodies = asyncio.run(_load(process, port, requests))
            made = [json.loads(body)["id"].encode() for body in bodies]
            captures = [
                capture.replace(INTENT.encode(), one).replace(KEY.encode(), b"bench:cp:%09d" % n)
                for n, one in enumerate(made)
            ]
            captured, per_s, bodies = asyncio.run(_load(process, port, captures))
            assert all(b'"status":"succeeded"' in body for body in bodies), "a capture did not succeed"
            kilobytes = (meter.memory_mb(process) - found.base_mb[-1]) * 1024 / intents
        with _server("bench.responder", "0") as (process, port):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/bench/reset?0", b"", timeout=10) as answer:
                answer.read()
            bare, _, _ = asyncio.run(_load(process, port, captures))
        found.rounds.append(Round(created, captured, bare, per_s, kilobytes))
    return found


def page(found: Findings) -> str:
    rows = "\n".join(goal.row() for goal in found.goals())
    per_s = median(each.captures_per_s for each in found.rounds)
    return f"""| the stand-in | must | stretch | measured | reached |
|---|---|---|---|---|
{rows}

Medians of {len(found.rounds)} round(s); {per_s:,.0f} captures a second over {CONNECTIONS} connections, the load tool
being on the same machine.
"""


def numbers(found: Findings) -> dict[str, object]:
    return {**asdict(found), "goals": [{**asdict(goal), "verdict": goal.verdict} for goal in found.goals()]}


def _recorded() -> tuple[bytes, bytes]:
    """The SDK's create and capture requests, as it sends them."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_answer_two, args=(listener, received), daemon=True).start()
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        client = stripe.StripeClient("sk_test_bench", base_addresses={"api": f"http://{host}"}, max_network_retries=0)
        metadata = {"billing_operation": "cap_0192f0c1d2e3f4a5b6c7d8e9f0a1b2c3"}
        client.v1.payment_intents.create(
            {
                "amount": 1999,
                "currency": "usd",
                "capture_method": "manual",
                "payment_method": "pm_card_visa",
                "confirm": True,
                "metadata": metadata,
            },
            {"idempotency_key": KEY},
        )
        client.v1.payment_intents.capture(
            INTENT, {"amount_to_capture": 1999, "metadata": metadata}, {"idempotency_key": KEY}
        )
    create, capture = received
    return create, capture


def _answer_two(listener: socket.socket, received: list[bytes]) -> None:
    connection, _ = listener.accept()
    with connection:
        for _ in range(2):
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += connection.recv(1)
            length = int(request.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            body = b""
            while len(body) < length:
                body += connection.recv(length - len(body))
            received.append(request + body)
            answer = b'{"id": "pi_x", "object": "payment_intent"}'
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))


class _server:  # noqa: N801 - used as a function
    """A server module in a process of its own that prints its address; yields its pid and port."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._command = [sys.executable, "-m", module, *arguments]

    def __enter__(self) -> tuple[int, int]:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return self._process.pid, int(line.split()[-1].rpartition(":")[2])

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=20)


async def _load(pid: int, port: int, requests: list[bytes]) -> tuple[float, float, list[bytes]]:
    """Send them all; CPU-milliseconds per request at the server, requests per second, and the bodies in order."""
    bodies: list[bytes] = [b""] * len(requests)
    waiting = iter(enumerate(requests))

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for n, request in waiting:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            bodies[n] = await reader.readexactly(length)
            assert head.startswith(b"HTTP/1.1 200"), bodies[n]
        writer.close()

    cpu, began = meter.cpu_ms_exactly(pid), time.perf_counter()
    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    took = time.perf_counter() - began
    return (meter.cpu_ms_exactly(pid) - cpu) / len(requests), len(requests) / took, bodies


if __name__ == "__main__":
    main()
