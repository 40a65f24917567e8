"""A thousand requests that overlap on fifty payments: captures, parts of them, voids and refunds, asked for by sixteen
threads, carried out by several processes with faults on, while webhooks come doubled and out of order.

Everything is compared through Stripe's own API, so the same test can be pointed at any server that speaks it.
"""

import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from service import Service, eventually
from sqlalchemy import select
from sqlalchemy.orm import Session

import billing
from billing import database
from billing.errors import BillingError
from billing.gateway import Answer, Budget, Request, boot_clock
from billing.steps import METADATA_KEY, Reader, body_of
from billing.tables.entities import Capture, Refund, Void
from jobs.local.supervisor import Child

SEED = int(os.environ.get("BILLING_TEST_SEED", "20261130"))
REQUESTS, PAYMENTS, THREADS = 1000, 50, 16
AUTHORIZED = 10_000
SEVERAL = "&payment_method_options[card][request_multicapture]=if_available"
MOVES = {"part": 50, "capture": 5, "void": 5, "refund": 40}
FAULTS = [
    {"fault": "drop_before", "method": "POST", "probability": 0.03},
    {"fault": "drop_after_commit", "method": "POST", "probability": 0.05},
    # Not of a refund: one that is never answered, and that Stripe does not show, is left to a person.
    {"fault": "500_saved", "method": "POST", "path": "/(capture|cancel)$", "probability": 0.02},
    {"fault": "500_with_effect", "method": "POST", "path": "/(capture|cancel|refunds)$", "probability": 0.02},
    {"fault": "429_lock_saved", "method": "POST", "path": "/(capture|cancel)$", "probability": 0.02},
    {"fault": "truncate_body", "probability": 0.02},
    {"fault": "502_html", "probability": 0.02},
]
UNDONE = ("failed", "canceled")
"""The states of a refund at Stripe that gave nothing back."""


