"""Random faults on the real processes, from a printed seed: afterwards nothing is double, lost or stuck.

Every move is among them: captures in full and in parts, voids, refunds, invoices, and webhooks that come twice, in
disorder, or not at all. In the end a reconciliation finds no difference, and `billing prove` no violation.

A short budget runs with the other tests; `make chaos` runs a long one (BILLING_TEST_CHAOS_S, BILLING_TEST_SEED).
Everything is on: metrics, traces (to a collector that is away), shared limits, schedules, and housekeeping among them.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import repeat
from pathlib import Path

from command import in_a_process
from compared import differences, reconcile
from mail_server import MailServer
from mailing import FROM, ask_for_email, certificate, mail, undecided
from service import IN_PARTS, Service, eventually
from sqlalchemy import select, text
from webhooks import send_to, serving

import billing
from billing import database
from billing.idempotency import MAX_ROTATIONS
from billing.learned import Learned
from billing.schedules import BY_NAME, SCHEDULES, Schedule
from billing.states import RunState
from billing.tables.entities import Capture, Invoice, Refund, Void
from billing.tables.idempotency_records import Record
from billing.tables.received_events import ReceivedEvent
from billing.tables.scheduled_runs import ScheduledRun
from jobs.local.server import free_port
from jobs.local.servers import LocalServers
from jobs.local.supervisor import Child
from jobs.road import concluding, ticks

__all__ = ["certificate", "mail"]

CHAOS_S = float(os.environ.get("BILLING_TEST_CHAOS_S", "15"))
SEED = int(os.environ.get("BILLING_TEST_SEED", "20261125"))

NO_REFUND = "/(capture|cancel|customers|payment_intents|invoices|add_lines|finalize|send|pay)$"
"""An error that Stripe keeps of a refund leaves it to a person: it may still be carried out, and no list shows that."""
FAULTS = [
    {"fault": "drop_before", "method": "POST", "probability": 0.03},
    {"fault": "drop_after_commit", "method": "POST", "probability": 0.04},
    {"fault": "500_saved", "method": "POST", "path": NO_REFUND, "probability": 0.02},
    {
        "fault": "500_with_effect",
        "method": "POST",
        "path": "/(capture|cancel|refunds|finalize|pay)$",
        "probability": 0.02,
    },
    {"fault": "429_rate", "probability": 0.03},
    {"fault": "429_lock_saved", "method": "POST", "path": NO_REFUND, "probability": 0.02},
    {"fault": "truncate_body", "probability": 0.02},
    {"fault": "502_html", "probability": 0.02},
    {"fault": "latency_after", "probability": 0.2, "seconds": 0.1},
]


EVERYTHING_ON = {
    "BILLING_METRICS_PORT": "0",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    "BILLING_STRIPE_RATE": "200",
}
INVOICES_EACH = 20
"""As many invoices has a customer; all of one customer's are listed in a look for one of them."""
SCHEDULED = 0.1
"""So often a step of the test also asks for a schedule to run."""


EXPORTS = ("archive", "stripe", "ours")


