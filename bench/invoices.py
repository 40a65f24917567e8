"""Ten thousand invoices under faults, and how fast they are made: `python -m bench.invoices --count 10000`.

A relay and workers make invoices of 1 to 250 lines (`bench.invoice_mix`) on a durable Postgres, while the stand-in for
Stripe drops connections, saves errors, limits, and cuts answers off, and one worker after the other is killed. What met
a fault with every key that it may have is made by hand in the end, as docs/operate/in-doubt-grows.md says. Then each
invoice is compared with what was asked for, here and at Stripe: one invoice, each line once and in its order, and the
total. Nothing may be stuck or undecided.

Printed are invoices and lines a second, from the first request to the last end, and the CPU that an invoice costs each
process. All share this machine, and the stand-in costs more than Stripe would here.
"""

import argparse
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import islice
from typing import Any

import psycopg

from bench import invoice_mix
from bench.invoice_mix import Mixed
from bench.invoice_run import ASKED_AT_ONCE, FAULTS, INVOICES_OF_A_CUSTOMER, KEY, Roles, Run, Stripe
from billing.currencies import LEAST_CHARGE
from billing.database import open_engine
from billing.steps import METADATA_KEY
from billing.stripe_gateway import StripeGateway
from billing.timing import SHORT
from jobs.access import migrate
from jobs.local.servers import LocalServers, StandIn
from stripe_standin.control import Control

_OURS = """
SELECT id, state, reason, coalesce(reckoned_minor, total_minor), subtotal_minor, discount_minor, stripe_invoice, number,
    (SELECT count(*) FROM billing.facts f WHERE f.entity_id = i.id AND f.topic = 'invoice.' || i.state) AS told
FROM billing.invoices i
"""


def differences(asked: Mapping[str, Mixed], postgres: psycopg.Connection, stripe: Stripe) -> list[str]:
    """Everything by which what is here, or at Stripe, is not what was asked for, by the ids of our invoices. Each is
    read there."""
    found: list[str] = []
    created = {each["id"]: each["metadata"].get(METADATA_KEY) for each in stripe.effects("invoice.created")}
    kept = Counter(created.values())
    kept.subtract(created[each["id"]] for each in stripe.effects("invoice.deleted"))
    finalized: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for each in stripe.effects("invoice.finalized"):
        finalized[created[each["id"]]].append((each["id"], each["amount"]))
    sent = Counter(created[each["id"]] for each in stripe.effects("invoice.sent"))
    rows = postgres.execute(_OURS).fetchall()
    if {row[0] for row in rows} != asked.keys() or kept.keys() - asked.keys():
        found.append(f"{len(rows)} rows and {len(kept)} at Stripe, asked for {len(asked)}")
    for operation, state, reason, total, subtotal, discount, at_stripe, number, told in rows:
        mixed = asked[operation]
        # One that is smaller than a charge may be is paid, unless a debt of the customer is added to it.
        small = 0 < total < LEAST_CHARGE.get(mixed.arguments["currency"], 0)
        ends = "paid" if total == 0 or (small and state == "paid") else "sent"
        reckoned = (subtotal, discount) in ((None, None), (sum(mixed.amounts), mixed.discount))
        wrong = {
            "state": state != ends or told != 1 or number is None,
            "total": not (mixed.fits(total) and reckoned),
            "at Stripe": finalized[operation] != [(at_stripe, total)],
            "drafts": kept[operation] != 1,
            "sent": sent[operation] != (ends == "sent"),
        }
        asked_for = [(str(place), amount) for place, amount in enumerate(mixed.amounts)]
        wrong["lines"] = number is None or stripe.lines(at_stripe) != asked_for
        found += [
            f"{operation}: {name}: {state} ({reason}), {total} for {mixed.total}, at Stripe {finalized[operation]}"
            for name, differs in wrong.items()
            if differs
        ]
    return found