def ask(session: Session, move: str, intent: str, rng: random.Random, request_id: str) -> str:
    """Raises what `billing` refuses."""
    minor = rng.randint(1, AUTHORIZED // 10)
    if move == "void":
        return billing.request_void(
            session, payment_intent=intent, reason="requested_by_customer", request_id=request_id
        ).void_id
    if move == "refund":
        captured = session.scalars(
            select(Capture.id).where(Capture.payment_intent == intent, Capture.state == "captured")
        ).all()
        which = rng.choice(captured or ["cap_0"])
        some = rng.choice([None, billing.Money(minor, "USD"), billing.Money(minor, "USD")])
        return billing.request_refund(session, capture=which, amount=some, request_id=request_id).refund_id
    remainder = "keep" if move == "part" else "release"
    amount = billing.Money(minor, "USD")
    return billing.request_capture(
        session, payment_intent=intent, amount=amount, remainder=remainder, request_id=request_id
    ).capture_id


def test_a_thousand_overlapping_requests_have_as_many_effects_as_stripe_shows(
    service: Service, spawn: Callable[..., Child], tmp_path: Path
) -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    body = f"amount={AUTHORIZED}&currency=usd&capture_method=manual&payment_method=pm_card_visa&confirm=true{SEVERAL}"
    intents = [service.by_hand("/v1/payment_intents", body) for _ in range(PAYMENTS)]
    webhooks(service, spawn, tmp_path)
    service.standin.add_faults([{**fault, "seed": rng.randrange(2**31)} for fault in FAULTS])
    for role in (("relay",), ("worker", "captures"), ("worker", "captures"), ("worker", "refunds")):
        spawn(*role)
    refused: Counter[str] = Counter()

    def shopper(number: int) -> list[str]:
        own, asked = random.Random(SEED + number), []
        for each in range(number, REQUESTS, THREADS):
            move = own.choices(list(MOVES), list(MOVES.values()))[0]
            try:
                with database.transaction(service.engines["application"]) as session:
                    asked.append(ask(session, move, own.choice(intents), own, f"order-{each}"))
            except BillingError as error:
                refused[type(error).__name__] += 1
        return asked

    with ThreadPoolExecutor(THREADS) as threads:
        asked = [each for of_one in threads.map(shopper, range(THREADS)) for each in of_one]
    service.standin.clear_faults()
    states = ends(service, asked)
    print(f"{len(asked)} asked: {dict(sorted(states.items()))}; refused at once: {dict(refused)}")
    assert len(asked) + refused.total() == REQUESTS
    compare(service, intents)


def webhooks(service: Service, spawn: Callable[..., Child], directory: Path) -> None:
    """Stripe sends every second event twice, and all of them out of order, to a server of ours."""
    secrets = directory / "webhook_secrets"
    secrets.touch(mode=0o600)
    secrets.write_text("whsec_not_known_yet")
    server = spawn("serve", "--port", "0", BILLING_WEBHOOK_SECRETS=f"file:{secrets}")
    (url,) = eventually(lambda: re.findall(r"listening on (\S+)", server.output()), "it listens")
    endpoint = service.by_hand("/v1/webhook_endpoints", f"url={url}/webhooks/stripe&enabled_events[0]=*")
    secrets.write_text(service.standin.roll_secret(endpoint))
    service.standin.set_webhooks(duplicates={"every": 2}, shuffle_s=2)


def ends(service: Service, asked: list[str]) -> Counter[str]:
    waiting, found = set(asked), Counter[str]()

    def some_are_final() -> bool:
        final = {status.id: status for status in map(service.status, waiting) if status.final}
        found.update(f"{id_.partition('_')[0]} {status.state}" for id_, status in final.items())
        waiting.difference_update(final)
        return bool(final)

    while waiting:
        eventually(some_are_final, f"one more ends of {[service.status(each) for each in sorted(waiting)[:3]]}")
    return found


def compare(service: Service, intents: list[str]) -> None:
    """Each effect has one request, and each request that is done one effect."""
    with database.transaction(service.engine) as session:
        captures = session.scalars(select(Capture)).all()
        voids = session.scalars(select(Void)).all()
        refunds = session.scalars(select(Refund)).all()
    taken: dict[str, int] = defaultdict(int)
    for capture in captures:
        taken[capture.payment_intent] += capture.amount_minor if capture.state == "captured" else 0
    read = reader(service)
    given_back: dict[str, Any] = {}
    for intent in intents:
        shown = body_of(read.get(f"/v1/payment_intents/{intent}"))
        assert shown["amount_received"] == taken[intent] <= AUTHORIZED
        voided = [void.id for void in voids if void.payment_intent == intent and void.state == "voided"]
        assert len(voided) == (shown["status"] == "canceled")
        moved = [each for each in read.pages("/v1/refunds", {"payment_intent": intent}) if each["status"] not in UNDONE]
        assert sum(each["amount"] for each in moved) <= taken[intent]
        for each in moved:
            assert each["metadata"][METADATA_KEY] not in given_back, "given back twice"
            given_back[each["metadata"][METADATA_KEY]] = each["amount"]
    assert given_back == {refund.id: refund.amount_minor for refund in refunds if refund.state == "succeeded"}
    for capture in captures:
        of_it = [
            refund.amount_minor for refund in refunds if (refund.capture_id, refund.state) == (capture.id, "succeeded")
        ]
        assert capture.refunds_minor == sum(of_it) <= capture.amount_minor
    losers = [each for each in (*captures, *voids) if each.state in ("canceled", "refused")]
    assert {(each.reason or "").partition(":")[0] for each in losers} <= {"voided_by", "captured_by", *EXPECTED}


EXPECTED = ("more_than_authorized", "captured_in_part")
"""Parts that add up to more than was authorized are refused when their turn comes."""


def reader(service: Service) -> Reader:
    gateway = service.gateway()

    def get(path: str) -> Answer:
        until = boot_clock() + 60
        return gateway.send(Request("GET", path), Budget(until, until))

    return Reader(get)