class Asking:
    """What an application asks for meanwhile, and how each of it must end."""

    def __init__(self, service: Service, rng: random.Random) -> None:
        self._service, self._rng = service, rng
        self._customers = self._customer(service.customer_despite_faults)
        self._payers = self._customer(service.payer_despite_faults)
        self.ends: dict[str, str] = {}
        self.parts: dict[str, list[int]] = {}
        """By payment intent, the parts that are captured of it."""
        self.runs: list[str] = []
        self.of_captures: list[str] = []
        """Invoices of what was captured: they are paid already."""
        self.emails: list[str] = []
        """They end as sent, or it is known that nobody knows."""

    @staticmethod
    def _customer(make: Callable[[], str]) -> Iterator[str]:
        while True:
            yield from repeat(make(), INVOICES_EACH)

    def all_moves(self) -> None:
        service = self._service
        intents = service.intents(self._rng.randint(1, 8))
        self.ends |= {service.ask_for_capture(intent): "captured" for intent in intents}
        self.ends[service.ask_for_invoice(next(self._customers))] = "sent"
        self._invoice_of_capture(service.ask_for_capture(service.intents()[0]))
        charged = service.ask_for_invoice(next(self._payers), collect=billing.ChargeAutomatically())
        self.ends[charged] = "paid"
        self._refund_of_invoice()
        self.ends[service.ask_for_void(*service.intents())] = "voided"
        self._two_parts()
        self._refund()
        self.emails.append(ask_for_email(service, next(self._customers)))
        if not self.runs or self._rng.random() < SCHEDULED:
            self.run(self._rng.choice(SCHEDULES))

    def _invoice_of_capture(self, capture: str) -> None:
        """It waits until the capture is over, and asks nobody for money."""
        invoice = self._service.ask_for_invoice_of_capture(capture, next(self._customers))
        self.of_captures.append(invoice)
        self.ends |= {capture: "captured", invoice: "paid"}

    def run(self, schedule: Schedule) -> None:
        with database.transaction(self._service.engines["operator"]) as session:
            self.runs.append(ticks.ask_for(session, schedule, actor="chaos").id)

    def _two_parts(self) -> None:
        intent = self._service.by_hand_despite_faults("/v1/payment_intents", f"amount=1999&{IN_PARTS}")
        self.parts[intent] = [700, 1000]
        self.ends[self._service.ask_for_capture(intent, 700, remainder="keep")] = "captured"
        self.ends[self._service.ask_for_capture(intent, 1000)] = "captured"

    def _refund(self) -> None:
        """Of a capture that is over, if there is one of which nothing was given back yet."""
        left = select(Capture.id).where(Capture.state == "captured", Capture.refunds_minor == 0)
        with database.transaction(self._service.engine) as session:
            captures = session.scalars(left.order_by(Capture.id).limit(20)).all()
        if captures:
            self.ends[self._service.ask_for_refund(self._rng.choice(captures))] = "succeeded"

    def _refund_of_invoice(self) -> None:
        """Of one that was charged, if there is one of which nothing was given back yet."""
        with database.transaction(self._service.engine) as session:
            left = select(Invoice.id).where(Invoice.state == "paid", Invoice.id.in_(self.charged()))
            left = left.where(Invoice.id.not_in(select(Refund.invoice_id).where(Refund.invoice_id.is_not(None))))
            invoice = session.scalars(left.order_by(Invoice.id).limit(1)).one_or_none()
        if invoice:
            self.ends[self._service.ask_for_refund_of_invoice(invoice)] = "succeeded"

    def of(self, kind: str) -> list[str]:
        return [each for each in self.ends if each.startswith(f"{kind}_")]

    def charged(self) -> list[str]:
        return [each for each in self.of("inv") if self.ends[each] == "paid" and each not in self.of_captures]


class Processes:
    """Those of the service, each of which may be killed and started again."""

    def __init__(self, spawn: Callable[..., Child], roles: Mapping[tuple[str, ...], dict[str, str]]) -> None:
        self._spawn, self._roles = spawn, roles
        self.running = {role: spawn(*role, **settings) for role, settings in roles.items()}

    def kill(self, *role: str) -> None:
        self.running[role].kill()
        self.running[role] = self._spawn(*role, **self._roles[role])

    def ended(self) -> list[Child]:
        return [child for child in self.running.values() if child.poll() is not None]


