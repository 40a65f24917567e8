"""The demonstration: a shop asks, answers are lost, sends are stopped by a switch, a worker is killed, Redis is
flushed, an operator decides about a conflict, and three counts agree.

`run` starts everything as real processes, prints what happens, and leaves nothing behind but one picture.
"""

import contextlib
import json
import os
import shlex
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from archive.format import sealed
from archive.queries import Read, ask
from archive.writing import batches, publishing
from billing import database
from billing.errors import UnknownEntity
from billing.explain import Explanation, explain_one
from billing.states import CaptureState
from jobs.local.count import Offence, compare, compare_archived, sum_asked, sum_moved
from jobs.local.scraping import Numbers, Scrapes
from jobs.local.shopping import Order, Shop
from jobs.local.stack import Stack
from jobs.local.supervisor import Child, LocalServerError
from jobs.local.tally import Progress, Tally
from jobs.process import archiving
from jobs.process.patience import patiently
from jobs.process.service import ServiceProcess
from jobs.road import quarantine_list
from jobs.rq import bells
from stripe_standin.control import Control, ControlError

WAVES = 15
LEAST_PER_WAVE = 8
STORIES = 5
WAVE_PAUSE_S = 0.25
PATIENCE_S = 60.0
"""Within this time after the last request everything must be final; it takes about 5 s."""


@dataclass(frozen=True, slots=True)
class Plan:
    captures: int
    invoices: int
    seed: int
    cheat: bool = False
    """Take money behind the service's back, to see that the count finds it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was asked, what moved, and every difference. Sums are minor units by currency."""

    seed: int
    seconds: float
    captures: Counter[str]
    invoices: Counter[str]
    asked: Counter[str]
    """Of captures that are captured here."""
    moved: Counter[str]
    """Of captures that happened at the provider."""
    archived: Counter[str] | None
    """Of captures that the evidence in S3 shows as taken; None if nothing was archived."""
    archived_captures: int
    evidence: list[Read]
    metrics: Numbers | None
    """What the workers counted; None where the extra `metrics` is not installed."""
    effects: Counter[str]
    faults: Counter[str]
    refused: Counter[str]
    keys_resent: int
    keys_replaced: int
    offences: list[Offence]
    stories: list[Explanation]
    """What `billing explain` says about the first differences. Their database is removed before this is read."""


PrintEvent = Callable[[str], None]
Watch = Callable[[Progress], None]


def run(plan: Plan, print_event: PrintEvent, watch: Watch) -> Outcome:
    """The whole story. Raises LocalServerError when a server or a process of the service does not run."""
    began = time.monotonic()
    print_event("starting Postgres, Valkey, S3 and the Stripe stand-in")
    # Always our own stand-in, because it makes the faults and the second count. And never a real Stripe.
    given = {name: value for name, value in os.environ.items() if name != "STRIPE_API_BASE"}
    with Stack(given=given, more={"BILLING_CREW_CAPTURES": "16", "BILLING_METRICS_PORT": "0"}) as stack:
        print_event("starting one relay, workers for captures, refunds, invoices and schedules, and an archiver")
        stack.start_processes()
        runtime = stack.runtime("demo")
        try:
            story = _Story(plan, print_event, watch, stack, runtime)
            story.play()
            return story.count(began)
        finally:
            runtime.close()


_STOP = ("switch", "pull", "captures", "--reason", "a demonstration", "--actor", "demo")