def run(count: int, seed: int, workers: int, kill_every_s: float) -> tuple[Run, dict[str, Any], list[str]]:
    rng = random.Random(seed)  # noqa: S311 - a choice that can be repeated
    # Its own log of requests is not read here, and would keep every body.
    StandIn.program = (*StandIn.program[:3], "--requests-kept", "1000", "--country", "AE")
    with LocalServers(durable=True) as servers:
        url, base = servers.environment["DATABASE_URL"], servers.environment["STRIPE_API_BASE"]
        migrate.upgrade(url, environment="development", livemode=False)
        stripe = Stripe(StripeGateway(lambda: KEY, base, livemode=False, connections=4), Control(base))
        catalog = invoice_mix.made(stripe.make)
        customer = {"name": "Test", "email": "test@example.com"}
        customers = [stripe.make("/v1/customers", customer) for _ in range(0, count, INVOICES_OF_A_CUSTOMER)]
        stripe.control.add_faults([{**fault, "seed": rng.randrange(2**31)} for fault in FAULTS])
        settings = {
            "BILLING_ENVIRONMENT": "development",
            "BILLING_STRIPE_KEY": KEY,
            "BILLING_TIMING": "short",
            "BILLING_STRIPE_RATE": "10000",
            "BILLING_LOG_LEVEL": "info",
            "BILLING_CONFIG": str(servers.directory / "billing.toml"),
            "BILLING_HEALTH_DIRECTORY": str(servers.directory / "health"),
            "BILLING_WORKERS_INVOICES": str(workers),
        }
        (servers.directory / "billing.toml").touch()
        with psycopg.connect(url, autocommit=True) as postgres:
            this = Run(open_engine(url, SHORT, name="application"), postgres, stripe, Roles(servers, settings), rng)
            this.roles.start("relay")
            for _ in range(workers):
                this.roles.start("worker", "invoices")
            for child in this.roles.children["worker"]:
                child.wait_for_output("worker.started", timeout_s=60)
            before = this.roles.cpu_ms()
            wishes = (
                (number, mixed, rng.choice(customers))
                for number, mixed in enumerate(invoice_mix.invoices(seed, count, catalog))
            )
            this.until_all_have_ended(iter(lambda: list(islice(wishes, ASKED_AT_ONCE)), []), kill_every_s)
            took_s, after = this.took_s(), this.roles.cpu_ms()
            stripe.control.clear_faults()
            this.make_by_hand()
            found = differences(this.asked, postgres, stripe)
            this.engine.dispose()
    lines = sum(len(each.amounts) for each in this.asked.values())
    cpu = {role: (after[role] - before.get(role, 0)) / count for role in after} | {
        "asking": 1000 * this.asking_s / count
    }
    measured = {
        "invoices": count,
        "lines": lines,
        "took_s": took_s,
        "invoices_per_s": count / took_s,
        "lines_per_s": lines / took_s,
        "cpu_ms_an_invoice": cpu,
        "killed": this.roles.killed,
        "by_hand": this.by_hand,
    }
    return this, measured, found


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.invoices", description="Make invoices under faults.")
    options.add_argument("--count", type=int, default=300, help="how many invoices")
    options.add_argument("--seed", type=int, default=20261130)
    options.add_argument("--workers", type=int, default=2, help="processes, each with 8 calls in flight")
    options.add_argument("--kill-every-s", type=float, default=15, help="about so often a worker is killed; 0: never")
    options.add_argument("--json", action="store_true", help="the numbers for a program")
    chosen = options.parse_args()
    print(f"seed {chosen.seed}", file=sys.stderr, flush=True)
    _, measured, found = run(chosen.count, chosen.seed, chosen.workers, chosen.kill_every_s)
    if chosen.json:
        print(json.dumps({**measured, "differences": found}, indent=2))
    else:
        print(shown(chosen.seed, measured))
    if found:
        sys.exit("\n".join([f"bench.invoices: {len(found)} differences", *found[:20]]))
    print("no duplicate invoice or line, every total as asked, nothing stuck or undecided", file=sys.stderr)


def shown(seed: int, measured: Mapping[str, Any]) -> str:
    cpu = measured["cpu_ms_an_invoice"]
    ours = sum(ms for role, ms in cpu.items() if role != "stand-in")
    by_role = ", ".join(f"{role} {ms:.1f}" for role, ms in sorted(cpu.items()))
    return "\n".join(
        [
            f"seed {seed}: {measured['invoices']:,} invoices with {measured['lines']:,} lines in "
            f"{measured['took_s']:.0f} s: {measured['invoices_per_s']:.1f} invoices and "
            f"{measured['lines_per_s']:,.0f} lines a second",
            f"CPU of an invoice: {ours:.1f} ms ours, {cpu['stand-in']:.1f} ms the stand-in's ({by_role})",
            f"{measured['killed']} workers were killed; {measured['by_hand']} calls met a fault with every key, and "
            "were made by hand",
        ]
    )


if __name__ == "__main__":
    main()
