"""`make capacity`: how the lag of captures grows with the load, with a healthy, a slow and a failing provider.

One relay and one worker with its usual crew run against the stand-in. Captures are asked for at a fixed rate, whether
the service keeps up or not; what counts is how long each waits for its first call. Before the next rate, what still
waits is worked off with a provider that answers at once.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine

import billing
from bench.curve import Limit, svg
from billing import database
from jobs.config.queues import QUEUES
from jobs.local.stack import Stack
from jobs.local.supervisor import LocalServerError, wait_until
from stripe_standin.control import Control

Json = dict[str, Any]

QUEUE = next(queue for queue in QUEUES if queue.name == "captures")
CALL_S = 0.3
"""How long a capture takes at the healthy provider, as in `make bench`."""
TICK_S = 0.05


def _slow(seconds: float) -> Json:
    return {"fault": "latency", "seconds": seconds, "path": "/capture$"}


PROVIDERS: dict[str, tuple[Json, ...]] = {
    f"healthy: {CALL_S:g} s": (_slow(CALL_S),),
    f"five times slower: {5 * CALL_S:g} s": (_slow(5 * CALL_S),),
    "30 % answer 500": ({"fault": "500_no_effect", "path": "/capture$", "probability": 0.3, "seed": 1}, _slow(CALL_S)),
}
"""What the stand-in does to captures. Of its rules, the first that matches acts."""


@dataclass(frozen=True, slots=True)
class Plan:
    rates: tuple[int, ...]
    """Captures that are asked for in a second."""
    step_s: float


FULL = Plan((10, 20, 40, 80, 120), 12)
TINY = Plan((5, 20), 1)
"""For the test that runs this program; its numbers mean nothing."""


@dataclass(frozen=True, slots=True)
class Step:
    """One provider at one rate. Of what still waits at its end, the lag is what it has been until then. A busy machine
    asks for fewer in a second than planned."""

    provider: str
    asked_per_s: float
    captured_per_s: float
    lag_p50_s: float
    lag_p99_s: float
    waiting: int


@dataclass(slots=True)
class Field:
    """What the steps stand on."""

    application: Engine
    postgres: psycopg.Connection
    standin: Control
    asked: int = 0

    def step(self, provider: str, rate: int, step_s: float) -> Step:
        count = max(1, round(rate * step_s))
        intents = self.standin.authorizations(count=count, amount=1999, currency="usd")
        self.standin.add_faults(PROVIDERS[provider])
        first, began = self.asked, time.monotonic()
        while self.asked - first < count:
            due = min(count, int((time.monotonic() - began) * rate) + 1) - (self.asked - first)
            self._ask([_id_of(each) for each in intents[self.asked - first :][:due]])
            time.sleep(TICK_S)
        took_s = time.monotonic() - began
        found = self._one(_STEP, [f"capacity-{number}" for number in range(first, self.asked)])
        self.standin.clear_faults()
        wait_until(lambda: self._one(UNSTARTED)[0] == 0, "what still waits to be started", 120)
        return Step(provider, count / took_s, found[0] / took_s, found[1], found[2], found[3])

    def _ask(self, intents: Sequence[str]) -> None:
        with database.transaction(self.application) as session:
            for intent in intents:
                billing.request_capture(
                    session,
                    payment_intent=intent,
                    amount=billing.Money(1999, "USD"),
                    request_id=f"capacity-{self.asked}",
                    authorization=billing.Authorization(1999, "USD", None),
                )
                self.asked += 1

    def _one(self, statement: str, *values: object) -> tuple[Any, ...]:
        row = self.postgres.execute(statement, values).fetchone()
        assert row is not None
        return row


def _id_of(intent: str | Json) -> str:
    return intent if isinstance(intent, str) else str(intent["id"])


_STEP = """
    SELECT count(*) FILTER (WHERE state = 'captured'),
           percentile_disc(0.5) WITHIN GROUP (ORDER BY lag_s)::float8,
           percentile_disc(0.99) WITHIN GROUP (ORDER BY lag_s)::float8,
           count(*) FILTER (WHERE started_at IS NULL)
      FROM (SELECT c.state, r.created_at AS started_at,
                   extract(epoch FROM coalesce(r.created_at, clock_timestamp()) - c.requested_at) AS lag_s
              FROM billing.captures AS c
              LEFT JOIN billing.idempotency_records AS r ON r.operation_id = c.id AND r.generation = 1
             WHERE c.request_id = ANY (%s)) AS asked
    """
UNSTARTED = f"""
    SELECT (SELECT count(*) FROM billing.work WHERE queue = '{QUEUE.name}' AND state = 'ready' AND record_id IS NULL)
         + (SELECT count(*) FROM billing.facts WHERE topic = 'capture.requested' AND planned_version IS NULL)
    """


@contextmanager
def field() -> Iterator[Field]:
    """Start the servers, a relay and a worker; remove everything at the end."""
    with Stack(given={}, more={"BILLING_TIMING": "production", "BILLING_LOG_LEVEL": "warning"}) as stack:
        stack.spawn("relay")
        stack.spawn("worker", "captures")
        application = stack.runtime("application", "application").engine
        with psycopg.connect(stack.servers.environment["DATABASE_URL"], autocommit=True) as postgres:
            at = Field(application, postgres, Control(stack.servers.environment["STRIPE_API_BASE"]))
            # The first captures would wait for the processes to start.
            at.standin.reset()
            at._ask([_id_of(each) for each in at.standin.authorizations(count=QUEUE.crew, amount=1999, currency="usd")])
            wait_until(lambda: at._one(UNSTARTED)[0] == 0, "the processes to start", 300)
            yield at
        application.dispose()


def measure(plan: Plan, progress: Callable[[str], object]) -> list[Step]:
    with field() as at:
        steps = []
        for provider in PROVIDERS:
            for rate in plan.rates:
                step = at.step(provider, rate, plan.step_s)
                progress(f"{provider}, {rate}/s: lag p50 {step.lag_p50_s:.2f} s, p99 {step.lag_p99_s:.2f} s")
                steps.append(step)
    return steps


def page(steps: Sequence[Step], plan: Plan, on: str) -> str:
    """docs/capacity.md."""
    lines = [
        "# How the lag grows with the load",
        "",
        "Written by `make capacity`, which measures it again: one relay and one worker with a crew of "
        f"{QUEUE.crew}, against the stand-in.",
        f"Captures are asked for at a fixed rate for {plan.step_s:g} s, whether the service keeps up or not. The lag is"
        " the time from a request to its",
        "first call; of what still waits at the end, what it has been until then. What happens beyond the SLO:",
        "[operate/backpressure.md](operate/backpressure.md).",
        "",
        "A worker can make at most as many calls in a second as its crew has threads, divided by the time of one call: "
        f"{QUEUE.crew / CALL_S:.0f} with the",
        f"healthy provider, and {QUEUE.crew / CALL_S / 5:.0f} with the slow one. Beyond what it reaches, the lag grows"
        " for as long as more is asked for. More workers",
        "move each curve to the right, up to the limit of the machine or the provider.",
        "",
        "![lag against load](capacity.svg)",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {on}.",
        "",
        "| provider | asked per second | captured per second | lag p50 | lag p99 | still waiting at the end |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {step.provider} | {step.asked_per_s:.0f} | {step.captured_per_s:.0f} | {step.lag_p50_s:.2f} s | "
        f"{step.lag_p99_s:.2f} s | {step.waiting} |"
        for step in steps
    ]
    return "\n".join(lines) + "\n"


def plot(steps: Sequence[Step], plan: Plan) -> str:
    """docs/capacity.svg."""
    series = {
        provider: [(step.asked_per_s, step.lag_p99_s) for step in steps if step.provider == provider]
        for provider in PROVIDERS
    }
    limit = Limit(QUEUE.start_within_s, f"SLO: {QUEUE.start_within_s:g} s")
    return svg("Lag of captures, p99", "captures asked for per second", "seconds", series, plan.rates, limit)


def main() -> None:
    options = argparse.ArgumentParser(prog="make capacity", description="Measure how the lag grows with the load.")
    options.add_argument("--tiny", action="store_true", help="a few captures: whether it runs at all")
    options.add_argument("--into", metavar="DIRECTORY", type=Path, help="where to write capacity.md and capacity.svg")
    options.add_argument("--json", action="store_true", help="the numbers on standard output instead of the page")
    chosen = options.parse_args()
    plan = TINY if chosen.tiny else FULL
    try:
        steps = measure(plan, lambda line: print(line, file=sys.stderr, flush=True))
    except LocalServerError as error:
        sys.exit(str(error))
    shown = page(steps, plan, f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end")
    print(json.dumps([asdict(step) for step in steps], indent=2) if chosen.json else shown)
    into = chosen.into or (None if chosen.tiny else Path("docs"))
    if into:
        (into / "capacity.md").write_text(shown, encoding="utf-8")
        (into / "capacity.svg").write_text(plot(steps, plan), encoding="utf-8")


if __name__ == "__main__":
    main()