class _Story:
    def __init__(
        self, plan: Plan, print_event: PrintEvent, watch: Watch, stack: Stack, runtime: ServiceProcess
    ) -> None:
        self._plan, self._print, self._watch, self._stack, self._runtime = plan, print_event, watch, stack, runtime
        self._standin = Control(stack.environment["STRIPE_API_BASE"])
        self._shop = Shop(runtime.gateway(connections=1), self._standin, plan.seed)
        self._tally = Tally(self._shop.tag)
        self._killed: list[Child] = []
        self._scrapes = Scrapes()
        self._began = patiently(runtime, database.now)

    def play(self) -> None:
        shop = self._shop
        shop.authorize(self._plan.captures)
        customer = shop.customer()
        self._print(f"{len(shop.orders)} cards are authorized; {shop.faults.total()} captures will meet a fault")
        waves = list(_waves(shop.orders, self._plan.invoices))
        self._roll_back(waves[0][0], customer)
        # Not one with calls that hang: they would have come and gone before the commands have ended.
        calm = next((orders for orders, _ in waves if not any(order in shop.hanging for order in orders)), None)
        for number, (orders, invoices) in enumerate(waves):
            stopped = orders is calm
            if stopped:
                self._operate(*_STOP)
            with database.transaction(self._runtime.engine) as session:
                shop.ask(session, orders, customer, invoices)
            if stopped:
                self._wait_until_planned()
                self._print(f"{len(orders)} captures were asked for meanwhile; to pull again shows what is held by now")
                self._operate(*_STOP)
                self._operate("switch", "release", "captures", "--reason", "it is over", "--actor", "demo")
            if shop.hanging and shop.hanging[-1] in orders:
                self._kill_a_worker(len(shop.hanging))
            if number == 2 * len(waves) // 3:
                self._flush_redis()
            self._pause(WAVE_PAUSE_S)
        if shop.doubtful is not None:
            self._decide(shop.doubtful)
        self._print("everything is asked for; waiting until everything is final")
        self._wait_until_final()
        self._wait_until_archived()
        if self._stack.archives:
            self._audit()
            self._prove()
        if self._plan.cheat:
            self._print(f"cheating: {shop.capture_without_the_service()} is captured without the service")

    def count(self, began: float) -> Outcome:
        expected = {order.capture_id: order.expected for order in self._shop.orders} | self._shop.invoices
        asked = patiently(self._runtime, lambda session: self._tally.asked(session, expected))
        resent, replaced = patiently(self._runtime, self._tally.keys)
        effects = self._standin.effects()
        archived = self._ask_the_archive()
        captures = [request for request in asked if request.id.startswith("cap_")]
        invoices = [request for request in asked if request.id.startswith("inv_")]
        forgotten = sorted(expected.keys() - {request.id for request in asked})
        offences = compare(captures, invoices, effects)
        offences += [Offence("lost", lost, "asked for, and Postgres has no row of it") for lost in forgotten]
        sums, count, evidence = archived or (None, 0, [])
        if sums is not None:
            taken = sum(request.state == CaptureState.CAPTURED for request in captures)
            offences += compare_archived(sum_asked(captures), taken, sums, count)
        return Outcome(
            archived=sums,
            archived_captures=count,
            evidence=evidence,
            metrics=self._numbers(),
            seed=self._plan.seed,
            seconds=round(time.monotonic() - began, 1),
            captures=Counter(request.state for request in captures),
            invoices=Counter(request.state for request in invoices),
            asked=sum_asked(captures),
            moved=sum_moved(effects),
            effects=Counter(effect["kind"] for effect in effects),
            faults=self._fired(),
            refused=self._shop.refused,
            keys_resent=resent,
            keys_replaced=replaced,
            offences=offences,
            stories=self._explain([offence.id for offence in offences]),
        )

    def _roll_back(self, orders: list[Order], customer: str) -> None:
        """The shop rolls a transaction back: it has asked for nothing."""
        with Session(self._runtime.engine) as session:
            self._shop.ask(session, orders, customer, invoices=0)
            session.rollback()
        if patiently(self._runtime, self._tally.asked):
            raise LocalServerError("a transaction that was rolled back left captures behind")

    def _operate(self, *arguments: str, kind: str = "operator") -> None:
        """A command with what it prints: an operator's, or one that needs the login of another kind."""
        self._print(f"$ billing {shlex.join(arguments)}")
        for line in self._stack.command(*arguments, kind=kind).splitlines():
            self._print(f"  {line}")

    def _decide(self, order: Order) -> None:
        """An answer that named another amount has put this capture into quarantine: an operator looks what a replay
        would do, and has it done."""
        give_up = time.monotonic() + PATIENCE_S
        while not (waiting := patiently(self._runtime, quarantine_list.listed)):
            if time.monotonic() > give_up or not self._progress().unfinished:
                # With few captures all are asked for at once.
                self._print(f"nothing is in quarantine: the answer about {order.capture_id} went to the killed worker")
                return
            self._pause(WAVE_PAUSE_S)
        replay = ("quarantine", "replay", waiting[0].id, "--reason", "compared with Stripe", "--actor", "demo")
        self._operate("quarantine", "list")
        self._operate(*replay, "--dry-run", kind="worker")
        self._operate(*replay)

    def _kill_a_worker(self, hanging: int) -> None:
        victim = next(child for child in self._stack.processes if child.name.startswith("worker-captures"))
        try:
            self._standin.wait_held(1, wait_s=60)
        except ControlError as error:
            raise LocalServerError(f"no captures worker came to its calls: {error}") from error
        # A worker that was throttled makes fewer calls at once, so not all of them need to come together.
        calls = Counter(call["fault"] for call in self._standin.held(hanging, wait_s=1))
        self._scrapes.take(victim)
        victim.kill()
        self._killed.append(victim)
        self._print(
            f"kill -9 {victim.pid}: a captures worker; {calls['hold_after']} of its calls had taken the money, "
            f"{calls['hold_before']} had not"
        )
        self._stack.spawn("worker", "captures")
        self._standin.release(then="forget")

    def _flush_redis(self) -> None:
        if "REDIS_URL" in os.environ:
            self._print("Redis is yours (REDIS_URL), so it is not flushed")
            return
        self._print("FLUSHALL: Redis has forgotten everything")
        # With the administrator's login: no process of the service may flush.
        with bells.open_redis(self._stack.servers.valkey.url) as administrator:
            administrator.flushall()

    def _wait_until_planned(self) -> None:
        """Wait until relays have made work of all that was asked: a receipt counts work."""
        give_up = time.monotonic() + PATIENCE_S
        while patiently(self._runtime, batches.lag).unplanned and time.monotonic() < give_up:
            self._pause(WAVE_PAUSE_S)

    def _wait_until_final(self) -> None:
        give_up = time.monotonic() + PATIENCE_S
        while self._progress().unfinished:
            if time.monotonic() > give_up:
                self._print(f"not everything is final after {PATIENCE_S:.0f} s")
                return
            time.sleep(0.1)

    def _wait_until_archived(self) -> None:
        """Wait until the archiver, which runs all the time, has copied every fact to S3."""
        if not self._stack.archives:
            self._print("the database is yours (DATABASE_URL) and no S3 is (S3_ENDPOINT_URL), so nothing is archived")
            return
        give_up = time.monotonic() + PATIENCE_S
        while True:
            lag = patiently(self._runtime, batches.lag)
            if not lag.waiting + lag.unplanned:
                return
            if time.monotonic() > give_up:
                self._print(f"{lag.waiting + lag.unplanned} facts are not archived after {PATIENCE_S:.0f} s")
                return
            time.sleep(0.1)

    def _audit(self) -> None:
        """What finance and an auditor do: a picture, the head of the day, and the verifier that shares no code with
        us, with the public key and that head."""
        if find_spec("matplotlib") is None:
            self._print("no picture is drawn, because the extra `finance` is not installed")
        else:
            picture = Path(tempfile.gettempdir()) / f"billing-demo-{os.getuid()}.png"
            self._operate("archive", "plot", "captured_by_day", "--png", str(picture), kind="reader")
        place = self._stack.servers.directory / "auditor"
        place.mkdir()
        arguments = []
        for _, document in patiently(self._runtime, publishing.documents):
            heads, signature = sealed.read(document)
            signed = f"signed with key {signature.key_id}" if signature else "not signed"
            newest = ", ".join(f"{name} {number} {digest[:16]}…" for name, (number, digest) in heads["heads"].items())
            self._print(f"the heads of {heads['date']}, {signed}: {newest}")
            (place / "heads.json").write_bytes(document)
            arguments = ["--heads", "heads.json"]
        keys, verifier = (self._read_json("archive", name) for name in ("keys", "verifier"))
        for key_id, pem in keys["public_keys"].items():
            (place / f"{key_id}.pem").write_text(pem)
            arguments += ["--key", f"{key_id}.pem"]
        (place / "verify.py").write_text(verifier["source"])
        self._print("$ billing archive verifier > verify.py")
        self._print(f"$ python verify.py BUCKET {shlex.join(arguments)}")
        for line in self._stack.verdict(place, arguments).splitlines():
            self._print(f"  {line}")

    def _prove(self) -> None:
        """What three sides say of the money, compared as a stranger would compare it: from files alone."""
        place = self._stack.servers.directory / "proof"
        files = {side: str(place / f"{side}.jsonl") for side in ("archive", "stripe", "ours")}
        for side, file in files.items():
            self._stack.command("export", side, file, kind="worker" if side == "stripe" else "reader")
            self._print(f"$ billing export {side} {side}.jsonl")
        self._print("$ billing prove archive.jsonl stripe.jsonl ours.jsonl")
        for line in self._stack.command("prove", *files.values()).splitlines():
            self._print(f"  {line}" if line else "")

    def _read_json(self, *command: str) -> Any:
        return json.loads(self._stack.command(*command, "--json", kind="reader"))

    def _ask_the_archive(self) -> tuple[Counter[str], int, list[Read]] | None:
        """The third count, from verified copies of the objects in S3 only."""
        if not self._stack.archives:
            return None
        settings = self._runtime.settings
        with archiving.opened(settings) as store:
            answer = ask(archiving.cache(settings, store), "captures_by_day", {"since": self._began.isoformat()})
        sums: Counter[str] = Counter()
        for row in answer.named_rows:
            sums[row["currency"]] += row["minor"]
        return sums, sum(row["captures"] for row in answer.named_rows), answer.evidence

    def _numbers(self) -> Numbers | None:
        for child in self._stack.processes:
            if child not in self._killed:
                self._scrapes.take(child)
        return self._scrapes.numbers()

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._progress()
            time.sleep(0.05)

    def _progress(self) -> Progress:
        for child in self._stack.processes:
            if child not in self._killed and child.poll() is not None:
                raise LocalServerError(f"{child.name} ended with status {child.poll()}: {child.output()[-500:]}")
        progress = patiently(self._runtime, self._tally.progress)
        self._watch(progress)
        return progress

    def _explain(self, names: list[str]) -> list[Explanation]:
        stories: list[Explanation] = []
        for name in dict.fromkeys(names[:STORIES]):
            with database.transaction(self._runtime.engine) as session, contextlib.suppress(UnknownEntity):
                stories.append(explain_one(session, name))
        return stories

    def _fired(self) -> Counter[str]:
        fired: Counter[str] = Counter()
        for rule in self._standin.faults():
            if rule["fired"]:
                fired[rule["fault"]] += rule["fired"]
        return fired


def _waves(orders: list[Order], invoices: int) -> Iterator[tuple[list[Order], int]]:
    """What is asked in each transaction: a share of the captures, and of the invoices."""
    count = max(1, min(WAVES, len(orders) // LEAST_PER_WAVE))
    for n in range(count):
        share = orders[len(orders) * n // count : len(orders) * (n + 1) // count]
        yield share, invoices * (n + 1) // count - invoices * n // count
