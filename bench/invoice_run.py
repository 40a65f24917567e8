"""One run of invoices under faults: its processes, the stand-in for Stripe, what is asked for, and until when.
`bench.invoices` measures it."""

import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
from sqlalchemy import Engine

import billing
from bench import meter
from bench.invoice_mix import Mixed
from billing.database import transaction
from billing.gateway import Answer, Budget, Request, Response, boot_clock, encode
from billing.steps import Reader
from billing.stripe_gateway import StripeGateway
from jobs.local.servers import LocalServers
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
LEFT = """
SELECT w.state, r.step, r.state, r.learned, w.reason, count(*)
FROM billing.work w LEFT JOIN billing.idempotency_records r ON r.work_id = w.id AND r.concluded_at IS NULL
WHERE w.queue = 'invoices' AND (w.state <> 'done' OR r.id IS NOT NULL) GROUP BY 1, 2, 3, 4, 5
"""
"""No worker of the queue `maintenance` runs here, and a schedule may tick at any moment."""


@dataclass(slots=True)
class Roles:
    """The processes of the service. A killed one is started again, and its CPU stays counted."""

    servers: LocalServers
    settings: Mapping[str, str]
    queue: str = "invoices"
    programs: Mapping[str, str] = field(default_factory=dict)
    """By role: a module that stands in for the command `billing ROLE`."""
    children: dict[str, list[Child]] = field(default_factory=lambda: defaultdict(list))
    ended_ms: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    killed: int = 0

    def start(self, role: str, *command: str) -> None:
        module = [self.programs[role]] if role in self.programs else ["jobs.cli", role]
        program = [sys.executable, "-m", *module, *command]
        self.children[role].append(self.servers.spawn(f"{role}-{uuid4().hex[:6]}", program, self.settings))

    def kill_a_worker(self, rng: random.Random) -> None:
        child = rng.choice(self.children["worker"])
        self.ended_ms["worker"] += meter.cpu_ms(child.pid)
        child.kill()
        self.children["worker"].remove(child)
        self.killed += 1
        self.start("worker", self.queue)

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
        """Ask for them, batch by batch, and wait, except for those that met a fault with every key. Raises
        LocalServerError if nothing goes on."""
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
        return self.postgres.execute(LEFT).fetchall()

    def took_s(self) -> float:
        return float(self._one(_TOOK)[0])

    def _one(self, statement: str) -> tuple[Any, ...]:
        row = self.postgres.execute(statement).fetchone()
        assert row is not None
        return row
