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
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import uuid4

import psycopg
from sqlalchemy import Engine

import billing
from bench import invoice_mix, meter
from bench.invoice_mix import Mixed
from billing.database import open_engine, transaction
from billing.gateway import Answer, Budget, Request, Response, boot_clock, encode
from billing.steps import METADATA_KEY, Reader
from billing.stripe_gateway import StripeGateway
from billing.timing import SHORT
from jobs.access import migrate
from jobs.local.servers import LocalServers, StandIn
from jobs.local.supervisor import Child, LocalServerError, wait_until
from stripe_standin.control import Control

FAULTS = (
    {"fault": "drop_before", "method": "POST", "probability": 0.01},
    {"fault": "drop_after_commit", "method": "POST", "probability": 0.01},
    {"fault": "500_saved", "method": "POST", "probability": 0.01},
    {"fault": "500_with_effect", "method": "POST", "probability": 0.005},
    {"fault": "429_rate", "probability": 0.01},
    {"fault": "429_lock_saved", "method": "POST", "probability": 0.005},
    {"fault": "truncate_body", "probability": 0.01},
    {"fault": "502_html", "probability": 0.005},
)
INVOICES_OF_A_CUSTOMER = 20
"""A look for a draft reads the list of its customer's invoices."""
ASKED_AT_ONCE = 20
LOOK_EVERY_S = 1.0
STANDS_STILL_S = 120
"""So long may no invoice come to its end, before that counts as stuck."""
KEY = "sk_test_invoices"
Wish = tuple[int, Mixed, str]
"""Its number, what is wanted, and by which customer."""

_ENDED = "SELECT count(*) FROM billing.invoices WHERE state IN ('sent', 'paid', 'refused')"
_TOOK = "SELECT extract(epoch FROM max(state_since) - min(requested_at))::float8 FROM billing.invoices"
_OUT_OF_KEYS = """
SELECT id, method, path, body FROM billing.idempotency_records
WHERE concluded_at IS NULL AND parked_at IS NOT NULL AND look_only AND learned = 'absent'
"""
"""Calls of which nothing happened under any of their keys: a person does them."""
_LEFT = """
SELECT w.state, r.step, r.state, r.learned, w.reason, count(*)
FROM billing.work w LEFT JOIN billing.idempotency_records r ON r.work_id = w.id AND r.concluded_at IS NULL
WHERE w.state <> 'done' OR r.id IS NOT NULL GROUP BY 1, 2, 3, 4, 5
"""
_OURS = """
SELECT id, state, reason, coalesce(reckoned_minor, total_minor), subtotal_minor, discount_minor, stripe_invoice, number,
    (SELECT count(*) FROM billing.facts f WHERE f.entity_id = i.id AND f.topic = 'invoice.' || i.state) AS told
FROM billing.invoices i
"""


@dataclass(slots=True)
class Roles:
    """The processes of the service. A killed one is started again, and its CPU stays counted."""

    servers: LocalServers
    settings: Mapping[str, str]
    children: dict[str, list[Child]] = field(default_factory=lambda: defaultdict(list))
    ended_ms: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    killed: int = 0

    def start(self, role: str, *command: str) -> None:
        program = [sys.executable, "-m", "jobs.cli", role, *command]
        self.children[role].append(self.servers.spawn(f"{role}-{uuid4().hex[:6]}", program, self.settings))

    def kill_a_worker(self, rng: random.Random) -> None:
        child = rng.choice(self.children["worker"])
        self.ended_ms["worker"] += meter.cpu_ms(child.pid)
        child.kill()
        self.children["worker"].remove(child)
        self.killed += 1
        self.start("worker", "invoices")

    def cpu_ms(self) -> dict[str, float]:
        servers = {"postgres": self.servers.postgres, "redis": self.servers.valkey, "stand-in": self.servers.standin}
        ours = {
            role: self.ended_ms[role] + sum(meter.cpu_ms(child.pid) for child in children)
            for role, children in self.children.items()
        }
        return ours | {name: meter.cpu_ms(server.child.pid) for name, server in servers.items()}


@dataclass(slots=True)
class Stripe:
    """The stand-in, asked without the service."""

    gateway: StripeGateway
    control: Control

    def send(self, method: str, path: str, body: str = "") -> Answer:
        key = f"by-hand-{uuid4()}" if method == "POST" else None
        return self.gateway.send(Request(method, path, body, key=key), Budget(boot_clock() + 10, boot_clock() + 30))

    def make(self, path: str, parameters: Mapping[str, Any]) -> str:
        answer = self.send("POST", path, encode(parameters))
        assert isinstance(answer, Response), answer
        assert answer.status == 200, answer
        return str((answer.data or {}).get("id"))

    def lines(self, invoice: str) -> list[tuple[str | None, int]]:
        """In their order there: our positions, and their amounts."""
        lines = Reader(lambda path: self.send("GET", path)).pages(f"/v1/invoices/{invoice}/lines", {})
        return [(line["metadata"].get("billing_line"), line["amount"]) for line in lines]

    def effects(self, kind: str) -> list[dict[str, Any]]:
        return self.control.effects(kind)


