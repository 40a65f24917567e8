"""How well four workers keep to the limit of an account: `make bench-limits`.

A stand-in enforces 50 requests a second with Stripe's kind of bucket. Four worker processes take a backlog of captures
for some seconds, once with each of these settings:

    set right     BILLING_STRIPE_RATE is what Stripe allows
    set too high  it is twice that, so the workers must find the limit by themselves
    off           each worker calls as fast as it can: the control

Counted from the stand-in's own request log, second by second: the share of 429 answers, and what was carried out, as a
part of what the limit allows. The first seconds are left out: the stand-in's bucket is full then, and a rate that is
too high has to be found.
"""

import argparse
import json
import os
import sys
import time
from uuid import uuid4

from sqlalchemy import text

import billing
from billing.database import open_engine, transaction
from billing.timing import PRODUCTION
from jobs.access import migrate
from jobs.local.servers import LocalServers, StandIn
from jobs.rq import bells
from stripe_standin.control import Control

ALLOWED = 50
WORKERS = 4
WARM_S = 3
REFUSED_MOST, DONE_LEAST = 0.02, 0.9
LEARNING = ("set right", "set too high")
"""The settings for which the goal must be reached; `off` is the control."""

# A worker that goes as fast as it can, and takes no notice of a 429.
OFF = """
from jobs.limits.pace import Unlimited
from jobs.process.service import ServiceProcess
class Off(Unlimited):
    def learn(self, account, *, throttled=None, **shown):
        super().learn(account, **shown)
ServiceProcess.pace = lambda self, queue, redis: Off(self.timing.probe_s)
from jobs.cli import main
main()
"""
SETTINGS = {"set right": ALLOWED, "set too high": 2 * ALLOWED, "off": None}
LIMITED = (sys.executable, "-m", "stripe_standin", "--rate-limit", str(ALLOWED), "--requests-kept", "100000")


def run(servers: LocalServers, name: str, rate: int | None, seconds: int) -> dict[str, float]:
    control = Control(servers.environment["STRIPE_API_BASE"])
    control.reset()
    url = servers.environment["DATABASE_URL"]
    engine = open_engine(url, PRODUCTION, name="application")
    # With its mark of a fact, a database that was emptied would be found to be restored.
    with bells.open_redis(servers.environment["REDIS_URL"]) as redis:
        redis.flushall()
    intents = control.authorizations(count=round(ALLOWED * (seconds + 20)))
    with transaction(engine) as session:
        session.execute(text("TRUNCATE billing.work, billing.idempotency_records, billing.facts, billing.captures"))
        for intent in intents:
            billing.request_capture(
                session,
                payment_intent=intent,
                amount=billing.Money(1999, "USD"),
                request_id=f"order-{uuid4().hex}",
                authorization=billing.Authorization(1999, "USD", None),
            )
    settings = {
        "BILLING_ENVIRONMENT": "development",
        "BILLING_STRIPE_KEY": "sk_test_limits",
        "BILLING_LOG_LEVEL": "warning",
        "BILLING_CONFIG": os.devnull,
        "BILLING_HEALTH_DIRECTORY": str(servers.directory / "health"),
        "BILLING_CREW_CAPTURES": "16",
        "BILLING_WORKERS_CAPTURES": str(WORKERS),
        "BILLING_STRIPE_RATE": str(rate or ALLOWED),
    }
    program = ["-c", OFF] if rate is None else ["-m", "jobs.cli"]
    children = [servers.spawn(f"relay-{name}", [sys.executable, "-m", "jobs.cli", "relay"], settings)]
    children += [
        servers.spawn(f"worker-{name}-{number}", [sys.executable, *program, "worker", "captures"], settings)
        for number in range(WORKERS)
    ]
    while not any(request["path"].endswith("/capture") for request in control.requests()):
        time.sleep(0.2)
    time.sleep(WARM_S + seconds + 1)
    requests = [request for request in control.requests() if request["path"].endswith("/capture")]
    for child in children:
        child.terminate()
    for child in children:
        child.wait(60)
    engine.dispose()
    began = int(requests[0]["time"]) + WARM_S
    counted = [request for request in requests if began <= request["time"] < began + seconds]
    refused = sum(request["status"] == 429 for request in counted)
    done = sum(request["status"] == 200 for request in counted)
    return {"refused": refused / len(counted), "done": done / (ALLOWED * seconds), "requests": len(counted)}


def main() -> None:
    options = argparse.ArgumentParser(prog="make bench-limits", description="Measure how well workers keep to a limit.")
    options.add_argument("--seconds", type=int, default=30, help="how long each setting is measured")
    options.add_argument("--json", action="store_true", help="the numbers for a program")
    chosen = options.parse_args()
    found: dict[str, dict[str, float]] = {}
    StandIn.program = LIMITED
    with LocalServers() as servers:
        migrate.upgrade(servers.environment["DATABASE_URL"], environment="development", livemode=False)
        for name, rate in SETTINGS.items():
            found[name] = run(servers, name.replace(" ", "-"), rate, chosen.seconds)
            print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    if chosen.json:
        print(json.dumps(found, indent=2))
        return
    print("| limit | answers 429 | carried out, of what is allowed |\n|---|---|---|")
    for name, each in found.items():
        print(f"| {name} | {each['refused']:.1%} | {each['done']:.0%} |")
    reached = all(found[name]["refused"] < REFUSED_MOST and found[name]["done"] > DONE_LEAST for name in LEARNING)
    goal = f"under {REFUSED_MOST:.0%} answers 429 and over {DONE_LEAST:.0%} carried out"
    print(f"\nGoal: {goal}, for {' and '.join(LEARNING)}: {'reached' if reached else 'missed'}.")


if __name__ == "__main__":
    main()
