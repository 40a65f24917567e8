"""Ten thousand documents from links that fail, and how fast they are kept: `python -m bench.documents --count 10000`.

First so many invoices are finalized, each of which asks for its document. Then a relay and workers fetch their PDFs
from the stand-in for Stripe and store them under locks in a real S3, on a durable Postgres. The links break off, drip,
lead elsewhere, and give pages of HTML, 502s and files that are too large, and one worker after the other is killed.
What was refused for that is fetched again in the end, as docs/operate/documents.md says, and so is what five dead
workers have put into quarantine. Then each invoice has one row, which is `stored`, and one object, whose bytes are
those that the stand-in serves and what the row says; nothing else is there.

Printed are documents a second, from the first worker's start to the last end, and the CPU that a document costs each
process. All share this machine.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import psycopg

import billing
from archive.errors import EvidenceDiffers
from archive.s3.store import Store
from bench import meter
from bench.document_worker import USED
from bench.invoice_run import KEY, Roles, Stripe
from bench.stored import every_version
from billing.database import open_engine, transaction
from billing.gateway import Budget, boot_clock
from billing.stripe_gateway import StripeGateway
from billing.timing import SHORT
from jobs.access import migrate
from jobs.documents.fetching import Fetcher
from jobs.local.servers import LocalServers, StandIn
from jobs.local.supervisor import LocalServerError, wait_until
from jobs.road.quarantine import reopen, replay
from stripe_standin.control import Control

FILES = "^/files/"
FAULTS: tuple[Mapping[str, Any], ...] = (
    {"fault": "truncate_body", "path": FILES, "probability": 0.01},
    {"fault": "drop_before", "path": "^/(files|invoice)/", "probability": 0.01},
    {"fault": "502_html", "path": "^/(files|invoice)/", "probability": 0.01},
    {"fault": "200_html", "path": FILES, "probability": 0.002},
    {"fault": "huge_body", "path": FILES, "probability": 0.002, "megabytes": 25},
    {"fault": "redirect_307", "path": "^/invoice/", "probability": 0.002, "location": "http://127.0.0.1:9/elsewhere"},
    # Slow, and whole in the end; and slower than a call may be.
    {"fault": "drip_body", "path": FILES, "probability": 0.005, "seconds": 2},
    {"fault": "drip_body", "path": FILES, "probability": 0.001, "seconds": 60},
    {"fault": "429_rate", "path": "^/v1/invoices/", "method": "GET", "probability": 0.01},
    {"fault": "truncate_body", "path": "^/v1/invoices/", "method": "GET", "probability": 0.01},
)
ASKED_AT_ONCE = 50
INVOICES_OF_A_CUSTOMER = 20
STANDS_STILL_S = 180
READERS = 8
MOST_BYTES = 20_000_000
BUCKET = "bench-documents"

_STATES = "SELECT state, count(*)::int FROM billing.documents GROUP BY 1"
_REFUSED = "SELECT id, reason FROM billing.documents WHERE state = 'refused'"
_QUARANTINED = "SELECT id FROM billing.work WHERE queue = 'documents' AND state = 'quarantined'"
_TOOK = """
SELECT extract(epoch FROM max(d.state_since) - min(r.first_sent_at))::float8
FROM billing.documents d JOIN billing.idempotency_records r ON r.operation_id = d.id
"""
_EACH = """
SELECT i.id, i.stripe_invoice, d.id, d.state, d.reason, d.object_key, d.object_version, d.sha256,
    (SELECT count(*) FROM billing.facts f WHERE f.entity_id = d.id AND f.topic = 'document.stored')
FROM billing.invoices i LEFT JOIN billing.documents d ON d.invoice_id = i.id ORDER BY i.id
"""
LEFT = """
SELECT w.entity_id, w.state, w.reason FROM billing.work w
WHERE w.queue = 'documents' AND (w.state <> 'done' OR EXISTS
    (SELECT FROM billing.idempotency_records r WHERE r.work_id = w.id AND r.concluded_at IS NULL))