@dataclass(slots=True)
class Run:
    """One run: what was asked for by invoice, and what it took."""

    engine: Engine
    postgres: psycopg.Connection
    stripe: Stripe
    roles: Roles
    rng: random.Random
    asked: dict[str, Mixed] = field(default_factory=dict)
    asking_s: float = 0.0
    by_hand: int = 0

    def ask(self, batch: list[Wish]) -> None:
        began = time.process_time()
        with transaction(self.engine) as session:
            for number, mixed, customer in batch:
                receipt = billing.issue_invoice(
                    session, customer=customer, request_id=f"invoice-{number}", **mixed.arguments
                )
                # What was asked for is kept here as amounts alone.
                mixed.arguments = {"currency": mixed.arguments["currency"]}
                self.asked[receipt.invoice_id] = mixed
        self.asking_s += time.process_time() - began

    def until_all_have_ended(self, batches: Iterator[list[Wish]], kill_every_s: float) -> None:
        """Ask for them, batch by batch, and wait; not for those that met a fault with every key. Raises LocalServerError
        if nothing goes on."""
        last, moved_at, look_at, kill_at = -1, time.monotonic(), 0.0, time.monotonic() + kill_every_s
        asking = True
        while True:
            if batch := next(batches, None):
                self.ask(batch)
            else:
                asking = False
                time.sleep(LOOK_EVERY_S)
            now = time.monotonic()
            if kill_every_s and now > kill_at:
                self.roles.kill_a_worker(self.rng)
                kill_at = now + kill_every_s * self.rng.uniform(0.5, 1.5)
            if now < look_at:
                continue
            look_at = now + LOOK_EVERY_S
            (ended,) = self._one(_ENDED)
            if not asking and ended + len(self.postgres.execute(_OUT_OF_KEYS).fetchall()) >= len(self.asked):
                return
            if ended != last:
                last, moved_at = ended, now
                print(f"{ended:,} of {len(self.asked):,}", file=sys.stderr, flush=True)
            if now > moved_at + STANDS_STILL_S:
                raise LocalServerError(f"{ended} of {len(self.asked)} have ended; {self.left()}")

    def make_by_hand(self) -> None:
        """What is left, with no fault at work: the webhook of that, or here the next look, ends each."""
        settled = set[str]()

        def over() -> bool:
            for record, method, path, body in self.postgres.execute(_OUT_OF_KEYS).fetchall():
                if record not in settled:
                    self.stripe.send(method, path, body)
                    settled.add(record)
            return not self.left()

        wait_until(over, "what was made by hand is found", STANDS_STILL_S)
        self.by_hand = len(settled)

    def left(self) -> list[tuple[Any, ...]]:
        """Work that is not done and calls that are not concluded, with how many there are of each."""
        return self.postgres.execute(_LEFT).fetchall()

    def took_s(self) -> float:
        return float(self._one(_TOOK)[0])

    def _one(self, statement: str) -> tuple[Any, ...]:
        row = self.postgres.execute(statement).fetchone()
        assert row is not None
        return row


def differences(run: Run) -> list[str]:
    """Everything by which what is here, or at Stripe, is not what was asked for. Each invoice is read there."""
    found: list[str] = []
    stripe = run.stripe
    created = {each["id"]: each["metadata"].get(METADATA_KEY) for each in stripe.effects("invoice.created")}
    kept = Counter(created.values())
    kept.subtract(created[each["id"]] for each in stripe.effects("invoice.deleted"))
    finalized: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for each in stripe.effects("invoice.finalized"):
        finalized[created[each["id"]]].append((each["id"], each["amount"]))
    sent = Counter(created[each["id"]] for each in stripe.effects("invoice.sent"))
    rows = run.postgres.execute(_OURS).fetchall()
    if {row[0] for row in rows} != run.asked.keys() or kept.keys() - run.asked.keys():
        found.append(f"{len(rows)} rows and {len(kept)} at Stripe, asked for {len(run.asked)}")
    for operation, state, reason, total, subtotal, discount, at_stripe, number, told in rows:
        mixed = run.asked[operation]
        ends = "paid" if total == 0 else "sent"
        reckoned = (subtotal, discount) in ((None, None), (sum(mixed.amounts), mixed.discount))
        # Somebody who finalizes by hand may send it, too; nobody here does.
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
            found = differences(this)
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
