"""How many webhooks a second one `billing serve` takes: `python -m bench.webhooks`.

Signed events are sent over some connections that stay open, each with one request in flight, to a real process with a
durable Postgres. An event counts when it was answered, which is after the commit of its row. Each round sends new
events; the numbers are the medians of the rounds. Sender, server and Postgres share this machine.
"""

import argparse
import hmac
import json
import re
import socket
import statistics
import sys
import threading
import time
from hashlib import sha256
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg

from bench import meter
from jobs.access import migrate
from jobs.local.servers import LocalServers
from jobs.local.supervisor import Child, wait_until

SECRET = "whsec_of_the_benchmark_alone"  # noqa: S105 - made up here
GOAL_PER_S = 500
ANSWERED = re.compile(rb"\r\n\r\n.*\n\Z", re.DOTALL)
"""Head and body of an answer: our bodies are one line."""


def event() -> bytes:
    """As large as Stripe's event about a payment intent: three kilobytes."""
    made = {
        "id": f"evt_{uuid4().hex}",
        "object": "event",
        "type": "payment_intent.succeeded",
        "api_version": "2026-08-27.basil",
        "livemode": False,
        "created": int(time.time()),
        "data": {"object": {"id": f"pi_{uuid4().hex}", "latest_charge": f"ch_{uuid4().hex}", "filling": "x" * 2500}},
        "request": {"id": "req_1", "idempotency_key": None},
    }
    return json.dumps(made).encode()


def request(host: str) -> bytes:
    body, stamp = event(), int(time.time())
    signature = hmac.new(SECRET.encode(), b"%d." % stamp + body, sha256).hexdigest()
    head = (
        f"POST /webhooks/stripe HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Stripe-Signature: t={stamp},v1={signature}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def send(address: tuple[str, int], requests: list[bytes], took_ms: list[float]) -> None:
    """One after the other on one connection. Raises AssertionError for an answer that is not 200."""
    with socket.create_connection(address, timeout=60) as connection:
        for each in requests:
            began = time.monotonic()
            connection.sendall(each)
            answer = b""
            while not ANSWERED.search(answer):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200"), answer
            took_ms.append((time.monotonic() - began) * 1000)


def round_of(address: tuple[str, int], served: Child, events: int, connections: int) -> dict[str, float]:
    requests = [request(address[0]) for _ in range(events)]
    took_ms: list[float] = []
    shares = [requests[number::connections] for number in range(connections)]
    threads = [threading.Thread(target=send, args=(address, share, took_ms)) for share in shares]
    cpu_before, began = meter.cpu_ms(served.pid), time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.monotonic() - began
    took_ms.sort()
    return {
        "per_s": len(took_ms) / took_s,
        "p50_ms": took_ms[len(took_ms) // 2],
        "p99_ms": took_ms[len(took_ms) * 99 // 100],
        "cpu_ms": (meter.cpu_ms(served.pid) - cpu_before) / len(took_ms),
    }


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.webhooks", description="Measure webhooks into the inbox.")
    options.add_argument("--events", type=int, default=3000, help="in each round")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--connections", type=int, default=32, help="each with one request in flight")
    options.add_argument("--json", action="store_true", help="the numbers for a program")
    chosen = options.parse_args()
    with LocalServers(durable=True) as servers:
        url = servers.environment["DATABASE_URL"]
        migrate.upgrade(url, environment="development", livemode=False)
        served = servers.spawn(
            "web",
            [sys.executable, "-m", "jobs.cli", "serve", "--port", "0"],
            {
                "BILLING_ENVIRONMENT": "development",
                "BILLING_WEBHOOK_SECRETS": "env:WEBHOOK_SECRETS",
                "WEBHOOK_SECRETS": SECRET,
                "BILLING_LOG_LEVEL": "warning",
                "BILLING_HEALTH_DIRECTORY": str(servers.directory / "health"),
            },
        )
        wait_until(lambda: "listening on" in served.output(), "billing serve listens")
        found = re.search(r"listening on (\S+)", served.output())
        assert found is not None
        place = urlsplit(found[1])
        address = (str(place.hostname), int(place.port or 0))
        round_of(address, served, min(300, chosen.events), chosen.connections)
        rounds = [round_of(address, served, chosen.events, chosen.connections) for _ in range(chosen.rounds)]
        with psycopg.connect(url) as connection:
            (stored,) = connection.execute("SELECT count(*) FROM billing.received_events").fetchone() or (0,)
        assert stored == min(300, chosen.events) + chosen.events * chosen.rounds, "every event that was answered"
    median = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    if chosen.json:
        print(json.dumps({"median": median, "rounds": rounds}, indent=2))
        return
    for number, each in enumerate(rounds, 1):
        print(f"round {number}: {each['per_s']:,.0f} events/s", file=sys.stderr)
    print(
        f"{median['per_s']:,.0f} events/s, answered in {median['p50_ms']:.0f} ms (half of them) and "
        f"{median['p99_ms']:.0f} ms (99 of 100), {median['cpu_ms']:.2f} ms of CPU of `billing serve` each; "
        f"goal {GOAL_PER_S}/s: {'reached' if median['per_s'] >= GOAL_PER_S else 'missed'}"
    )


if __name__ == "__main__":
    main()
