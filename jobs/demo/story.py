"""The demonstration from its first line to its last: six acts on real servers, and a count of what happened.

`run` leaves nothing behind but a picture, a document and a page.
"""

import os
import time
from contextlib import closing
from dataclasses import dataclass

from billing import database
from jobs.demo import evidence, invoicing, outcome, troubles, webhooks
from jobs.demo.moves import Moves
from jobs.demo.outcome import Outcome
from jobs.demo.shopping import Shop
from jobs.demo.stage import PrintEvent, Stage, Watch
from jobs.local.stack import Stack
from jobs.process.patience import patiently


@dataclass(frozen=True, slots=True)
class Plan:
    captures: int
    invoices: int
    seed: int
    cheat: bool = False
    """Take money behind the service's back, to see that the count finds it."""


def run(plan: Plan, print_event: PrintEvent, watch: Watch) -> Outcome:
    """The whole story. Raises LocalServerError when a server or a process of the service does not run, or a command is
    not done."""
    began = time.monotonic()
    print_event("starting Postgres, Valkey, S3 and a stand-in for Stripe")
    # Always our own stand-in, because it makes the faults and the second count. And never a real Stripe.
    given = {name: value for name, value in os.environ.items() if name != "STRIPE_API_BASE"}
    # On a busy machine, what gives way to others waits for minutes; here only the document of the fifth act does.
    more = {"BILLING_CREW_CAPTURES": "16", "BILLING_METRICS_PORT": "0", "BILLING_FUNCTION_NICENESS": "0"}
    with Stack(given=given, more=more, fork=True) as stack:
        print_event("starting a relay, workers, an archiver, and `billing serve` for webhooks")
        stack.start_processes(events=webhooks.EVENTS)
        with closing(stack.runtime("demo")) as runtime:
            return _play(plan, Stage(stack, runtime, print_event, watch), began)


def _play(plan: Plan, stage: Stage, began: float) -> Outcome:
    since = patiently(stage.runtime, database.now)
    shop = Shop(stage.runtime.gateway(connections=1), stage.standin, plan.seed, stage.shop_tag)
    moves = Moves(stage, shop)
    moves.play()
    invoice = invoicing.play(stage, shop)
    troubles.play(stage, shop, plan.captures, plan.invoices)
    webhooks.play(stage, moves)
    final_at = time.monotonic()
    if stage.stack.archives:
        evidence.audit(stage, invoice)
        # A database of your own may know requests of an earlier run, whose stand-in is gone.
        older = ("--since", since.isoformat()) if os.environ.get("DATABASE_URL") else ()
        evidence.compare(stage, final_at, *older)
    else:
        stage.say("the database is yours (DATABASE_URL) and no S3 is (S3_ENDPOINT_URL), so nothing is archived")
    if plan.cheat:
        stage.say(f"cheating: {shop.capture_without_the_service()} is captured without the service")
    return outcome.count(stage, shop, plan.seed, since, began)