def test_random_faults_leave_nothing_double_lost_or_stuck(
    service: Service, spawn: Callable[..., Child], template: LocalServers, made: str, tmp_path: Path, mail: MailServer
) -> None:
    """[4, 21, 22, 23, 24, 54, 55, 71]"""
    rng = random.Random(SEED)
    print(f"seed {SEED}, {CHAOS_S:g} s")
    web = ("serve", "--port", str(free_port()))
    workers = [("worker", queue) for queue in ("captures", "refunds", "invoices", "maintenance")]
    mailing = {**EVERYTHING_ON, "BILLING_EMAIL_SERVER": mail.url, "BILLING_EMAIL_FROM": FROM}
    roles = {**dict.fromkeys([("relay",), *workers], EVERYTHING_ON), ("worker", "emails"): mailing}
    processes = Processes(spawn, {**roles, web: serving(tmp_path)})
    send_to(service, processes.running[web], tmp_path)
    service.standin.set_webhooks(seed=SEED, duplicates={"every": 2}, twins={"every": 5}, shuffle_s=2)
    service.standin.add_faults([{**fault, "seed": rng.randrange(2**31)} for fault in FAULTS])

    def cut_postgres() -> None:
        with database.transaction(service.engine) as session:
            session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        # The test's own are cut with them, and know it only once they are used.
        for engine in service.engines.values():
            engine.dispose()

    kinds: dict[str, Callable[[], object]] = {
        "kill a captures worker": lambda: processes.kill("worker", "captures"),
        "kill a refunds worker": lambda: processes.kill("worker", "refunds"),
        "kill an invoices worker": lambda: processes.kill("worker", "invoices"),
        "kill an emails worker": lambda: processes.kill("worker", "emails"),
        "kill the relay": lambda: processes.kill("relay"),
        "kill what takes webhooks": lambda: processes.kill(*web),
        "flush Redis": service.redis.flushall,
        "cut every connection to Postgres": cut_postgres,
        "kill Redis": lambda: (template.valkey.kill(), template.valkey.restart()),
    }
    asking, faults = Asking(service, rng), Counter[str]()
    end = time.monotonic() + CHAOS_S
    while time.monotonic() < end:
        asking.all_moves()
        name = rng.choice(sorted(kinds))
        kinds[name]()
        faults[name] += 1
        pause = time.monotonic() + rng.uniform(0.2, 0.8)
        eventually(lambda until=pause: time.monotonic() > until, "the next fault")
    service.standin.clear_faults()
    _everything_ends(service, processes, asking)
    _emails_end(service, mail, asking.emails)
    print(f"{dict(Counter(each.partition('_')[0] for each in asking.ends))}, {len(asking.runs)} scheduled runs")
    print(f"{faults.total()} faults: {dict(faults)}")
    _compare_effects(service, asking)
    reconcile(service)
    found = [(each.kind, each.subject, each.what) for each in differences(service)]
    assert found == [], found
    _prove(service, tmp_path)


def _everything_ends(service: Service, processes: Processes, asking: Asking) -> None:
    settled = set[str]()

    def wait_for(ends: Mapping[str, str]) -> None:
        """However much is left on a busy machine, it goes on: stuck is what makes no progress."""
        waiting = set(ends)
        while waiting:
            eventually(
                lambda: _take_out(service, waiting, ends) or _settle_by_hand(service, settled),
                lambda: (
                    f"of {len(waiting)} that are left one more ends: {service.how_they_stand(waiting)};"
                    f" ended by themselves: {processes.ended()}"
                ),
            )

    wait_for(asking.ends)
    print(f"{len(settled)} calls met a fault with each of their keys, and were made by hand")
    # What Stripe alone tells: of some invoices by webhooks, and of those whose webhooks are lost by its list of events.
    invoices = [each for each in asking.of("inv") if asking.ends[each] == "sent"]
    told, lost = invoices[::2], invoices[1::2]
    _pay(service, told)
    wait_for(dict.fromkeys(told, "paid"))
    service.standin.set_webhooks(outage=True)
    _pay(service, lost)
    asking.run(BY_NAME["sweep_events"])
    wait_for(dict.fromkeys(lost, "paid"))
    assert _sources(service) == {"webhook", "sweep"}
    runs = set(asking.runs)
    while runs:  # one after the other, and one that reads much at Stripe takes twenty seconds
        eventually(lambda: _take_out_runs(service, runs), f"one more run of {len(runs)} is over")


def _emails_end(service: Service, mail: MailServer, emails: Iterable[str]) -> None:
    """Each came once, or it is recorded that nobody knows, and then a person reads the server's log."""
    waiting, unknown = set(emails), set[str]()

    def one_more() -> bool:
        for each in waiting.intersection(undecided(service)) - unknown:
            # Not while its call may still be under way.
            with suppress(billing.InvalidRequest), database.transaction(service.engines["operator"]) as session:
                came = len(mail.of(each)) == 1
                concluding.conclude(session, each, actor="anna", reason="the server's log", it_happened=came)
                unknown.add(each)
        over = {each for each in waiting if service.status(each).final}
        waiting.difference_update(over)
        return bool(over)

    while waiting:
        eventually(one_more, lambda: f"one more e-mail of {len(waiting)} ends: {service.how_they_stand(waiting)}")
    ended = {each: (service.status(each).state, len(mail.of(each))) for each in emails}
    assert set(ended.values()) <= {("sent", 1), ("refused", 0)}, ended
    assert {each for each, (state, _) in ended.items() if state == "refused"} <= unknown
    print(f"{len(ended)} e-mails, of which {len(unknown)} were in doubt")


def _sources(service: Service) -> set[str]:
    with database.transaction(service.engine) as session:
        return set(session.scalars(select(ReceivedEvent.source)))


