"""Ten thousand e-mails to a mail server that fails, and how fast they go: `python -m bench.emails --count 10000`.

A relay and workers send e-mails to customers of the stand-in, by SMTP with TLS, on a durable Postgres. The server says
"not now", cuts connections, and loses answers after it has taken a message (`bench.mail_server`), and one worker after
the other is killed. Then every e-mail is compared with what came: none twice; each that is known as sent, once; each of
which nobody knows, at most once, and recorded as undecided; none lost and none stuck.

Printed are e-mails a second, from the first request to the last end, and the CPU that an e-mail costs each process. All
share this machine with the mail server, and every connection has a handshake of its own.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import psycopg

import billing
from bench.invoice_run import KEY, Roles, Stripe
from bench.mail_server import FAULTS, FaultyMailServer, make_certificate
from billing.database import open_engine, transaction
from billing.stripe_gateway import StripeGateway
from billing.timing import SHORT
from jobs.access import migrate
from jobs.local.servers import LocalServers
from jobs.local.supervisor import LocalServerError
from stripe_standin.control import Control

EMAILS_OF_A_CUSTOMER = 20
ASKED_AT_ONCE = 50
STANDS_STILL_S = 120
CREW = 8

# Undecided: looked at after the last send, and never sent again by a machine.
_OVER = """
SELECT count(*) FROM billing.emails e
WHERE state <> 'requested'
   OR EXISTS (SELECT FROM billing.idempotency_records r WHERE r.operation_id = e.id AND r.parked_at IS NOT NULL)
"""
_EACH = """
SELECT e.id, e.state, e.reason,
    EXISTS (SELECT FROM billing.idempotency_records r WHERE r.operation_id = e.id AND r.parked_at IS NOT NULL
                                                       AND r.concluded_at IS NULL),
    (SELECT count(*) FROM billing.facts f WHERE f.entity_id = e.id AND f.topic = 'email.sent')