"""


def differences(count: int, postgres: psycopg.Connection, stripe: Stripe, base: str, store: Store) -> list[str]:
    """Everything by which rows, objects and what Stripe serves are not one and the same."""
    rows = postgres.execute(_EACH).fetchall()
    found = [] if len(rows) == count else [f"{len(rows)} invoices with a document each, of {count}"]
    there = Counter(each.key for each in every_version(store) if each.key.startswith("documents/"))
    fetcher = Fetcher((), base, MOST_BYTES)

    def check(row: tuple[Any, ...]) -> list[str]:
        invoice, of, document, state, reason, key, version, digest, told = row
        if state != "stored":
            return [f"{invoice}: its document {document} is {state} ({reason})"]
        until = boot_clock() + 60
        _, shown = stripe.gateway.read_whole(f"/v1/invoices/{of}", None, Budget(until, until))
        served = fetcher.fetch(str(shown.get("invoice_pdf")), until)
        try:
            kept = store.get(key, version)
        except EvidenceDiffers:
            return [f"{invoice}: {document}: its object is gone"]
        wrong = {
            "stored facts": told != 1,
            "versions": there[key] != 1,
            "bytes": not sha256(served).hexdigest() == digest == kept.sha256,
            "lock": (kept.lock or store.lock(key, version)) is None,
        }
        return [f"{invoice}: {document}: {name}" for name, differs in wrong.items() if differs]

    with ThreadPoolExecutor(READERS) as pool:
        for each in pool.map(check, rows):
            found += each
    keys = Counter(row[5] for row in rows if row[5] is not None)
    found += [f"{key}: nobody's" for key in there.keys() - keys.keys()]
    found += [f"{key}: of {times} rows" for key, times in keys.items() if times != 1]
    found += [f"{left[0]}: {left[1]} ({left[2]})" for left in postgres.execute(LEFT).fetchall()]
    return found


def run(
    count: int, seed: int, workers: int, kill_every: float, crew: int, trouble: float
) -> tuple[dict[str, Any], list[str]]:
    """What was measured, and what differs."""
    rng = random.Random(seed)  # noqa: S311 - a choice that can be repeated
    StandIn.program = (*StandIn.program[:3], "--requests-kept", "1000")
    with LocalServers(durable=True, s3=True) as servers:
        url, base = servers.environment["DATABASE_URL"], servers.environment["STRIPE_API_BASE"]
        migrate.upgrade(url, environment="development", livemode=False)
        store = servers.seaweedfs.store(BUCKET)
        store.set_up("development")
        stripe = Stripe(StripeGateway(lambda: KEY, base, livemode=False, connections=READERS), Control(base))
        used = servers.directory / "used"
        used.touch()
        (servers.directory / "billing.toml").touch()
        settings = {
            "BILLING_ENVIRONMENT": "development",
            "BILLING_STRIPE_KEY": KEY,
            "BILLING_TIMING": "short",
            "BILLING_STRIPE_RATE": "10000",
            "BILLING_LOG_LEVEL": "info",
            "BILLING_CONFIG": str(servers.directory / "billing.toml"),
            "BILLING_HEALTH_DIRECTORY": str(servers.directory / "health"),
            "BILLING_ARCHIVE_BUCKET": BUCKET,
            "BILLING_WORKERS_DOCUMENTS": str(workers),
            "BILLING_CREW_DOCUMENTS": str(crew),
            # Those that give way on a machine that others use measure the others.
            "BILLING_FUNCTION_NICENESS": "0",
            USED: str(used),
        }
        roles = Roles(servers, settings, queue="documents", programs={"worker": "bench.document_worker"})
        engine = open_engine(url, SHORT, name="operator")
        with psycopg.connect(url, autocommit=True) as postgres:
            roles.start("relay")
            _finalize(servers, settings, engine, postgres, stripe, count)
            stripe.control.add_faults(
                [
                    {**fault, "probability": min(1.0, trouble * fault["probability"]), "seed": rng.randrange(2**31)}
                    for fault in FAULTS
                ]
            )
            before = roles.cpu_ms() | {"s3": meter.cpu_ms(servers.seaweedfs.child.pid)}
            for _ in range(workers):
                roles.start("worker", "documents")
            _wait(postgres, roles, rng, count, kill_every)
            after = roles.cpu_ms() | {"s3": meter.cpu_ms(servers.seaweedfs.child.pid)}
            after["document"] = sum(int(line) for line in used.read_text().split()) / 1e6
            (took_s,) = postgres.execute(_TOOK).fetchone() or (0.0,)
            met = Counter[str]()
            for rule in stripe.control.faults():
                met[rule["fault"]] += rule["fired"]
            stripe.control.clear_faults()
            refused = postgres.execute(_REFUSED).fetchall()
            for document, _ in refused:
                with transaction(engine) as session:
                    reopen(session, document, actor="bench", reason="the links are well again")
            quarantined = postgres.execute(_QUARANTINED).fetchall()
            for (work,) in quarantined:
                with transaction(engine) as session:
                    replay(session, work, actor="bench", reason="its workers were killed")
            wait_until(lambda: not postgres.execute(LEFT).fetchall(), "those that were refused", STANDS_STILL_S)
            found = differences(count, postgres, stripe, base, store)
            engine.dispose()
            store.close()
    return {
        "documents": count,
        "took_s": took_s,
        "documents_per_s": count / took_s,
        "cpu_ms_a_document": {role: (after[role] - before.get(role, 0)) / count for role in after},
        "killed": roles.killed,
        "met": dict(met),
        "quarantined": len(quarantined),
        "refused": dict(Counter(reason for _, reason in refused)),
    }, found


def _finalize(
    servers: LocalServers,
    settings: Mapping[str, str],
    engine: Any,
    postgres: psycopg.Connection,
    stripe: Stripe,
    count: int,
) -> None:
    """So many invoices, with workers of their own."""
    program = [sys.executable, "-m", "jobs.cli", "worker", "invoices"]
    makers = [servers.spawn(f"worker-invoices-{n}", program, settings) for n in range(2)]
    customer = {"name": "Test", "email": "test@example.com"}
    customers = [stripe.make("/v1/customers", customer) for _ in range(0, count, INVOICES_OF_A_CUSTOMER)]
    for start in range(0, count, ASKED_AT_ONCE):
        with transaction(engine) as session:
            for number in range(start, min(count, start + ASKED_AT_ONCE)):
                billing.issue_invoice(
                    session,
                    customer=customers[number // INVOICES_OF_A_CUSTOMER],
                    lines=[billing.Line(f"{1 + number % 9} seats", billing.Money(100 + number, "USD"))],
                    collect=billing.SendInvoice(days_until_due=14),
                    request_id=f"invoice-{number}",
                )
    ended = "SELECT count(*) FROM billing.invoices WHERE state = 'sent'"
    last, moved_at = -1, time.monotonic()
    while last < count:
        time.sleep(0.5)
        (now,) = postgres.execute(ended).fetchone() or (0,)
        if now != last:
            last, moved_at = now, time.monotonic()
            print(f"{now:,} of {count:,} invoices", file=sys.stderr, flush=True)
        if time.monotonic() > moved_at + STANDS_STILL_S:
            raise LocalServerError(f"{now} of {count} invoices are finalized")
    servers.supervisor.stop(makers, 10)


def _wait(postgres: psycopg.Connection, roles: Roles, rng: random.Random, count: int, kill_every: float) -> None:
    """Until each is stored, refused or in quarantine. Workers are killed by what they have done, and not by the clock:
    on a busy machine one would never get past its start. Raises LocalServerError if nothing goes on."""
    last, moved_at, kill_at = -1, time.monotonic(), kill_every
    while last < count:
        time.sleep(0.5)
        now = time.monotonic()
        if kill_every and last > kill_at:
            roles.kill_a_worker(rng)
            kill_at = last + kill_every * rng.uniform(0.5, 1.5)
        states: dict[str, int] = dict(postgres.execute(_STATES).fetchall())
        quarantined = len(postgres.execute(_QUARANTINED).fetchall())
        over = states.get("stored", 0) + states.get("refused", 0) + quarantined
        if over != last:
            last, moved_at = over, now
            print(f"{over:,} of {count:,} documents", file=sys.stderr, flush=True)
        if now > moved_at + STANDS_STILL_S:
            raise LocalServerError(f"{states}; {postgres.execute(LEFT).fetchmany(20)}")


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.documents", description="Keep documents from bad links.")
    options.add_argument("--count", type=int, default=300, help="how many documents")
    options.add_argument("--seed", type=int, default=20261130)
    options.add_argument("--workers", type=int, default=2, help="processes")
    options.add_argument("--crew", type=int, default=2, help="documents in flight in each worker")
    options.add_argument("--kill-every", type=float, default=100, help="documents between two kills; 0: none")
    options.add_argument("--trouble", type=float, default=1, help="how many times as many faults as usual; 0: none")
    options.add_argument("--json", action="store_true", help="the numbers for a program")
    chosen = options.parse_args()
    print(f"seed {chosen.seed}", file=sys.stderr, flush=True)
    measured, found = run(chosen.count, chosen.seed, chosen.workers, chosen.kill_every, chosen.crew, chosen.trouble)
    print(json.dumps({**measured, "differences": found}, indent=2) if chosen.json else shown(chosen.seed, measured))
    if found:
        sys.exit("\n".join([f"bench.documents: {len(found)} differences", *found[:20]]))
    print("each stored once, under a lock, with the bytes that were served; nothing stuck", file=sys.stderr)


def shown(seed: int, measured: Mapping[str, Any]) -> str:
    cpu = measured["cpu_ms_a_document"]
    ours = sum(ms for role, ms in cpu.items() if role != "stand-in")
    by_role = ", ".join(f"{role} {ms:.1f}" for role, ms in sorted(cpu.items()))
    met = ", ".join(f"{name} {times}" for name, times in sorted(measured["met"].items()))
    refused = ", ".join(f"{reason} {times}" for reason, times in sorted(measured["refused"].items()))
    return "\n".join(
        [
            f"seed {seed}: {measured['documents']:,} documents in {measured['took_s']:.0f} s: "
            f"{measured['documents_per_s']:.1f} a second",
            f"CPU of a document: {ours:.1f} ms ours, {cpu['stand-in']:.1f} ms the stand-in's ({by_role})",
            f"{measured['killed']} workers were killed, by which {measured['quarantined']} came into quarantine; "
            f"faults met: {met}",
            f"refused, and fetched again when the links were well: {refused or 'none'}",
        ]
    )


if __name__ == "__main__":
    main()