def _take_out(service: Service, waiting: set[str], ends: Mapping[str, str]) -> bool:
    """Take out those that have ended, each as it must. An invoice that was sent may still be paid."""
    found = {status.id: status.state for status in map(service.status, waiting) if status.final}
    over = {each for each, state in found.items() if state == ends[each]}
    assert {found[each] for each in found.keys() - over} <= {"sent"}, found
    waiting.difference_update(over)
    return bool(over)


def _settle_by_hand(service: Service, settled: set[str]) -> bool:
    """Faults may use up all keys of a call. Then nothing of it happened, and a person does it in Stripe's dashboard, as
    docs/operate/in-doubt-grows.md says: the webhook of that, or the next look, ends the operation."""
    given_up = (
        select(Record)
        .where(Record.concluded_at.is_(None), Record.parked_at.is_not(None), Record.learned == Learned.ABSENT)
        .where(Record.look_only, Record.id.not_in(settled))
    )
    with database.transaction(service.engine) as session:
        found = session.scalars(given_up).all()
        earlier = Counter(
            session.scalars(select(Record.operation_id + Record.step).where(Record.conclusion.is_not(None)))
        )
    for record in found:
        assert earlier[record.operation_id + record.step] == MAX_ROTATIONS, record.id
        service.by_hand(record.path, record.body, record.method)
        settled.add(record.id)
    return bool(found)


def _take_out_runs(service: Service, runs: set[str]) -> bool:
    over = {run for run in runs if service.row(ScheduledRun, run).state == RunState.DONE}
    runs.difference_update(over)
    return bool(over)


def _pay(service: Service, invoices: Iterable[str]) -> None:
    """As their customers do, after they were sent."""
    for invoice in invoices:
        at_stripe = service.row(Invoice, invoice).stripe_invoice
        service.by_hand(f"/v1/invoices/{at_stripe}/pay", "paid_out_of_band=true")


def _compare_effects(service: Service, asking: Asking) -> None:
    """Each thing that was asked for has one effect, and nothing else has any."""
    taken = Counter((effect["id"], effect["amount"]) for effect in service.effects("capture"))
    with database.transaction(service.engine) as session:
        intents = session.scalars(select(Capture.payment_intent).where(Capture.id.in_(asking.of("cap")))).all()
        voided = session.scalars(select(Void.payment_intent).where(Void.id.in_(asking.of("void")))).all()
    in_full = [(intent, 1999) for intent in intents if intent not in asking.parts]
    in_parts = [(intent, amount) for intent, amounts in asking.parts.items() for amount in amounts]
    charged = _charged(service)
    assert len(charged) == len(asking.charged())
    assert taken == Counter([*in_full, *in_parts, *charged])
    canceled = Counter(effect["id"] for effect in service.effects("payment_intent.canceled"))
    # Stripe itself cancels the intent of an invoice that is paid otherwise.
    assert {each: canceled[each] for each in (*intents, *voided) if each in canceled} == dict.fromkeys(voided, 1)
    given_back = Counter(effect["metadata"].get("billing_operation") for effect in service.effects("refund"))
    assert given_back == Counter(asking.of("ref"))
    finalized = Counter(effect["id"] for effect in service.effects("invoice.finalized"))
    assert len(finalized) == len(asking.of("inv"))
    assert set(finalized.values()) <= {1}


def _charged(service: Service) -> list[tuple[str, int]]:
    """What was charged for invoices: each payment intent, and its amount."""
    payments = service.read_list("/v1/invoice_payments", status="paid")
    paid = [(each["payment"].get("payment_intent"), each["amount_paid"]) for each in payments]
    return [(str(intent), amount) for intent, amount in paid if intent is not None]


def _prove(service: Service, directory: Path) -> None:
    for table in ("captures", "invoices", "refunds"):
        # What has just ended would be too young to be compared.
        service.execute(f"UPDATE billing.{table} SET state_since = state_since - interval '10 minutes'")
    assert in_a_process(["archive", "run", "--once"]).status == 0
    files = [str(directory / f"{name}.jsonl") for name in EXPORTS]
    for name, file in zip(EXPORTS, files, strict=True):
        assert in_a_process(["export", name, file]).status == 0
    proof = in_a_process(["prove", *files])
    assert proof.status == 0, proof.out
    print(proof.out)