FROM billing.emails e
"""
_TOOK = "SELECT extract(epoch FROM max(state_since) - min(requested_at))::float8 FROM billing.emails"


def differences(asked: set[str], postgres: psycopg.Connection, came: Mapping[str, int]) -> list[str]:
    """Everything by which what came is not what is known."""
    count: Counter[str] = Counter()
    for named, times in came.items():
        count[named.partition(".")[0]] += times
    found = [f"{each}: came, and was not asked for" for each in count.keys() - asked]
    rows = postgres.execute(_EACH).fetchall()
    found += [f"{each}: asked for, and not there" for each in asked - {row[0] for row in rows}]
    for email, state, reason, undecided, told in rows:
        right = {
            "sent": count[email] == 1 and told == 1 and not undecided,
            "requested": undecided and count[email] <= 1 and told == 0,
        }
        if not right.get(state, False):
            found.append(f"{email}: {state} ({reason}), undecided: {undecided}, told {told} times, came {count[email]}")
    return found


def run(count: int, seed: int, workers: int, kill_every_s: float) -> tuple[dict[str, Any], list[str]]:
    """What was measured, and what differs."""
    rng = random.Random(seed)  # noqa: S311 - a choice that can be repeated
    with tempfile.TemporaryDirectory() as folder, LocalServers(durable=True) as servers:
        certificate = make_certificate(Path(folder))
        mail = FaultyMailServer(certificate, rng.randrange(2**31))
        mail.start()
        url, base = servers.environment["DATABASE_URL"], servers.environment["STRIPE_API_BASE"]
        migrate.upgrade(url, environment="development", livemode=False)
        stripe = Stripe(StripeGateway(lambda: KEY, base, livemode=False, connections=4), Control(base))
        customer = {"name": "Test", "email": "test@example.com"}
        customers = [stripe.make("/v1/customers", customer) for _ in range(0, count, EMAILS_OF_A_CUSTOMER)]
        settings = {
            "BILLING_ENVIRONMENT": "development",
            "BILLING_STRIPE_KEY": KEY,
            "BILLING_TIMING": "short",
            "BILLING_LOG_LEVEL": "info",
            "BILLING_CONFIG": str(servers.directory / "billing.toml"),
            "BILLING_HEALTH_DIRECTORY": str(servers.directory / "health"),
            "BILLING_WORKERS_EMAILS": str(workers),
            "BILLING_CREW_EMAILS": str(CREW),
            "BILLING_EMAIL_SERVER": f"smtps://127.0.0.1:{mail.port}",
            "BILLING_EMAIL_FROM": "Shop <billing@example.com>",
            "SSL_CERT_FILE": str(certificate),
        }
        (servers.directory / "billing.toml").touch()
        with psycopg.connect(url, autocommit=True) as postgres:
            roles = Roles(servers, settings, queue="emails")
            roles.start("relay")
            for _ in range(workers):
                roles.start("worker", "emails")
            for child in roles.children["worker"]:
                child.wait_for_output("worker.started", timeout_s=60)
            before = roles.cpu_ms()
            asked = _ask(url, rng, customers, count)
            _wait(postgres, roles, rng, count, kill_every_s)
            (took_s,) = postgres.execute(_TOOK).fetchone() or (0.0,)
            after = roles.cpu_ms()
            found = differences(asked, postgres, mail.came)
            undecided = sum(1 for row in postgres.execute(_EACH) if row[3])
        mail.stop()
    measured = {
        "emails": count,
        "took_s": took_s,
        "emails_per_s": count / took_s,
        "cpu_ms_an_email": {role: (after[role] - before.get(role, 0)) / count for role in after},
        "killed": roles.killed,
        "undecided": undecided,
        "met": dict(mail.met),
        "came": sum(mail.came.values()),
    }
    return measured, found


def _ask(url: str, rng: random.Random, customers: list[str], count: int) -> set[str]:
    engine = open_engine(url, SHORT, name="application")
    asked: set[str] = set()
    for start in range(0, count, ASKED_AT_ONCE):
        with transaction(engine) as session:
            for number in range(start, min(count, start + ASKED_AT_ONCE)):
                about = {"amount": billing.Money(100 + number, "EUR"), "order": f"order-{number}"}
                receipt = billing.request_email(
                    session,
                    template=rng.choice(("refund_made", "capture_receipt")),
                    to=rng.choice(customers),
                    data={**about, "date": date(2026, 11, 30)},
                    locale=rng.choice((None, "de", "ar")),
                    request_id=f"mail-{number}",
                )
                asked.add(receipt.email_id)
    engine.dispose()
    return asked


def _wait(postgres: psycopg.Connection, roles: Roles, rng: random.Random, count: int, kill_every_s: float) -> None:
    """Until each is sent, refused, or undecided. Raises LocalServerError if nothing goes on."""
    last, moved_at, kill_at = -1, time.monotonic(), time.monotonic() + kill_every_s
    while last < count:
        time.sleep(0.5)
        now = time.monotonic()
        if kill_every_s and now > kill_at:
            roles.kill_a_worker(rng)
            kill_at = now + kill_every_s * rng.uniform(0.5, 1.5)
        (over,) = postgres.execute(_OVER).fetchone() or (0,)
        if over != last:
            last, moved_at = over, now
            print(f"{over:,} of {count:,}", file=sys.stderr, flush=True)
        if now > moved_at + STANDS_STILL_S:
            raise LocalServerError(f"{over} of {count} are over")


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.emails", description="Send e-mails to a server that fails.")
    options.add_argument("--count", type=int, default=300, help="how many e-mails")
    options.add_argument("--seed", type=int, default=20261130)
    options.add_argument("--workers", type=int, default=2, help=f"processes, each with {CREW} calls in flight")
    options.add_argument("--kill-every-s", type=float, default=15, help="about so often a worker is killed; 0: never")
    options.add_argument("--json", action="store_true", help="the numbers for a program")
    chosen = options.parse_args()
    print(f"seed {chosen.seed}", file=sys.stderr, flush=True)
    measured, found = run(chosen.count, chosen.seed, chosen.workers, chosen.kill_every_s)
    print(json.dumps({**measured, "differences": found}, indent=2) if chosen.json else shown(chosen.seed, measured))
    if found:
        sys.exit("\n".join([f"bench.emails: {len(found)} differences", *found[:20]]))
    print("none twice, none lost, each that is in doubt recorded", file=sys.stderr)


def shown(seed: int, measured: Mapping[str, Any]) -> str:
    cpu = measured["cpu_ms_an_email"]
    by_role = ", ".join(f"{role} {ms:.1f}" for role, ms in sorted(cpu.items()))
    met = ", ".join(f"{name} {measured['met'].get(name, 0)}" for name in FAULTS)
    return "\n".join(
        [
            f"seed {seed}: {measured['emails']:,} e-mails in {measured['took_s']:.0f} s: "
            f"{measured['emails_per_s']:.1f} a second",
            f"CPU of an e-mail: {sum(cpu.values()):.1f} ms ({by_role})",
            f"{measured['killed']} workers were killed, {measured['undecided']} e-mails are undecided; {met}",
        ]
    )


if __name__ == "__main__":
    main()
