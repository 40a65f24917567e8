"""Act 3: hundreds of requests meet lost answers, errors, a pulled switch, a killed worker, a flushed Redis, and an
answer that only an operator can judge."""

import os
from collections import Counter
from collections.abc import Iterator

from sqlalchemy.orm import Session

from archive.writing import batches
from billing import database
from jobs.demo.shopping import Order, Shop
from jobs.demo.stage import Stage
from jobs.local.supervisor import LocalServerError
from jobs.process.patience import patiently
from jobs.road import quarantine_list
from jobs.rq import bells
from stripe_standin.control import ControlError

WAVES = 15
LEAST_PER_WAVE = 8
WAVE_PAUSE_S = 0.25

_STOP = ("switch", "pull", "captures", "--reason", "a demonstration", "--actor", "demo")
_GO_ON = ("switch", "release", "captures", "--reason", "it is over", "--actor", "demo")


def play(stage: Stage, shop: Shop, captures: int, invoices: int) -> None:
    """Everything is final when it ends, or it says that it is not."""
    stage.title(f"3. {captures} captures and {invoices} invoices, while much goes wrong")
    shop.authorize(captures)
    customer = shop.customer()
    stage.say(f"{len(shop.orders)} cards are authorized; {shop.faults.total()} captures will meet a fault")
    waves = list(_waves(shop.orders, invoices))
    _roll_back(stage, shop, waves[0][0], customer)
    # Not one with calls that hang: they would have come and gone before the commands have ended.
    calm = next((orders for orders, _ in waves if not any(order in shop.hanging for order in orders)), None)
    for number, (orders, share) in enumerate(waves):
        stopped = orders is calm
        if stopped:
            stage.operate(*_STOP, why="an operator stops all new calls")
        with database.transaction(stage.runtime.engine) as session:
            shop.ask(session, orders, customer, share)
        if stopped:
            _go_on(stage, len(orders))
        if shop.hanging and shop.hanging[-1] in orders:
            _kill_a_worker(stage, len(shop.hanging))
        if number == 2 * len(waves) // 3:
            _flush_redis(stage)
        stage.pause(WAVE_PAUSE_S)
    if shop.doubtful is not None:
        _decide(stage, shop.doubtful)
    stage.say("everything is asked for; waiting until everything is final")
    stage.until(lambda: not stage.progress().unfinished, "everything to be final")
    for rule in stage.standin.faults():
        stage.faults[rule["fault"]] += rule["fired"]
    stage.standin.clear_faults()


def _roll_back(stage: Stage, shop: Shop, orders: list[Order], customer: str) -> None:
    """The shop rolls a transaction back: it has asked for nothing."""
    before = patiently(stage.runtime, stage.tally.asked)
    with Session(stage.runtime.engine) as session:
        shop.ask(session, orders, customer, invoices=0)
        session.rollback()
    if patiently(stage.runtime, stage.tally.asked) != before:
        raise LocalServerError("a transaction that was rolled back left requests behind")


def _go_on(stage: Stage, asked: int) -> None:
    # A receipt counts work, so relays must have made it of all that was asked for.
    stage.until(lambda: not patiently(stage.runtime, batches.lag).unplanned, "relays to plan what was asked for")
    stage.operate(*_STOP, why=f"{asked} captures were asked for meanwhile; to pull again shows what is held by now")
    stage.operate(*_GO_ON)


def _kill_a_worker(stage: Stage, hanging: int) -> None:
    victim = next(child for child in stage.stack.processes if child.name.startswith("worker-captures"))
    try:
        stage.standin.wait_held(1, wait_s=60)
    except ControlError as error:
        raise LocalServerError(f"no captures worker came to its calls: {error}") from error
    # A worker that was throttled makes fewer calls at once, so not all of them need to come together.
    calls = Counter(call["fault"] for call in stage.standin.held(hanging, wait_s=1))
    stage.scrapes.take(victim)
    victim.kill()
    stage.killed.append(victim)
    stage.say(
        f"kill -9 {victim.pid}: a captures worker; {calls['hold_after']} of its calls had taken the money, "
        f"{calls['hold_before']} had not"
    )
    stage.stack.spawn("worker", "captures")
    stage.standin.release(then="forget")


def _flush_redis(stage: Stage) -> None:
    if "REDIS_URL" in os.environ:
        stage.say("Redis is yours (REDIS_URL), so it is not flushed")
        return
    stage.say("FLUSHALL: Redis has forgotten everything")
    # With the administrator's login: no process of the service may flush.
    with bells.open_redis(stage.stack.servers.valkey.url) as administrator:
        administrator.flushall()


def _decide(stage: Stage, order: Order) -> None:
    """An answer that named another amount has put this capture into quarantine: an operator looks what a replay would
    do, and has it done."""
    waiting = quarantine_list.listed
    stage.until(
        lambda: bool(patiently(stage.runtime, waiting)) or not stage.progress().unfinished, "work that needs a decision"
    )
    found = patiently(stage.runtime, waiting)
    if not found:
        # With few captures all are asked for at once.
        stage.say(f"nothing is in quarantine: the answer about {order.capture_id} went to the killed worker")
        return
    replay = ("quarantine", "replay", found[0].id, "--reason", "compared with Stripe", "--actor", "demo")
    stage.operate("quarantine", "list", why="Stripe's answer named another amount: an operator decides")
    stage.operate(*replay, "--dry-run", kind="worker")
    stage.operate(*replay)


def _waves(orders: list[Order], invoices: int) -> Iterator[tuple[list[Order], int]]:
    """What is asked in each transaction: a share of the captures, and of the invoices."""
    count = max(1, min(WAVES, len(orders) // LEAST_PER_WAVE))
    for n in range(count):
        share = orders[len(orders) * n // count : len(orders) * (n + 1) // count]
        yield share, invoices * (n + 1) // count - invoices * n // count
